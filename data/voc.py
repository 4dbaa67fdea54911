"""Pascal VOC: one XML file for each image, in the official tree or in any two folders."""

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from data.images import SUFFIXES, images_below, readable
from data.parsing import check_inclusive, class_index, read_lines
from data.records import EVERYTHING, Box, Description, Problem, Record, Split, make_record
from utils.errors import UserError

MEND = "replace the file, or take its name off the list"


def read_voc(description: Description, split: str) -> Split:
    """Read one split.

    VOC counts pixels from 1 and includes the last one: (xmin, xmax) becomes the half-open (xmin − 1, xmax).

    Raises:
        UserError: no images, no list for the split, or a class outside `names`.
    """
    tree, listing = tree_and_list(description, split)
    folder, annotations = description.images or tree / "JPEGImages", description.labels or tree / "Annotations"
    images = listed_images(folder, listing, description)
    records: list[Record] = []
    problems: list[Problem] = []
    for image, size in zip(images, readable(images, problems), strict=True):
        if size is None:
            continue
        annotation = (annotations / image.relative_to(folder)).with_suffix(".xml")
        record = read_annotation(annotation, image, size, description.names, problems)
        if record is not None:
            records.append(record)
    return Split(split, description, records, problems)


def tree_and_list(description: Description, split: str) -> tuple[Path, Path | None]:
    """An official tree and the list of a split in it; None for all images.

    `trainval` is ImageSets/Main/trainval.txt of the root, `VOC2007/trainval` that of a tree below it, and any other
    name is a file below the root.

    Raises:
        UserError: no such list.
    """
    root, value = description.root, description.split(split)
    if value == EVERYTHING:
        return root, None
    below, _, name = value.rpartition("/")
    official, own = root / below / "ImageSets" / "Main" / f"{name}.txt", root / value
    if not official.is_file() and not own.is_file():
        mend = f"add it, or correct `{split}:` in {description.yaml}: a list, or a share such as 0.8"
        raise UserError(f"no list of images for `{split}`", where=official, mend=mend)
    return (root / below, official) if official.is_file() else (root, own)


def listed_images(folder: Path, listing: Path | None, description: Description) -> list[Path]:
    """All images below a folder, or those on a list, which names them with or without suffix.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError("no folder of images", where=folder, mend=f"correct `path:` or `images:` in {description.yaml}")
    there = images_below(folder)
    if listing is None:
        return there
    places = {path.relative_to(folder).with_suffix("").as_posix(): path for path in reversed(there)}
    names = (listed_name(line, places) for line in read_lines(listing, f"correct the lists of {description.yaml}"))
    return [places.get(name, folder / f"{name}.jpg") for name in names]


def listed_name(line: str, places: Iterable[str]) -> str:
    """Name on a line of a list: all of it, or its first column where ±1 or 0 tells whether a class occurs."""
    first, _, rest = line.rpartition(" ")
    name = first.strip() if line not in places and rest in ("1", "0", "-1") else line
    path = Path(name)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else name


def read_annotation(
    path: Path, image: Path, size_hw: tuple[int, int], names: list[str], problems: list[Problem]
) -> Record | None:
    """Boxes of one XML file; appends to problems what is left out, None if that is all of it."""
    try:
        text = path.read_bytes()
        root = ElementTree.fromstring(text)
    except OSError:
        problems.append(Problem(str(path), "the annotation does not exist", "add it, or take its name off the list"))
        return None
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an encoding nobody knows
        problems.append(Problem(str(path), f"not XML ({error})", MEND))
        return None
    if (stated := stated_size(root)) not in (None, size_hw):
        what = "is of {1}×{0}, its annotation of {3}×{2}".format(*size_hw, *(stated or ()))
        problems.append(Problem(str(image), what, "correct <size>, or the boxes if they were drawn on another picture"))
        return None
    starts = (text.count(b"\n", 0, match.start()) + 1 for match in re.finditer(rb"<object\b", text))
    lines = dict(enumerate(starts))
    boxes, labels, difficult = [], [], []
    for number, item in enumerate(root.findall("object")):
        where = f"{path}:{lines.get(number, '?')}"
        box, name = read_box(item, size_hw), (item.findtext("name") or "").strip()
        if isinstance(box, str) or not name:
            what = box if isinstance(box, str) else "an object without name"
            problems.append(Problem(where, what, "correct the object, or delete it"))
            continue
        boxes.append(box)
        labels.append(class_index(name, names, where))
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    return make_record(image, size_hw, boxes, labels, difficult)


def stated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width as <size> gives them; None where it says nothing that a picture could have."""
    texts = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    try:
        height, width = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        return None
    return (height, width) if height > 0 and width > 0 else None


def read_box(item: ElementTree.Element, size_hw: tuple[int, int]) -> Box | str:
    """The box of an object, or what is wrong with it."""
    texts = [item.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        xmin, ymin, xmax, ymax = (float(text) for text in texts if text is not None)
    except ValueError:
        return f"box of {texts} instead of four numbers"
    return check_inclusive((xmin, ymin, xmax, ymax), 1, size_hw)
