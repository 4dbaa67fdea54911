"""What readers of data formats demand of images, boxes and class names."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.records import Problem, check_images
from utils.errors import UserError

Box = tuple[float, float, float, float]
MANY_MISSING = 10  # missing images above which one problem counts them all: a part of a large set was fetched


def readable(paths: Sequence[Path], problems: list[Problem]) -> list[tuple[int, int] | None]:
    """Height and width of each image; None for the missing and the damaged ones, which go to problems."""
    missing = {path for path in paths if not path.exists()}
    problems += missing_images([path for path in paths if path in missing])
    found: dict[Path, tuple[int, int]] = {}
    present = [path for path in paths if path not in missing]
    for path, size in zip(present, check_images(present), strict=True):
        if isinstance(size, Problem):
            problems.append(size)
        else:
            found[path] = size
    return [found.get(path) for path in paths]


def missing_images(paths: Sequence[Path]) -> list[Problem]:
    """A problem for each missing image, or one that counts them where they are many."""
    mend = "add it, or take its name off the list"
    if len(paths) <= MANY_MISSING:
        return [Problem(str(path), "the image does not exist", mend) for path in paths]
    what = f"{len(paths)} images do not exist, the first is {paths[0].name}"
    return [Problem(str(paths[0].parent), what, "add them, or take their names off the list")]


def check_box(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> Box | str:
    """A half-open box in pixels, clipped to the image, or what is wrong with it."""
    x1, y1, x2, y2 = box_xyxy
    shown = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    if not all(map(math.isfinite, box_xyxy)) or x2 <= x1 or y2 <= y1:
        return f"box of zero size {shown}"
    height, width = size_hw
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[2] <= box[0] or box[3] <= box[1]:
        return f"box {shown} outside the image of {width}×{height}"
    return box


def check_inclusive(corners: Sequence[float], first: int, size_hw: tuple[int, int]) -> Box | str:
    """The half-open box of corner pixels that both belong to it, or what is wrong with it.

    Equal corners would be a box one pixel wide; where they occur, objects were cut off at the border of the image,
    so they count as a box of no size.

    Args:
        corners: xmin, ymin, xmax, ymax.
        first: number of the first pixel: 0, or VOC's 1.
    """
    xmin, ymin, xmax, ymax = corners
    if xmax <= xmin or ymax <= ymin:
        return f"box of zero size ({xmin:g}, {ymin:g}, {xmax:g}, {ymax:g})"
    return check_box((xmin - first, ymin - first, xmax - first + 1, ymax - first + 1), size_hw)


def numbers(values: Iterable[object]) -> tuple[float, ...] | None:
    """Four values as floats; None where they are not four numbers."""
    try:
        found = tuple(float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if len(found) == 4 else None


def class_index(name: str, names: list[str], where: str) -> int:
    """Index of a class.

    Raises:
        UserError: the class is not among names.
    """
    if name not in names:
        raise UserError(
            f"label `{name}` is not in `names`", where=where, mend=f"add it to the data yaml: {', '.join(names)}"
        )
    return names.index(name)


def numbered_lines(path: Path, mend: str) -> list[tuple[int, str]]:
    """Lines of a text file that hold something, with their number in the file from 1.

    Raises:
        UserError: the file is missing or no text.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, mend=mend) from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_lines(path: Path, mend: str) -> list[str]:
    """Lines of a text file that hold something.

    Raises:
        UserError: the file is missing or no text.
    """
    return [line for _, line in numbered_lines(path, mend)]
