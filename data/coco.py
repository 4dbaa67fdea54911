"""COCO: instances json; a split is `file.json`, or `file.json#part` for its images whose `split` is `part`."""

import json
import math
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.images import readable
from data.parsing import check_box, class_index, numbers
from data.records import Box, Description, Problem, Record, Split, make_record
from utils.errors import UserError

Entry = dict[str, Any]
ID = (int, str)
SECTIONS: dict[str, dict[str, Any]] = {
    "images": {"id": ID, "file_name": str},
    "categories": {"id": ID, "name": str},
    "annotations": {},
}
MEND = "correct the json, or delete the annotation"


def read_coco(description: Description, split: str) -> Split:
    """Read one split; crowds and the areas within outlines are kept.

    Boxes are x, y, w, h in pixels of an image of the `width` and `height` that the json states; where the file
    is of another size, they are scaled to it.

    Raises:
        UserError: no such json or part of it, no images folder, or a class outside `names`.
    """
    file, _, part = description.split(split).partition("#")
    path = description.root / file
    content = read_json(path)
    images = {entry["id"]: entry for entry in content["images"]}
    chosen = [entry for entry in images.values() if not part or entry.get("split") == part]
    problems: list[Problem] = []
    labels = category_indices(content, description.names, path)
    annotations = by_image(content, images, path, problems)
    folder = description.images or image_folder(description.root, path)
    paths = [folder / entry["file_name"] for entry in chosen]
    records = []
    for entry, image, size in zip(chosen, paths, readable(paths, problems), strict=True):
        if size is not None:
            record = read_image(entry, image, size, annotations[entry["id"]], labels, path, problems)
            records.append(replace(record, group=entry_value(entry, description.group), number=entry["id"]))
    return Split(split, description, records, problems)


def coco_names(root: Path, train: str) -> list[str]:
    """The categories of the training json in the order of their ids."""
    content = read_json(root / train.partition("#")[0])
    return [entry["name"] for entry in sorted(content["categories"], key=lambda entry: entry["id"])]


def coco_numbers(description: Description, split: str) -> list[int | str | None]:
    """The category id of each class in the json of a split; None for those without."""
    path = description.root / description.split(split).partition("#")[0]
    of_name = {entry["name"].casefold(): entry["id"] for entry in read_json(path)["categories"]}
    return [of_name.get(name.casefold()) for name in description.names]


def read_json(path: Path) -> dict[str, list[Entry]]:
    """An instances json.

    Raises:
        UserError: missing, not json, or without lists of images, annotations and categories.
    """
    try:
        content = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise UserError(f"not json ({error.msg})", where=f"{path}:{error.lineno}", mend="replace the file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, mend="correct the split or `path:` in the data yaml") from error
    for section, keys in SECTIONS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"no list `{section}`", where=path, mend="give an instances json of COCO")
        for number, entry in enumerate(entries):
            if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in keys.items()):
                what = f"`{section}` entry {number} is without {' and '.join(keys) or 'keys'}"
                raise UserError(what, where=path, mend="correct it")
    return content


def image_folder(root: Path, path: Path) -> Path:
    """Where the images of `instances_<name>.json` lie: <name>, images/<name> or images; else beside the json."""
    name = path.stem.removeprefix("instances_")
    candidates = (root / name, root / "images" / name, root / "images")
    return next((folder for folder in candidates if folder.is_dir()), path.parent)


def category_indices(content: dict[str, list[Entry]], names: list[str], path: Path) -> dict[object, int]:
    """Category id → class index, for the categories that annotations use.

    Raises:
        UserError: one of them is not in names.
    """
    used = {number for entry in content["annotations"] if isinstance(number := entry.get("category_id"), ID)}
    return {
        entry["id"]: class_index(entry["name"], names, f"{path}, category {entry['id']}")
        for entry in content["categories"]
        if entry["id"] in used
    }


def by_image(
    content: dict[str, list[Entry]], images: dict[object, Entry], path: Path, problems: list[Problem]
) -> dict[object, list[Entry]]:
    """Image id → its annotations; those of no image go to problems."""
    found: dict[object, list[Entry]] = defaultdict(list)
    for entry in content["annotations"]:
        number = entry.get("image_id")
        if isinstance(number, ID) and number in images:
            found[number].append(entry)
        else:
            problems.append(Problem(place(path, entry), f"image_id {number} is not among the images", MEND))
    return found


def place(path: Path, annotation: Entry) -> str:
    """Where an annotation stands, for messages."""
    return f"{path}, annotation {annotation.get('id')}"


def read_image(
    entry: Entry,
    image: Path,
    size_hw: tuple[int, int],
    annotations: list[Entry],
    labels: dict[object, int],
    path: Path,
    problems: list[Problem],
) -> Record:
    """The record of one image; appends to problems what is left out."""
    boxes, indices, crowd, areas = [], [], [], []
    for annotation in annotations:
        category = annotation.get("category_id")
        known = isinstance(category, ID) and category in labels
        box = read_box(annotation, entry, size_hw) if known else f"no category of id {category}"
        if isinstance(box, str):
            problems.append(Problem(place(path, annotation), box, MEND))
            continue
        boxes.append(box)
        indices.append(labels[category])
        crowd.append(annotation.get("iscrowd") == 1)
        areas.append(outlined(annotation, box))
    return make_record(image, size_hw, boxes, indices, crowd=crowd, areas=areas)


def entry_value(entry: Entry, key: str | None) -> str | None:
    """What an image's entry says under a key; None where it says nothing."""
    return None if key is None or entry.get(key) is None else str(entry[key])


def outlined(annotation: Entry, box: Box) -> float:
    """The area that an annotation tells, where it does and fits into its box: else the box's, in the file's pixels."""
    whole = (box.x2 - box.x1) * (box.y2 - box.y1)
    area, given = annotation.get("area"), annotation.get("bbox")
    if not isinstance(area, int | float) or not isinstance(given, list) or not 0 < area < math.inf:
        return whole
    return min(whole, area * whole / (given[2] * given[3]))


def read_box(annotation: Entry, entry: Entry, size_hw: tuple[int, int]) -> Box | str:
    """The half-open box in pixels of the file, or what is wrong with it."""
    given = annotation.get("bbox")
    bbox = numbers(given) if isinstance(given, list) else None
    if bbox is None:
        return f"box of {given} instead of four numbers"
    height, width = size_hw
    # A json without sizes is taken to speak of the file as it is.
    declared_w, declared_h = entry.get("width") or width, entry.get("height") or height
    if not all(isinstance(side, int | float) and 0 < side < math.inf for side in (declared_w, declared_h)):
        return f"its image is said to be of {declared_w}×{declared_h}"
    if height != width and (declared_h, declared_w) == (width, height):
        return f"the image of {width}×{height} was turned since its box was drawn on {declared_w}×{declared_h}"
    x, y, w, h = bbox
    across, down = width / declared_w, height / declared_h
    return check_box((x * across, y * down, (x + w) * across, (y + h) * down), size_hw)
