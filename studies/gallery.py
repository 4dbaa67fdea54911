"""Detections of several methods on the same images, side by side (figure 10 of the paper)."""

from pathlib import Path

import numpy as np

from data.description import load_description
from data.formats import read_split
from data.images import record_rgb
from models import load_detector
from studies.recipe import Study
from studies.runs import State, run_folder, state
from studies.sections import Gallery, Table
from utils.draw import draw_detections, draw_truth, save_page
from utils.runs import BEST

SEED = 0  # of the choice of images


def save_gallery(study: Study, table: Table, gallery: Gallery, path: Path) -> None:
    """A row an image: the true boxes, then what each method's run of the first seed finds; nothing before all are done.

    The images are drawn at random, with a fixed seed, from those with boxes.
    """
    seed = study.settings.seeds[0]
    cells = {cell.method: cell for cell in study.cells if cell.seed == seed and cell.method in gallery.methods}
    if any(state(study, cell) is not State.DONE for cell in cells.values()):
        return
    if not all((run_folder(study, cell) / BEST).exists() for cell in cells.values()):
        return  # published elsewhere: their networks are not on this machine
    description = load_description(next(iter(cells.values())).recipe.data)
    records = [record for record in read_split(description, table.split).records if len(record.boxes_xyxy)]
    count = min(gallery.images, len(records))
    chosen = [records[index] for index in np.random.default_rng(SEED).choice(len(records), count, replace=False)]
    images = [record_rgb(record) for record in chosen]
    columns = [[draw_truth(i, r.boxes_xyxy, r.labels, description.names) for i, r in zip(images, chosen, strict=True)]]
    for method in gallery.methods:
        found = load_detector(run_folder(study, cells[method]) / BEST).predict(images)
        columns.append([draw_detections(i, f, description.names) for i, f in zip(images, found, strict=True)])
    rows = [picture for row in zip(*columns, strict=True) for picture in row]
    save_page(rows, path, ("true", *gallery.methods), columns=len(columns))
