"""Pascal VOC: one XML file for each image, in the official tree or in any two folders."""

import codecs
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from data.images import readable
from data.label_files import match
from data.lists import on_list, place, split_images
from data.parsing import check_inclusive, class_index
from data.records import EVERYTHING, Box, Description, Notice, Problem, Record, Split, make_record
from utils.errors import UserError
from utils.paths import is_file, is_folder, kind_of

HINT = "replace the file, or take its name off the list"
DECLARED = re.compile(rb"^\s*<\?xml[^>]*?encoding\s*=\s*[\"']([A-Za-z0-9._-]+)[\"'][^>]*\?>")
BLANK = b" \t\r\n"
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "shift_jis": "cp932", "sjis": "cp932", "big5": "big5hkscs"}
Labels = Callable[[str, str], int | None]
"""Name of an object and file:line → index of its class; None where the object is passed over."""


def read_voc(description: Description, split: str) -> Split:
    """Read one split; an image without XML file has no boxes.

    VOC counts pixels from 1 and includes the last one: (xmin, xmax) becomes the half-open (xmin − 1, xmax).

    Raises:
        UserError: no images, no list for the split, not one XML file, or a class outside `names`.
    """
    tree, images, notices = tree_and_images(description, split)
    folder, annotations = description.images or tree / "JPEGImages", description.labels or tree / "Annotations"

    def places(image: Path) -> list[Path]:
        within = image.relative_to(folder) if image.is_relative_to(folder) else Path(image.name)
        stems = (annotations / within, image)
        return [path for stem in stems for path in (stem.with_suffix(".xml"), stem.with_name(f"{stem.name}.xml"))]

    found = match(images, description, split, places, [annotations], lambda path: True)
    records: list[Record] = []
    problems: list[Problem] = []

    def label_of(name: str, where: str) -> int:
        return class_index(name, description.names, where)

    for image, annotation, size in zip(images, found.files, readable(images, problems), strict=True):
        if size is None:
            continue
        if annotation is None:
            records.append(make_record(image, size))
        elif record := read_annotation(annotation, image, size, label_of, problems):
            records.append(record)
    return Split(split, description, records, problems, [*notices, *found.notices])


def tree_and_images(description: Description, split: str) -> tuple[Path, list[Path], list[Notice]]:
    """An official tree, the images of a split, and what is to be said of them.

    `trainval` is ImageSets/Main/trainval.txt of the root, `VOC2007/trainval` that of a tree below it, and any other
    name is a list, or a folder of images, below the root.

    Raises:
        UserError: no such list, no folder of images.
    """
    root, value = description.root, description.split(split)
    if value == EVERYTHING:
        return root, *split_images(description, split, description.images or root / "JPEGImages")
    below, _, name = value.rpartition("/")
    official, own = root / below / "ImageSets" / "Main" / f"{name}.txt", place(description.root, value)
    if is_file(official):
        folder = description.images or root / below / "JPEGImages"
        if not is_folder(folder):
            raise UserError("no folder of images", where=folder, hint=f"correct `path:` in {description.yaml}")
        return root / below, *on_list(official, description, split, folder)
    if kind_of(own) is None:
        hint = f"add it, or correct `{split}:` in {description.yaml}: a list, a folder, or a share such as 0.8"
        raise UserError(f"no list of images for `{split}`", where=official, hint=hint)
    return root, *split_images(description, split, description.images or root / "JPEGImages")


def read_annotation(
    path: Path,
    image: Path,
    size_hw: tuple[int, int],
    label_of: Labels,
    problems: list[Problem],
) -> Record | None:
    """Boxes of one XML file; appends to problems what is left out, None if that is all of it."""
    try:
        text = path.read_bytes() if path.is_file() else b""
        root = parse_xml(text)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        problems.append(Problem(str(path), f"not XML ({error})", HINT))
        return None
    if root.tag != "annotation":
        problems.append(Problem(str(path), f"no annotation of Pascal VOC: it begins with <{root.tag[:40]}>", HINT))
        return None
    if (stated := stated_size(root)) not in (None, size_hw):
        what = "is of {1}×{0}, its annotation of {3}×{2}".format(*size_hw, *(stated or ()))
        problems.append(Problem(str(image), what, "correct <size>, or the boxes if they were drawn on another picture"))
        return None
    starts = (text.count(b"\n", 0, match.start()) + 1 for match in re.finditer(rb"<object\b", text))
    lines = dict(enumerate(starts))
    boxes, labels, difficult = [], [], []
    for number, item in enumerate(root.iter("object")):
        where = f"{path}:{lines.get(number, '?')}"
        box, name = read_box(item, size_hw), (item.findtext("name") or "").strip()
        if isinstance(box, str) or not name:
            what = box if isinstance(box, str) else "an object without name"
            problems.append(Problem(where, what, "correct the object, or delete it"))
            continue
        if (label := label_of(name, where)) is None:
            continue
        boxes.append(box)
        labels.append(label)
        difficult.append((item.findtext("difficult") or "0").strip().lower() in ("1", "true"))
    return make_record(image, size_hw, boxes, labels, difficult)


def parse_xml(content: bytes) -> ElementTree.Element:
    """The root of an XML file in any encoding that Python knows; the parser itself lacks those of several bytes.

    Tags are without their namespace.

    Raises:
        ElementTree.ParseError, ValueError, LookupError: no XML, or none in the encoding that it declares.
    """
    content = content.lstrip(BLANK)
    marked, content = content.startswith(codecs.BOM_UTF8), content.removeprefix(codecs.BOM_UTF8).lstrip(BLANK)
    name = found.group(1).decode().lower() if (found := DECLARED.match(content)) else "utf"
    if found and (marked or name.startswith("utf")):  # UTF-8, whatever it declares: UTF-16 would not have matched
        name = "utf-8"
    root = ElementTree.fromstring(content[found.end() :].decode(WIDER.get(name, name)) if found else content)
    for item in root.iter():
        item.tag = item.tag.rpartition("}")[2]
    return root


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
