"""What readers of data formats demand of boxes, class names and lists."""

import codecs
import csv
import math
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from data.listing import alike
from data.records import Box
from utils.errors import UserError
from utils.paths import is_file

ROUNDING = 1.0  # pixels that a box may reach out of its image without a word
LONGEST = 256 * 2**20  # bytes of a text file
BOM = "\ufeff"
MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
UNMARKED = {(False, True): "utf-16-le", (True, False): "utf-16-be"}  # by where the first two bytes are zero


class Unquoted(csv.excel_tab):
    """A tsv as in BIDS: quotes in it are signs like any other."""

    quoting = csv.QUOTE_NONE


def check_box(box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> Box | str:
    """A half-open box in pixels, clipped to the image, or what is wrong with it."""
    x1, y1, x2, y2 = box_xyxy
    shown = f"({x1:g}, {y1:g}, {x2:g}, {y2:g})"
    if not all(map(math.isfinite, box_xyxy)):
        return f"box with a number that is not finite {shown}"
    if x2 <= x1 or y2 <= y1:
        return f"box of zero size {shown}"
    height, width = size_hw
    inside = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return f"box {shown} outside the image of {width}×{height}"
    return Box(*inside, clipped=max(abs(a - b) for a, b in zip(inside, box_xyxy, strict=True)) > ROUNDING)


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


def numbers(values: Iterable[object], count: int = 4) -> tuple[float, ...] | None:
    """So many values as floats; None where they are not so many numbers."""
    try:
        found = tuple(float(value) for value in values)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count else None


def class_index(name: str, names: list[str], where: str) -> int:
    """Index of a class; where it is written with other capitals, or composed differently, of the one that it can be.

    Raises:
        UserError: the class is not among names.
    """
    if name in names:
        return names.index(name)
    same = [index for index, own in enumerate(names) if alike(own) == alike(name)]
    if len(same) != 1:
        what = f"label `{name[:80]}` is not in `names`"
        raise UserError(what, where=where, hint=f"give one of these, or add it to the data yaml: {', '.join(names)}")
    return same[0]


def decoded(content: bytes) -> str:
    """Text in UTF-8, or in UTF-16 as Windows writes it, without the mark at its beginning.

    Raises:
        UnicodeDecodeError: it is in neither.
    """
    by_mark = (encoding for mark, encoding in MARKS.items() if content.startswith(mark))
    unmarked = UNMARKED.get((content[0] == 0, content[1] == 0), "utf-8") if len(content) > 1 else "utf-8"
    encoding = next(by_mark, unmarked)
    return content.decode(encoding).replace(BOM, "")


def read_text(path: Path, most: int = LONGEST) -> str:
    """A text file.

    Args:
        most: bytes that it may have.

    Raises:
        OSError: missing, no file, or of a size that no list and no label file has.
        UnicodeDecodeError: no text.
    """
    if not is_file(path):  # a pipe would be waited for
        raise FileNotFoundError(path)
    if path.stat().st_size > most:
        raise OSError(f"more than {most // 2**20} MiB")
    return decoded(path.read_bytes())


def read_table(path: Path, what: str, hint: str) -> tuple[list[str], list[tuple[str, dict[str, str]]]]:
    """Names of the columns, and file:line and cells of each row, of a csv, or of a tsv, in which nothing is quoted.

    Cells that a short row lacks are empty.

    Args:
        what: what the file should be, as in `csv of boxes`.

    Raises:
        UserError: missing, no text, or no table.
    """
    try:
        lines = read_text(path).splitlines()
        dialect = Unquoted if lines and "\t" in lines[0] else csv.excel
        rows = csv.DictReader(lines, restval="", dialect=dialect, skipinitialspace=True, strict=True)
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        found = [(f"{path}:{rows.line_num}", {key: row[key].strip() for key in rows.fieldnames}) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"is not a {what} ({type(error).__name__})", where=path, hint=hint) from error
    return list(rows.fieldnames), found


def as_place(name: str) -> str:
    """How a table names an image, with slashes, and letters composed in one way (NFC)."""
    return unicodedata.normalize("NFC", name.replace("\\", "/").removeprefix("./"))


def numbered_lines(path: Path, hint: str) -> list[tuple[int, str]]:
    """Lines of a text file that hold something, with their number in the file from 1.

    Raises:
        UserError: the file is missing or no text.
    """
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise UserError("cannot be read: no text in UTF-8", where=path, hint="save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise UserError("cannot be read", where=path, hint=hint) from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def read_lines(path: Path, hint: str) -> list[str]:
    """Lines of a text file that hold something.

    Raises:
        UserError: the file is missing or no text.
    """
    return [line for _, line in numbered_lines(path, hint)]
