"""Class folders with a csv of boxes: image, x1, y1, x2, y2 in pixels, half-open, in any order of the columns."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.folder import read_folder
from data.listing import Folders
from data.parsing import as_place, check_box, numbers, read_table
from data.records import Box, Description, Notice, Problem, Record, Split
from utils.errors import UserError

DEFAULT = "boxes.csv"
CORNERS = ("x1", "y1", "x2", "y2")
COLUMNS = ("image", *CORNERS)
Rows = dict[str, list[tuple[list[str], str]]]
"""Path of an image below the root → cells of its boxes, and file:line."""


def read_folder_boxes(description: Description, split: str) -> Split:
    """Read one split; images without a row have their class and no box.

    Raises:
        UserError: as for class folders; no csv, or one that names no file that exists.
    """
    path = description.labels or description.root / DEFAULT
    rows, own = rows_of(path), read_folder(description, split)
    named = {name_below(record.image, description.root): record for record in own.records}
    folders = Folders()
    rows, lost = as_on_disk(rows, description.root, folders)
    if lost and len(lost) == len(rows) and named and not rows.keys() & named.keys():
        what = f"none of its {len(rows)} images exists, such as {lost[0][:80]}"
        hint = f"name images from `path:` on, as in {next(iter(named))[:80]}"
        raise UserError(what, where=path, hint=hint)
    problems, records = list(own.problems), []
    for name, record in named.items():
        boxes = [box_of(cells, record.size_hw) for cells, _ in rows.get(name, ())]
        places = [where for _, where in rows.get(name, ())]
        hint = "correct the box; the image is kept for classification"
        problems += [Problem(at, box, hint) for box, at in zip(boxes, places, strict=True) if isinstance(box, str)]
        records.append(with_boxes(record, [box for box in boxes if isinstance(box, Box)]))
    notices = [
        Notice(f"images have no row in {path.name}", [name for name in named if name not in rows]),
        Notice(f"images of {path.name} do not exist", [name or "a row without a name" for name in lost]),
    ]
    notices = [*own.notices, *(notice for notice in notices if notice.places)]
    return replace(own, records=records, problems=problems, notices=notices)


def as_on_disk(rows: Rows, root: Path, folders: Folders) -> tuple[Rows, list[str]]:
    """Rows by the names that their images have on disk, in whatever capitals the csv has them; names of no image."""
    found: Rows = defaultdict(list)
    lost = []
    for name, own in rows.items():
        path = folders.find(root / name) if name else None
        if path is None:
            lost.append(name)
        found[name if path is None else name_below(path, root)] += own
    return found, lost


def name_below(path: Path, root: Path) -> str:
    """How a csv names an image: from the root on, whatever links lead there; its whole path where it is elsewhere."""
    below = path if path.is_relative_to(root) else path.resolve()
    return as_place(below.relative_to(root).as_posix() if below.is_relative_to(root) else str(path))


def rows_of(path: Path) -> Rows:
    """The boxes in a csv.

    Raises:
        UserError: missing, no text, or without the columns.
    """
    header, rows = read_table(path, "csv of boxes", "add it, or name it by `labels:` in the data yaml")
    if missing := [name for name in COLUMNS if name not in header]:
        what = f"no column {' and '.join(missing)}"
        raise UserError(what, where=path, hint=f"begin it with the line {','.join(COLUMNS)}")
    found: Rows = defaultdict(list)
    for where, row in rows:
        found[as_place(row["image"])].append(([row[name] for name in CORNERS], where))
    return dict(found)


def box_of(cells: list[str], size_hw: tuple[int, int]) -> Box | str:
    """The box in a row, or what is wrong with it."""
    corners = numbers(cells)
    return check_box(corners, size_hw) if corners else f"box of {cells} instead of four numbers"


def with_boxes(record: Record, boxes: list[Box]) -> Record:
    """The image with boxes of its class."""
    assert record.classes is not None
    return replace(
        record,
        boxes_xyxy=np.array([box[:4] for box in boxes], np.float32).reshape(-1, 4),
        labels=np.repeat(record.classes, len(boxes)),
        difficult=np.zeros(len(boxes), bool),
        clipped=sum(box.clipped for box in boxes),
    )
