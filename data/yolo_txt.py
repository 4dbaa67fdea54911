"""YOLO: one txt file for each image, `class cx cy w h` a line, in shares of the image's size."""

from pathlib import Path

from data.images import images_below, readable
from data.parsing import check_box, numbered_lines, numbers, read_lines
from data.records import EVERYTHING, Box, Description, Problem, Record, Split, make_record
from utils.errors import UserError

MEND = "correct the line, or delete it"
TRIED = 3  # paths that the message names when there are no labels at all


def read_yolo(description: Description, split: str) -> Split:
    """Read one split: a folder of images, or a list of them. An image without txt file has no boxes.

    The labels of `…/images/…/a.jpg` are `…/labels/…/a.txt`; where no folder is called `images`, `a.txt` beside it.
    `labels:` in the data yaml names another folder, which is laid out as that of the images.

    Raises:
        UserError: no images, not one txt file, or a class outside `names`.
    """
    images = split_images(description, split)
    labels = [label_file(image, description) for image in images]
    if images and not any(path.is_file() for path in labels):
        tried = ", ".join(map(str, labels[:TRIED]))
        mend = "put them there, or name their folder with `labels:`"
        raise UserError(f"no labels for `{split}`, looked for {tried}", where=description.yaml, mend=mend)
    records: list[Record] = []
    problems: list[Problem] = []
    for image, path, size in zip(images, labels, readable(images, problems), strict=True):
        if size is not None:
            records.append(read_labels(path, image, size, description.names, problems))
    return Split(split, description, records, problems)


def split_images(description: Description, split: str) -> list[Path]:
    """Images of a split: all below a folder, or those on a list, relative to the root or, with ./, to the list.

    Raises:
        UserError: neither is there.
    """
    value = description.split(split)
    place = description.images or description.root if value == EVERYTHING else description.root / value
    if place.is_dir():
        return images_below(place)
    lines = read_lines(place, f"correct `{split}:` in {description.yaml}: a folder of images, or a list of them")
    return [(place.parent if line.startswith("./") else description.root) / line for line in lines]


def label_file(image: Path, description: Description) -> Path:
    """Where the labels of an image are looked for."""
    root = description.root
    if description.labels is not None:
        home = description.images or root
        inside = image.relative_to(home) if image.is_relative_to(home) else Path(image.name)
        return (description.labels / inside).with_suffix(".txt")
    parts = list(image.relative_to(root).parts if image.is_relative_to(root) else image.parts)
    folders = [index for index, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def read_labels(path: Path, image: Path, size_hw: tuple[int, int], names: list[str], problems: list[Problem]) -> Record:
    """Boxes of one txt file, none where there is no such file; appends to problems what is left out."""
    boxes, labels = [], []
    for number, line in numbered_lines(path, "write it as text") if path.is_file() else ():
        where = f"{path}:{number}"
        label, box = read_line(line, size_hw)
        if isinstance(box, str):
            problems.append(Problem(where, box, MEND))
            continue
        if not 0 <= label < len(names):
            what = f"class {label}, but there are {len(names)}: 0 to {len(names) - 1}"
            raise UserError(what, where=where, mend="correct the line, or `names:` in the data yaml")
        boxes.append(box)
        labels.append(label)
    return make_record(image, size_hw, boxes, labels)


def read_line(line: str, size_hw: tuple[int, int]) -> tuple[int, Box | str]:
    """Class, and box or what is wrong with it; of a polygon, the box around its points."""
    first, *cells = line.split()
    height, width = size_hw
    given = numbers(cells, 4) if len(cells) == 4 else numbers(cells, len(cells))
    if given is None or not first.removeprefix("-").isdecimal() or len(cells) < 4 or len(cells) % 2:
        return -1, f"`{line[:40]}` instead of `class cx cy w h`, or a class and the points of a polygon"
    if len(cells) == 4:
        cx, cy, w, h = given
        corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
        if max(given) > 2:  # a centre or a size of more than twice the image: pixels, not shares
            return -1, f"`{line[:40]}` is in pixels, not in shares of the image"
    else:
        xs, ys = given[::2], given[1::2]
        corners = (min(xs), min(ys), max(xs), max(ys))
    return int(first), check_box(
        [side * scale for side, scale in zip(corners, (width, height) * 2, strict=True)], size_hw
    )
