"""Pascal VOC: JPEGImages, Annotations/*.xml, ImageSets/Main/<split>.txt."""

import re
from pathlib import Path
from xml.etree import ElementTree

from data.checks import Box, check_inclusive, class_index, readable
from data.records import Description, Problem, Record, Split, make_record
from utils.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")


def read_voc(description: Description, split: str) -> Split:
    """Read one split.

    VOC counts pixels from 1 and includes the last one: (xmin, xmax) becomes the half-open (xmin − 1, xmax).

    Raises:
        UserError: no list for the split, or a class outside `names`.
    """
    ids = image_ids(description, split)
    images = [find_image(description.root / "JPEGImages", image_id) for image_id in ids]
    records: list[Record] = []
    problems: list[Problem] = []
    for image_id, image, size in zip(ids, images, readable(images, problems), strict=True):
        if size is None:
            continue
        annotation = description.root / "Annotations" / f"{image_id}.xml"
        record = read_annotation(annotation, image, size, description.names, problems)
        if record is not None:
            records.append(record)
    return Split(split, description, records, problems)


def image_ids(description: Description, split: str) -> list[str]:
    """Names on the list of a split, without suffix."""
    path = description.root / "ImageSets" / "Main" / f"{description.split(split)}.txt"
    if not path.is_file():
        raise UserError(
            f"no list of images for `{split}`", where=path, mend=f"add it, or correct `{split}:` in {description.yaml}"
        )
    return [line.split()[0] for line in path.read_text().splitlines() if line.strip()]


def find_image(folder: Path, image_id: str) -> Path:
    """Path of an image whatever its suffix; the .jpg name where there is none."""
    candidates = [folder / f"{image_id}{suffix}" for suffix in SUFFIXES]
    return next((path for path in candidates if path.exists()), candidates[0])


def read_annotation(
    path: Path, image: Path, size_hw: tuple[int, int], names: list[str], problems: list[Problem]
) -> Record | None:
    """Boxes of one XML file; appends to problems what is left out, None if that is all of it."""
    try:
        text = path.read_bytes()
        objects = ElementTree.fromstring(text).findall("object")
    except FileNotFoundError:
        problems.append(Problem(str(path), "the annotation does not exist", "add it, or take its name off the list"))
        return None
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        problems.append(Problem(str(path), f"not XML ({error})", "replace the file, or take its name off the list"))
        return None
    starts = (text.count(b"\n", 0, match.start()) + 1 for match in re.finditer(rb"<object\b", text))
    lines = dict(enumerate(starts))
    boxes, labels, difficult = [], [], []
    for number, item in enumerate(objects):
        where = f"{path}:{lines.get(number, '?')}"
        box = read_box(item, size_hw)
        if isinstance(box, str):
            problems.append(Problem(where, box, "correct the box, or delete the object"))
            continue
        boxes.append(box)
        labels.append(class_index((item.findtext("name") or "").strip(), names, where))
        difficult.append((item.findtext("difficult") or "0").strip() == "1")
    return make_record(image, size_hw, boxes, labels, difficult)


def read_box(item: ElementTree.Element, size_hw: tuple[int, int]) -> Box | str:
    """x1 y1 x2 y2, half-open and inside the image, or what is wrong with it."""
    bounds = item.find("bndbox")
    texts = [bounds.findtext(key) if bounds is not None else None for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        xmin, ymin, xmax, ymax = (float(text) for text in texts if text is not None)
    except ValueError:
        return f"box of {texts} instead of four numbers"
    return check_inclusive((xmin, ymin, xmax, ymax), 1, size_hw)
