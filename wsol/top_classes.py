"""The likeliest classes of pictures, with a map of each (arXiv 1512.04150, figure 4).

`python -m wsol.top_classes --weights FILE --source PICTURE… --pictures maps.jpg` prints the classes of each picture and
draws a row for it: the picture, and beside it what the network looks at for each of its classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.images import images_below, readable
from data.records import Problem, Record, make_record
from evaluation.classifier import load_classifier
from maps.kinds import MAPS, Explained, is_mapped
from maps.networks import load_explained
from maps.overlay import overlaid, picture
from maps.plan import Plan
from models.classified import Classified
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from utils.flags import positive
from utils.parser import Parser
from wsol.features import add_imgsz, add_outputs, files_of, parsed, plan_of_pictures

TOP, SHOWN = 5, 8  # classes, and pictures that are drawn


def read_pictures(paths: Sequence[Path]) -> list[Record]:
    """Readable pictures of files and folders; prints a line for each that is left out.

    Raises:
        UserError: there is none, or none can be read.
    """
    files = [file for path in paths for file in (images_below(path) if path.is_dir() else [path])]
    if not files:
        raise UserError("no picture there", where=paths[0], hint="give pictures, or a folder with some")
    problems: list[Problem] = []
    sizes = readable(files, problems)
    if not any(sizes):
        raise problems[0].error()
    for problem in problems:
        print(f"left out {problem.where}: {problem.what}")
    return [make_record(file, size) for file, size in zip(files, sizes, strict=True) if size]


def classified(plan: Plan, top: int) -> Iterator[Classified]:
    """The likeliest classes of each picture of a plan, as its first network is shown them."""
    file, levels = plan.files[0], plan.split.description.levels
    classifier = replace(load_classifier(file.path, plan.device), view=file.view, levels=levels)
    return classifier.stream([record.image for record in plan.split.records], top=top)


def maps_of(network: Explained, kind: str, image: Tensor, labels: Tensor) -> np.ndarray:
    """[classes, H, W] of one image [3, H, W], a map of each of some classes."""
    images = image[None].repeat(len(labels), 1, 1, 1)
    found = MAPS[kind].make(network, images, labels.to(images.device))[-1]
    return np.asarray(found.at(*image.shape[1:]).maps.float().cpu().numpy())


def row_of(network: Explained, kind: str, image: Tensor, own: Classified) -> list[tuple[np.ndarray, str]]:
    """A picture [3, H, W] and its maps, each with a title."""
    shown = picture(image)
    maps = maps_of(network, kind, image.to(next(network.parameters()).device), torch.tensor(own.labels))
    titles = [f"{name} {score:.2f}" for name, score, _ in own.columns]
    return [(shown, ""), *((overlaid(shown, one), title) for one, title in zip(maps, titles, strict=True))]


def main() -> None:
    """Classify, draw, print."""
    parser = Parser(description="The likeliest classes of pictures, with a map of each.")
    parser.add_argument("--weights", type=Path, required=True, help="a backbone file")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="pictures, or folders of them")
    parser.add_argument("--top", type=positive, default=TOP, help=f"classes of each [{TOP}]")
    parser.add_argument("--maps", choices=list(MAPS), help="kind of maps [cam where the classifier has it, or gradcam]")
    add_imgsz(parser)
    add_outputs(parser, f"the first {SHOWN} pictures and their maps")
    arguments = parsed(parser)
    (file,), records = files_of([arguments.weights], arguments.imgsz), read_pictures(arguments.source)
    plan = plan_of_pictures(file, records, arguments.source[0])
    network = load_explained(file, plan)
    mapped = is_mapped(network.heads[-1])
    kind = arguments.maps or ("cam" if mapped else "gradcam")
    if MAPS[kind].mapped and not mapped:
        hint = "take another kind, or pre-train with --pretrain-head gap"
        raise UserError(f"has `{file.head}` heads, which {kind} cannot explain", where=file.path, hint=hint)
    found, page = {}, list[tuple[np.ndarray, str]]()
    for number, (record, own) in enumerate(zip(plan.split.records, classified(plan, arguments.top), strict=True)):
        found[str(record.image)] = {name: round(score, 4) for name, score, _ in own.columns}
        scores = ", ".join(f"{name} {value:.3f}" for name, value in found[str(record.image)].items())
        print(f"{record.image}: {scores}")
        if arguments.pictures and number < SHOWN:
            page += row_of(network, kind, next(plan.images([record], "pictures")).images[0], own)
    if arguments.pictures:
        pictures, titles = (list(column) for column in zip(*page, strict=True))
        save_page(pictures, arguments.pictures, titles, columns=1 + len(own))
    if arguments.json:
        write_text(arguments.json, json_text(found, indent=1))


if __name__ == "__main__":
    run_cli(main)
