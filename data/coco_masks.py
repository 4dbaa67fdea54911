"""Masks from the outlines of a COCO json: polygons, and run lengths of columns, plain or as text."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.coco import HINT, category_indices, image_paths, json_of, label_finder, no_category, stated
from data.coco_json import Entry, Id, known, number, read_instances
from data.masks import Masks
from data.parsing import decoded
from data.records import Description, Mask, Problem, Record, Split
from utils.letterbox import IGNORED
from utils.limits import PICTURE
from utils.memory import no_collection

FARTHEST = 10  # a point of a polygon is so many sides of its picture away at most
Size = tuple[int, int]


@dataclass(frozen=True)
class Outline:
    """What one annotation goes around: a class index, whether it is a crowd, polygons or run lengths."""

    label: int
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class Outlines:
    """The outlines in an image of the size that the json states.

    A pixel that outlines of two classes claim does not count, as in torchvision's own reference for segmentation; nor
    does a crowd where nothing else is.
    """

    size_hw: Size
    own: tuple[Outline, ...]

    def pixels(self, size_hw: Size) -> np.ndarray:
        """[H, W] uint8; where the file is of another size than the json says, scaled to it as the boxes are."""
        painted = np.zeros(self.size_hw, np.uint8)
        for outline in (own for own in self.own if own.crowd):
            painted[shape_of(outline.segmentation, self.size_hw)] = IGNORED
        single = np.zeros(self.size_hw, np.uint8)
        for outline in (own for own in self.own if not own.crowd):
            inside, value = shape_of(outline.segmentation, self.size_hw), outline.label + 1
            single[inside] = np.where((single[inside] == 0) | (single[inside] == value), value, IGNORED)
        found = np.where(single > 0, single, painted)
        if size_hw == self.size_hw:
            return found
        return np.asarray(Image.fromarray(found).resize(size_hw[::-1], Image.Resampling.NEAREST))

    def identity(self) -> bytes:
        """All of it."""
        return repr((self.size_hw, [(own.label, own.crowd, own.segmentation) for own in self.own])).encode()

    def content(self) -> bytes:
        """The same."""
        return self.identity()


def shape_of(segmentation: Any, size_hw: Size) -> np.ndarray:
    """[H, W] bool of a checked segmentation: polygons as pycocotools paints them, or run lengths."""
    if isinstance(segmentation, dict):
        return from_runs(runs_of(segmentation["counts"]), size_hw)
    from pycocotools import mask

    painted = mask.decode(mask.merge(mask.frPyObjects([list(map(float, own)) for own in segmentation], *size_hw)))
    return np.asarray(painted, bool)


def from_runs(runs: Sequence[int], size_hw: Size) -> np.ndarray:
    """[H, W] bool of lengths of runs down the columns: outside, inside, outside and so on.

    Raises:
        ValueError: they do not fill the picture.
    """
    height, width = size_hw
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        raise ValueError(f"run lengths of {sum(runs)} pixels in a picture of {width}×{height}")
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def runs_of(counts: str | bytes | list[int]) -> list[int]:
    """Run lengths from a list of them, or from the text that COCO packs them into.

    In the text a number is pieces of five bits from the lowest on, each as a sign from `0` on, with 32 added where
    another piece follows; from the fourth number on it is the difference to the last but one.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(counts, list):
        return [whole(count) for count in counts]
    runs: list[int] = []
    value = shift = 0
    for sign in counts.encode() if isinstance(counts, str) else counts:
        piece = sign - 48
        if not 0 <= piece < 64:
            raise ValueError("counts that are no run lengths")
        value |= (piece & 31) << shift
        shift += 5
        if piece & 32:
            continue
        if piece & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("counts that end within a number")
    return runs


def whole(count: object) -> int:
    """A whole number.

    Raises:
        ValueError: it is none.
    """
    if isinstance(count, bool) or not (own := number(count)).is_integer():
        raise ValueError("counts that are no whole numbers")
    return int(own)


def check(segmentation: Any, size_hw: Size) -> None:
    """See to it that a segmentation can be painted.

    Raises:
        ValueError: says why not.
    """
    height, width = size_hw
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if size != [height, width]:
            raise ValueError(f"the mask is of {str(size)[:40]}, its picture of {[height, width]}, height first")
        if not isinstance(segmentation.get("counts"), str | list):
            raise ValueError("a mask without counts")
        from_runs(runs_of(segmentation["counts"]), size_hw)
        return
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("no outline")
    farthest = FARTHEST * max(size_hw)
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon that is no list of three points or more")
        if not all(isinstance(own, int | float) and abs(own) <= farthest for own in polygon):
            raise ValueError("a polygon with points far outside its picture, or none")


def coco_masks(split: Split) -> Masks:
    """Masks of the images of a split, from its json; one damaged outline is a problem of the whole image's mask."""
    found: dict[Path, Outlines | Problem] = {}
    for value in split.description.parts(split.listed):
        for image, own in read_part(replace(split.description, splits={split.listed: (value,)}), split.listed):
            found[image] = joined(image, found[image], own) if image in found else own
    return [fitting(record, found.get(record.image)) for record in split.records]


def joined(image: Path, one: Outlines | Problem, other: Outlines | Problem) -> Outlines | Problem:
    """The outlines of both entries of one picture."""
    if isinstance(one, Problem) or isinstance(other, Problem):
        return one if isinstance(one, Problem) else other
    if one.size_hw != other.size_hw:
        return Problem(str(image), "two entries state different sizes of it", HINT)
    return Outlines(one.size_hw, one.own + other.own)


def fitting(record: Record, own: Outlines | Problem | None) -> Mask | Problem | None:
    """The outlines of a picture that was not turned since they were drawn, or what is wrong with them."""
    if not isinstance(own, Outlines) or not own.size_hw[::-1] == record.size_hw != own.size_hw:
        return own
    (height, width), (old_height, old_width) = record.size_hw, own.size_hw
    what = f"the image of {width}×{height} was turned since its outlines were drawn on {old_width}×{old_height}"
    return Problem(str(record.image), what, HINT)


@no_collection()
def read_part(description: Description, split: str) -> list[tuple[Path, Outlines | Problem]]:
    """Outlines of each entry of an image in a json, or in a part of it."""
    path, part = json_of(description.root, description.split(split), split)
    content = read_instances(path)
    label_of = label_finder(category_indices(content, description.names, path))
    chosen = [entry for entry in content.images if not part or entry.get("split") == part]
    outlines: dict[str, list[Entry]] = defaultdict(list)
    for entry in json.loads(decoded(path.read_bytes()))["annotations"]:
        outlines[str(known(entry.get("image_id")))].append(entry)
    found: list[tuple[Path, Outlines | Problem]] = []
    for image, entry in zip(image_paths(content.images, chosen, description, path)[0], chosen, strict=True):
        try:
            found.append((image, mask_of(entry, outlines[str(entry["id"])], label_of)))
        except ValueError as error:
            found.append((image, Problem(str(image), f"{path.name}, {error}", HINT)))
    return found


def mask_of(image: Entry, annotations: list[Entry], label_of: Callable[[Id], int]) -> Outlines:
    """The outlines of an image.

    Raises:
        ValueError: one cannot be painted, or is of no category; says which.
    """
    size_hw = stated_size(image)
    own = []
    for entry in annotations:
        label = label_of(known(entry.get("category_id")))
        try:
            check(entry.get("segmentation"), size_hw)
            if label < 0:
                raise ValueError(no_category(entry.get("category_id")))
        except ValueError as error:
            raise ValueError(f"annotation {entry.get('id')}: {error}") from error
        own.append(Outline(label, entry.get("iscrowd") in (1, "1"), entry["segmentation"]))
    return Outlines(size_hw, tuple(own))


def stated_size(image: Entry) -> Size:
    """Height and width of an image as the json states them.

    Raises:
        ValueError: it does not, or of a picture that is too large to be read.
    """
    height, width = (stated(image.get(key)) for key in ("height", "width"))
    if not (height.is_integer() and width.is_integer()):
        raise ValueError("no width and height of the image")
    if fault := PICTURE.too_much(height * width / 1e6):
        raise ValueError(f"an image of {fault}")
    return int(height), int(width)
