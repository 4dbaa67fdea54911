"""An instances json of COCO, read so that a million annotations fit: theirs are columns, not a dict each."""

import json
import math
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.parsing import decoded, numbers
from utils.console import said_if_slow
from utils.errors import UserError
from utils.memory import no_collection
from utils.paths import is_file, kind_of

Entry = dict[str, Any]
Id = int | str | None
SECTIONS: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "categories": ("id", "name"), "annotations": ()}
NO_BOX = (math.nan,) * 4


class Row(int):
    """What is left of an annotation where it was: the number of its row."""

    __slots__ = ()


@dataclass
class Annotations:
    """Columns of all annotations, as the json gives them.

    Attributes:
        boxes: x, y, width and height in pixels, four numbers for each; not numbers where `odd` has what there is.
        areas: not a number where none is given.
        crowd: 1 where it is marked as going around many things.
        images, categories, ids: ids of the image, of the category, and its own.
        odd: row → what is in place of a box.
    """

    boxes: "array[float]" = field(default_factory=lambda: array("d"))
    areas: "array[float]" = field(default_factory=lambda: array("d"))
    crowd: bytearray = field(default_factory=bytearray)
    images: list[Id] = field(default_factory=list)
    categories: list[Id] = field(default_factory=list)
    ids: list[Any] = field(default_factory=list)
    odd: dict[int, object] = field(default_factory=dict)

    def take(self, entry: Entry) -> Entry | Row:
        """Keep an annotation, which json's parser has just read; anything else is given back as it is."""
        if "image_id" not in entry or ("file_name" in entry and "bbox" not in entry):  # an image may have an `image_id`
            return entry
        row, bbox = len(self.images), entry.get("bbox")
        try:
            if len(bbox) != len(NO_BOX):  # type: ignore[arg-type]
                raise ValueError
            self.boxes.fromlist(bbox)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            self._take_odd(row, bbox)
        area, image, category = entry.get("area"), entry["image_id"], entry.get("category_id")
        self.areas.append(area if type(area) is float else number(area))
        self.crowd.append(entry.get("iscrowd") in (1, "1"))
        self.images.append(image if type(image) is int else known(image))
        self.categories.append(category if type(category) is int else known(category))
        self.ids.append(entry.get("id"))
        return Row(row)

    def _take_odd(self, row: int, bbox: object) -> None:
        """Keep what is no list of four numbers: texts that are some will do."""
        box = numbers(bbox) if isinstance(bbox, list) else None
        self.boxes.extend(box or NO_BOX)
        if box is None:
            self.odd[row] = bbox


@dataclass(frozen=True)
class Instances:
    """An instances json.

    Attributes:
        images, categories: its entries.
        annotations: of which `rows` are entries of the list of annotations.
        strange: entries of that list that name no image.
    """

    images: list[Entry]
    categories: list[Entry]
    annotations: Annotations
    rows: list[int]
    strange: list[Entry]


def number(value: object) -> float:
    """A number as it is in the json; not a number where it is something else, or too large."""
    if not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def known(value: object) -> Id:
    """An id; 7.0 is 7, and what can be none is None."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int | str) else None


_kept: dict[tuple[Path, int], Instances] = {}  # the last one that was read for its classes: its images are wanted next


def read_instances(path: Path, *, keep: bool = False) -> Instances:
    """An instances json.

    Args:
        keep: it will be read again.

    Raises:
        UserError: missing, not json, or without lists of images, annotations and categories.
    """
    try:
        if not is_file(path):  # a pipe would be waited for
            raise FileNotFoundError(path)
        key = path, path.stat().st_mtime_ns
        if (found := _kept.pop(key, None)) is None:
            _kept.clear()
            size = path.stat().st_size / 2**20
            with said_if_slow(f"reading {path.name}, {size:.0f} MiB"), no_collection():
                found = parsed(decoded(path.read_bytes()), path)
    except UnicodeDecodeError as error:
        raise UserError("not json: no text in UTF-8", where=path, hint="replace the file") from error
    except OSError as error:
        what = "cannot be read" if kind_of(path) is not None else "there is no such file"
        raise UserError(what, where=path, hint="correct `labels:`, the split or `path:` in the data yaml") from error
    if keep:
        _kept[key] = found
    return found


def parsed(text: str, path: Path) -> Instances:
    """An instances json from its text.

    Raises:
        UserError: not json, or without lists of images, annotations and categories.
    """
    annotations = Annotations()
    try:
        content = json.loads(text, object_hook=annotations.take)
    except json.JSONDecodeError as error:
        raise UserError(f"not json ({error.msg})", where=f"{path}:{error.lineno}", hint="replace the file") from error
    except (ValueError, RecursionError) as error:  # numbers of thousands of digits, lists in lists in lists
        raise UserError(f"not json ({str(error)[:80]})", where=path, hint="replace the file") from error
    for section, keys in SECTIONS.items():
        entries = content.get(section) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise UserError(f"no list `{section}`", where=path, hint="give an instances json of COCO")
        refuse_malformed(entries, section, keys, path, "correct it")
        refuse_shared_ids(entries, section, keys, path)
    listed = content["annotations"]
    rows = [int(entry) for entry in listed if isinstance(entry, Row)]
    strange = [entry for entry in listed if not isinstance(entry, Row)]
    return Instances(content["images"], content["categories"], annotations, rows, strange)


def refuse_malformed(entries: Iterable[object], section: str, keys: Sequence[str], path: Path, hint: str) -> None:
    """Refuse a list with an entry that is not well formed.

    Raises:
        UserError: it has one.
    """
    for place, entry in enumerate(entries):
        if (keys or type(entry) is not Row) and not well_formed(entry, keys):  # Rows are most, and quickly passed over
            what = f"`{section}` entry {place} is without {' and '.join(keys) or 'keys'}"
            raise UserError(what, where=path, hint=hint)


def refuse_shared_ids(entries: Iterable[Any], section: str, keys: Sequence[str], path: Path) -> None:
    """Refuse a list in which two things have one id: whose an annotation is then, nobody can say.

    Raises:
        UserError: it has such an id.
    """
    first: dict[Id, str] = {}
    for named, text in ((entry[keys[0]], entry[keys[1]]) for entry in entries if keys):
        if first.setdefault(named, text) != text:
            what = f"`{section}` has the id {named} twice, for {first[named]} and for {text}"
            raise UserError(what, where=path, hint="give each an id of its own, in its annotations too")


def well_formed(entry: object, keys: Iterable[str]) -> bool:
    """Whether an entry has the keys it needs, ids or texts; ids are brought into one form."""
    if isinstance(entry, Row):
        return not keys
    if not isinstance(entry, dict):
        return False
    for key in keys:
        named = key == "id" or key.endswith("_id")
        if named:
            entry[key] = known(entry.get(key))
        if entry.get(key) is None or (not named and not isinstance(entry[key], str)):
            return False
    return True
