"""Caltech-UCSD Birds 200-2011 as published: five lists by image number, one class and one box an image.

images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt and classes.txt, pictures in images/.
"""

from collections.abc import Mapping
from pathlib import Path

from data.images import readable
from data.parsing import check_box, class_index, numbered_lines, numbers
from data.records import Box, Description, Problem, Split, make_record
from utils.errors import UserError

PARTS = {"test": "0", "train": "1"}  # in train_test_split.txt
HINT = "add the published file, or correct `path:`"
Column = dict[str, tuple[str, str]]
"""Number of the image → the rest of its line, and file:line."""


def read_cub(description: Description, split: str) -> Split:
    """Read `train` or `test`: the images of train_test_split.txt with their class and box.

    An image whose box is missing or damaged stays, with its class and without the box.

    Raises:
        UserError: another split, no such list, an image without class, or a class outside `names`.
    """
    part, root = description.split(split), description.root
    if part not in PARTS:
        what = f"its parts are {' and '.join(PARTS)}, not `{part}`"
        raise UserError(what, where=description.yaml, hint=f"correct `{split}:`")
    named = column(root / "images.txt")
    own = [number for number, (which, _) in column(root / "train_test_split.txt").items() if which == PARTS[part]]
    classes, boxes = column(root / "image_class_labels.txt"), column(root / "bounding_boxes.txt")
    titles = column(root / "classes.txt")
    problems = [Problem(str(root / "images.txt"), f"no image {one}", HINT) for one in own if one not in named]
    known = [number for number in own if number in named]
    records, paths = [], [root / "images" / named[number][0] for number in known]
    for number, path, size in zip(known, paths, readable(paths, problems), strict=True):
        if size is None:
            continue
        label, where = entry(classes, number, root / "image_class_labels.txt")
        index = class_index(entry(titles, label, root / "classes.txt")[0], description.names, where)
        box = read_box(boxes.get(number), size)
        if isinstance(box, str):
            where = boxes[number][1] if number in boxes else str(root / "bounding_boxes.txt")
            problems.append(Problem(where, box, "correct the box; the image is kept for classification"))
        found = [] if isinstance(box, str) else [box]
        records.append(make_record(path, size, found, [index] * len(found), classes=[index]))
    return Split(split, description, records, problems)


def cub_names(root: Path, train: str) -> list[str]:
    """The classes in the order of their numbers."""
    return [name for name, _ in column(root / "classes.txt").values()]


def column(path: Path) -> Column:
    """A list by number.

    Raises:
        UserError: it is missing, or a line has a number alone.
    """
    found: Column = {}
    for line, text in numbered_lines(path, HINT):
        number, *rest = text.split(maxsplit=1)
        if not rest:
            raise UserError(f"`{text[:80]}` has a number and no name", where=f"{path}:{line}", hint=HINT)
        found[number] = rest[0], f"{path}:{line}"
    return found


def entry(own: Mapping[str, tuple[str, str]], number: str, path: Path) -> tuple[str, str]:
    """A line of a list.

    Raises:
        UserError: it has no such number.
    """
    if number not in own:
        raise UserError(f"nothing for number {number}", where=path, hint=HINT)
    return own[number]


def read_box(line: tuple[str, str] | None, size_hw: tuple[int, int]) -> Box | str:
    """The half-open box of x, y, width and height in pixels, or what is wrong with it."""
    if line is None:
        return "no box"
    cells = numbers(line[0].split())
    if cells is None:
        return f"box of `{line[0][:80]}` instead of four numbers"
    x, y, width, height = cells
    return check_box((x, y, x + width, y + height), size_hw)
