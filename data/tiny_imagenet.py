"""Tiny ImageNet as published: one class and one box an image; its test split is without labels and not offered."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.images import readable
from data.parsing import check_inclusive, class_index, numbered_lines, numbers, read_lines
from data.records import Box, Description, Problem, Split, make_record
from utils.errors import UserError


@dataclass(frozen=True)
class Row:
    """An image, its class, its box as text (x1 y1 x2 y2, corner pixels from 0, both included), and file:line."""

    image: Path
    wnid: str
    corners: list[str]
    where: str


def read_tiny_imagenet(description: Description, split: str) -> Split:
    """Read one split: train/<wnid>/<wnid>_boxes.txt or val/val_annotations.txt say which images there are.

    An image whose box is damaged stays, with its class and without the box. Where the yaml has `classes`, images of
    other synsets are left out.

    Raises:
        UserError: a split other than train and val, no list of its images, or a class outside `names`.
    """
    rows, problems = list(split_rows(description, split)), list[Problem]()
    if description.classes:
        joined = {wnid for values in description.classes.values() for wnid in values}
        rows = [row for row in rows if row.wnid in joined]
    records = []
    for row, size in zip(rows, readable([row.image for row in rows], problems), strict=True):
        if size is None:
            continue
        index = class_index(named(row.wnid, description), description.names, row.where)
        box = read_box(row, size)
        if isinstance(box, str):
            problems.append(Problem(row.where, box, "correct the box; the image is kept for classification"))
        boxes = [] if isinstance(box, str) else [box]
        records.append(make_record(row.image, size, boxes, [index] * len(boxes), classes=[index]))
    return Split(split, description, records, problems)


def named(wnid: str, description: Description) -> str:
    """The class that a synset belongs to: its own, where the yaml joins none."""
    return next((name for name, values in description.classes.items() if wnid in values), wnid)


def tiny_imagenet_names(root: Path, train: str) -> list[str]:
    """The WordNet ids of wnids.txt in alphabetical order."""
    return sorted(read_lines(root / "wnids.txt", "add it, or give `names:` in the data yaml"))


def split_rows(description: Description, split: str) -> Iterator[Row]:
    """Rows of the published lists."""
    value = description.split(split)
    hint = f"correct `path:` or `{split}:` in {description.yaml}"
    folder = description.root / value
    if value == "val":
        yield from rows_of(folder / "val_annotations.txt", hint)
    elif value == "train":
        lists = sorted(folder.glob("*/*_boxes.txt"))
        if not lists:
            raise UserError("no <wnid>/<wnid>_boxes.txt here", where=folder, hint=hint)
        for path in lists:
            yield from rows_of(path, hint, wnid=path.parent.name)
    else:
        what = f"Tiny ImageNet has labels for `train` and `val`, not for `{value}`"
        raise UserError(what, where=description.yaml, hint=f"correct `{split}:`")


def rows_of(path: Path, hint: str, *, wnid: str | None = None) -> Iterator[Row]:
    """Rows of one list: image name, class unless all are of wnid, corners."""
    for number, line in numbered_lines(path, hint):
        name, *cells = line.split()
        label = wnid or (cells.pop(0) if cells else "")
        yield Row(path.parent / "images" / name, label, cells, f"{path}:{number}")


def read_box(row: Row, size_hw: tuple[int, int]) -> Box | str:
    """The half-open box of a row, or what is wrong with it."""
    corners = numbers(row.corners)
    return check_inclusive(corners, 0, size_hw) if corners else f"box of {row.corners} instead of four numbers"
