"""The likeliest classes of pictures, with a map of each (arXiv 1512.04150, figure 4).

`python -m wsol.top_classes --weights FILE --source PICTURE… --pictures maps.jpg` prints the classes of each picture and
draws a row for it: the picture, and beside it what the network looks at for each of its classes.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data.images import images_below, readable
from data.records import Problem, Record, make_record
from maps.cases import Cases
from maps.kinds import MAPS, Explained, is_mapped
from maps.networks import load_explained
from maps.overlay import overlaid, picture
from utils.draw import picture_file, save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from utils.flags import positive
from wsol.features import add_imgsz, files_of, plan_of_pictures

TOP, SHOWN = 5, 8  # classes, and pictures that are drawn


@dataclass(frozen=True)
class Likely:
    """The likeliest classes of a picture.

    Attributes:
        labels: [top] indices, the likeliest first.
        values: [top] probabilities; of classes that do not exclude each other, each its own.
    """

    labels: Tensor
    values: Tensor


def read_pictures(paths: Sequence[Path]) -> list[Record]:
    """Pictures of files and folders.

    Raises:
        UserError: there is none, or one cannot be read.
    """
    files = [file for path in paths for file in (images_below(path) if path.is_dir() else [path])]
    if not files:
        raise UserError("no picture there", where=paths[0], hint="give pictures, or a folder with some")
    problems: list[Problem] = []
    sizes = readable(files, problems)
    if problems:
        raise problems[0].error()
    return [make_record(file, size) for file, size in zip(files, sizes, strict=True) if size]


@torch.no_grad()
def likely(network: Explained, images: Tensor, top: int) -> list[Likely]:
    """Of each of some images [B, 3, H, W]."""
    logits = network(images)[-1].cpu()
    values = logits.softmax(1) if network.single_label else logits.sigmoid()
    best = values.topk(min(top, values.shape[1]), dim=1)
    return [Likely(*own) for own in zip(best.indices, best.values, strict=True)]


def maps_of(network: Explained, kind: str, image: Tensor, labels: Tensor) -> np.ndarray:
    """[classes, H, W] of one image [3, H, W], a map of each of some classes."""
    images = image[None].repeat(len(labels), 1, 1, 1)
    found = MAPS[kind].make(network, images, labels.to(images.device))[-1]
    return np.asarray(found.at(*image.shape[1:]).maps.float().cpu().numpy())


def row_of(network: Explained, kind: str, case: Cases, own: Likely, names: Sequence[str], device: str) -> list[tuple[np.ndarray, str]]:  # fmt: skip  # noqa: E501
    """A picture and its maps, each with a title."""
    shown = picture(case.images[0])
    maps = maps_of(network, kind, case.images[0].to(device), own.labels)
    titles = [f"{names[label]} {value:.2f}" for label, value in zip(own.labels.tolist(), own.values, strict=True)]
    return [(shown, ""), *((overlaid(shown, one), title) for one, title in zip(maps, titles, strict=True))]


def main() -> None:
    """Classify, draw, print."""
    parser = argparse.ArgumentParser(description="The likeliest classes of pictures, with a map of each.")
    parser.add_argument("--weights", type=Path, required=True, help="a backbone file")
    parser.add_argument("--source", type=Path, nargs="+", required=True, help="pictures, or folders of them")
    parser.add_argument("--top", type=positive, default=TOP, help=f"classes of each [{TOP}]")
    parser.add_argument("--maps", choices=list(MAPS), help="kind of maps [cam where the classifier has it, or gradcam]")
    add_imgsz(parser)
    parser.add_argument("--json", type=Path, help="write the classes to this file too")
    parser.add_argument("--pictures", type=Path, help=f"draw the first {SHOWN} pictures and their maps to this JPEG")
    arguments = parser.parse_args()
    (file,), records = files_of([arguments.weights], arguments.imgsz), read_pictures(arguments.source)
    plan = plan_of_pictures(file, records, arguments.source[0])
    network = load_explained(file, plan)
    mapped = is_mapped(network.heads[-1])
    kind = arguments.maps or ("cam" if mapped else "gradcam")
    if MAPS[kind].mapped and not mapped:
        hint = "take another kind, or pre-train with --pretrain-head gap"
        raise UserError(f"has `{file.head}` heads, which {kind} cannot explain", where=file.path, hint=hint)
    found, page = {}, list[tuple[np.ndarray, str]]()
    for number, record in enumerate(plan.split.records):
        case = next(plan.images([record], "pictures"))
        (own,) = likely(network, case.images.to(plan.device), arguments.top)
        pairs = zip(own.labels.tolist(), own.values.tolist(), strict=True)
        found[str(record.image)] = {file.names[label]: round(value, 4) for label, value in pairs}
        told = ", ".join(f"{name} {value:.3f}" for name, value in found[str(record.image)].items())
        print(f"{record.image}: {told}")
        if arguments.pictures and number < SHOWN:
            page += row_of(network, kind, case, own, file.names, plan.device)
    if arguments.pictures:
        pictures, titles = (list(column) for column in zip(*page, strict=True))
        save_page(pictures, picture_file(arguments.pictures), titles, columns=1 + len(own.labels))
    if arguments.json:
        write_text(arguments.json, json_text(found, indent=1))


if __name__ == "__main__":
    run_cli(main)
