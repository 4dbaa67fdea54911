"""NIH ChestX-ray as published: a table of findings, boxes for some of the images, lists of the splits.

Data_Entry_2017*.csv, BBox_List_2017.csv (if there), train_val_list.txt, test_list.txt (or …_list_NIH.txt), and the
images in images/ or images_*/images/. Few images have boxes: for a detector, name lists of boxed images as splits.
"""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data.images import readable
from data.listing import Folders
from data.parsing import check_box, class_index, numbered_lines, numbers
from data.records import Box, Description, Notice, Problem, Record, Split, make_record
from utils.errors import UserError
from utils.paths import is_file

BOXES = "BBox_List_2017.csv"
BOX_SIDE = 1024  # pixels of the square images that the boxes were drawn on
NOTHING = "No Finding"
REPLACE = "replace it by the published file"
OTHER_SPELLING = {"Infiltrate": "Infiltration"}  # of the boxes → of the table
IMAGE, FINDINGS = "Image Index", "Finding Labels"


@dataclass(frozen=True)
class Boxed:
    """A row of the boxes: finding, cells x, y, w, h in pixels of 1024 × 1024, and file:line."""

    finding: str
    cells: list[str]
    where: str


def read_chestxray(description: Description, split: str) -> Split:
    """Read one split: the images on its list, with the table's findings as classes and with their boxes.

    Raises:
        UserError: no table or list, a finding outside `names`, or boxes of other images only.
    """
    root, listing = description.root, published(description.root / description.split(split))
    lines = numbered_lines(listing, f"add it, or correct `{split}:` in {description.yaml}")
    listed = [(number, line.replace("\\", "/").rpartition("/")[2]) for number, line in lines]
    classes = {image: finding_indices(found, description.names, where) for image, found, where in read_table(root)}
    boxes = read_boxes(root)
    if boxes and boxes.keys().isdisjoint(classes):
        what, hint = f"none of its {len(boxes)} images is in the table of findings", "give both of one release"
        raise UserError(what, where=root / BOXES, hint=hint)
    problems = [
        Problem(f"{listing}:{number}", f"`{name}` is not in the table of findings", "take it off the list")
        for number, name in listed
        if name not in classes
    ]
    known = [name for _, name in listed if name in classes]
    paths = find_images(root, known)
    records = []
    for name, path, size in zip(known, paths, readable(paths, problems), strict=True):
        if size is not None:
            records.append(image_record(path, size, classes[name], boxes[name], description.names, problems))
    lost = sorted(boxes.keys() - classes.keys())
    notices = [Notice(f"images of {BOXES} are not in the table of findings", lost)] if lost else []
    return Split(split, description, records, problems, notices)


def published(listing: Path) -> Path:
    """A list under either of its published names, with and without `_NIH`."""
    other = listing.stem.removesuffix("_NIH") if listing.stem.endswith("_NIH") else f"{listing.stem}_NIH"
    names = (listing, listing.with_name(f"{other}{listing.suffix}"))
    folders = Folders()
    return next((found for name in names if (found := folders.find(name)) is not None), listing)


def chestxray_names(root: Path, train: str) -> list[str]:
    """The findings of the table in alphabetical order."""
    return sorted({finding for _, findings, _ in read_table(root) for finding in findings})


def read_table(root: Path) -> Iterator[tuple[str, list[str], str]]:
    """Image name, its findings and file:line, for each row of the table.

    Raises:
        UserError: no table, several, or one without the columns.
    """
    found = sorted(root.glob("Data_Entry_2017*.csv"))
    if len(found) != 1:
        hint = "have the one Data_Entry_2017*.csv there, or correct `path:`"
        raise UserError(f"{len(found)} tables of findings instead of one", where=root, hint=hint)
    rows = csv_rows(found[0])
    header, where = next(rows, ([], str(found[0])))
    if IMAGE not in header or FINDINGS not in header:
        raise UserError(f"no columns `{IMAGE}` and `{FINDINGS}`", where=where, hint=REPLACE)
    image, findings = header.index(IMAGE), header.index(FINDINGS)
    for row, where in rows:
        if len(row) <= max(image, findings):
            raise UserError(f"{len(row)} cells instead of {len(header)}", where=where, hint=REPLACE)
        yield row[image], [finding for finding in row[findings].split("|") if finding != NOTHING], where


def csv_rows(path: Path) -> Iterator[tuple[list[str], str]]:
    """Cells and file:line of each row that is not empty.

    Raises:
        UserError: no csv.
    """
    try:
        if not is_file(path):  # a pipe would be waited for
            raise FileNotFoundError(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for row in filter(None, reader):
                yield row, f"{path}:{reader.line_num}"
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"is no csv file ({error})", where=path, hint=REPLACE) from error


def finding_indices(findings: list[str], names: list[str], where: str) -> list[int]:
    """Class indices of findings.

    Raises:
        UserError: one of them is not among names.
    """
    return [class_index(finding, names, where) for finding in findings]


def read_boxes(root: Path) -> dict[str, list[Boxed]]:
    """Image name → its boxes; none where there is no file of them.

    Cells are taken by their place: the header's `Bbox [x,y,w,h]` is not quoted and falls apart.
    """
    found: dict[str, list[Boxed]] = defaultdict(list)
    path = root / BOXES
    rows = csv_rows(path) if path.is_file() else iter(())
    next(rows, None)
    for row, where in rows:
        image, finding, *cells = *row, ""
        found[image].append(Boxed(OTHER_SPELLING.get(finding, finding), cells[:4], where))
    return found


def find_images(root: Path, names: list[str]) -> list[Path]:
    """Where each image is; in images/ for those that are nowhere."""
    folders = [root / "images", *sorted(root.glob("images_*/images"))]
    places = {path.name: path for folder in reversed(folders) for path in folder.glob("*")}
    return [places.get(name, folders[0] / name) for name in names]


def image_record(
    path: Path,
    size_hw: tuple[int, int],
    classes: list[int],
    boxed: list[Boxed],
    names: list[str],
    problems: list[Problem],
) -> Record:
    """The record of one image; appends to problems the boxes that are left out."""
    boxes, labels = [], []
    for row in boxed:
        box = read_box(row, size_hw)
        if isinstance(box, str):
            problems.append(Problem(row.where, box, "correct the box, or delete the row"))
            continue
        boxes.append(box)
        labels.append(class_index(row.finding, names, row.where))
    # Names are <patient>_<number of the image>.png.
    return make_record(path, size_hw, boxes, labels, classes=classes, group=path.name.partition("_")[0])


def read_box(row: Boxed, size_hw: tuple[int, int]) -> Box | str:
    """The half-open box in pixels of the file, or what is wrong with it."""
    cells = numbers(row.cells)
    if cells is None:
        return f"box of {row.cells} instead of four numbers"
    x, y, w, h = cells
    across, down = size_hw[1] / BOX_SIDE, size_hw[0] / BOX_SIDE
    return check_box((x * across, y * down, (x + w) * across, (y + h) * down), size_hw)
