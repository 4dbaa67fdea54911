"""Objects as pictures: each true box is one picture of its class, cut out square with some of its surroundings.

Which classes are somewhere in a whole picture is almost the same sentence for every picture of a detection set. What
is inside one box is another matter: a classifier has something to learn from it.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from data.images import UnreadableError, record_pixels
from data.records import LISTED, Record, Split
from utils.errors import UserError
from utils.letterbox import FILL
from utils.memory import free_memory
from utils.seed import mixed_seed
from utils.threads import each

BACKGROUND = "background"  # the second class of a data set that has one
LEAST_PIXELS = 8  # longer side of a box, in pixels of its picture, below which nothing can be seen
TRIES = 60  # places that are tried for a background box; after each third its side is halved
SEED = 0  # of the background boxes, not the run's: all methods and seeds learn from the same ones
MOST_SHIFT = 0.45  # of a window's side: the middle of the box stays in it, and with it something of the picture
RAM_SHARE = 0.25  # of what is free: what pictures cut out ahead may take


@dataclass(frozen=True)
class Window:
    """The square around a box that a classifier is shown.

    Attributes:
        context: surroundings on both sides together, as a fraction of the box's longer side.
        jitter: in training the window moves by up to this fraction of the longer side in x and in y, but keeps the
            middle of the box, and its side is multiplied or divided by up to 1 + this.
    """

    context: float
    jitter: float = 0.0

    def draw(self, box_xyxy: Sequence[float]) -> tuple[int, int, int]:
        """Left, top and side in whole pixels of the picture; may reach out of it. Drawn from torch's generator."""
        x1, y1, x2, y2 = box_xyxy
        longer, side = self._sides(box_xyxy)
        if self.jitter:
            shift_x, shift_y, scale = torch.empty(3).uniform_(-1, 1).tolist()
            side *= (1 + self.jitter) ** scale
            most = MOST_SHIFT * side
            shift_x, shift_y = (max(-most, min(most, own * self.jitter * longer)) for own in (shift_x, shift_y))
            x1, x2, y1, y2 = x1 + shift_x, x2 + shift_x, y1 + shift_y, y2 + shift_y
        whole = max(2, round(side))
        return nearest((x1 + x2 - whole) / 2), nearest((y1 + y2 - whole) / 2), whole

    def reach(self, box_xyxy: Sequence[float], size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
        """X1 y1 x2 y2 of the part of a picture that any draw can show."""
        x1, y1, x2, y2 = box_xyxy
        longer, side = self._sides(box_xyxy)
        half = side * (1 + self.jitter) / 2 + self.jitter * longer + 2
        x, y, (height, width) = (x1 + x2) / 2, (y1 + y2) / 2, size_hw
        return max(0, int(x - half)), max(0, int(y - half)), min(width, int(x + half)), min(height, int(y + half))

    def _sides(self, box_xyxy: Sequence[float]) -> tuple[float, float]:
        """The box's longer side, and that of the window before any draw."""
        x1, y1, x2, y2 = box_xyxy
        longer = max(x2 - x1, y2 - y1)
        return longer, longer * (1 + self.context)


def nearest(value: float) -> int:
    """The nearest whole number, halves up: `round` would go to the even one, which moves with the origin."""
    return math.floor(value + 0.5)


class CutOut(nn.Module):
    """The window around the only box of a picture, in a square of imgsz pixels; grey where it reaches out.

    Image [3, H, W] uint8 and boxes_xyxy [1, 4] as tv_tensors; the box follows and is clipped to the window.
    """

    def __init__(self, imgsz: int, window: Window) -> None:
        super().__init__()
        self.imgsz, self.window = imgsz, window

    def extra_repr(self) -> str:
        return f"{self.imgsz}, context {self.window.context:g}, jitter {self.window.jitter:g}"

    def forward(self, image: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        plain = boxes.as_subclass(Tensor)
        left, top, side = self.window.draw(plain[0].tolist())
        height, width = image.shape[1:]
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
        borders = [x1 - left, y1 - top, left + side - x2, top + side - y2]
        square = F.pad(image[:, y1:y2, x1:x2].as_subclass(Tensor), borders, fill=FILL)
        moved = (plain - plain.new_tensor([left, top] * 2)).clamp(0, side) * (self.imgsz / side)
        shown = tv_tensors.BoundingBoxes(moved, format="XYXY", canvas_size=(self.imgsz, self.imgsz))  # type: ignore[call-overload]
        return tv_tensors.Image(F.resize(square, [self.imgsz, self.imgsz], antialias=True)), shown


def say_more(split: Split) -> bool:
    """Whether boxes say more than pictures do: pictures have no classes but those of their boxes."""
    return any(len(record.labels) and record.classes is None for record in split.records)


def no_object(split: Split) -> str:
    """Why there is no object in a split, with what is left out; empty where there is one."""
    left_out: Counter[str] = Counter()
    if any(True for record in split.records for _ in objects_in(record, left_out)):
        return ""
    return f"no box of `{split.name}` can be cut out" + said(left_out)


def objects_of(split: Split) -> tuple[Split, str]:
    """A split with one record an object – its box, its class, its picture – and a line of what is left out.

    Left out are boxes around crowds, difficult ones, and those whose longer side is below LEAST_PIXELS. Where the data
    set has a single class, background boxes that touch no box are the second one, as many in a picture as objects.
    All objects of a picture, or of a patient, are of one group.

    Raises:
        UserError: no object is left, or there is no room for background.
    """
    if why := no_object(split):
        raise UserError(why, where=split.description.yaml, hint="give --pretrain-source pictures, or other boxes")
    left_out: Counter[str] = Counter()
    found = [own for record in split.records for own in objects_in(record, left_out)]
    names, background = split.description.names, list[Record]()
    if len(names) == 1:
        names, background = [*names, BACKGROUND], with_background(split, found)
    form = replace(split.description.format, single_label=True)
    description = replace(split.description, format=form, names=names)
    summary = f"{split.name}: {len(found)} objects of {len(split.records)} images" + said(left_out)
    summary += f"; {len(background)} background boxes, as many as have room" if background else ""
    found += background
    missing = [name for label, name in enumerate(names) if not any(own.labels[0] == label for own in found)]
    summary += f"; no object of {listed(missing)}" if missing else ""
    return replace(split, description=description, records=found, problems=[], notices=[]), summary


def border_level(objects: Split, context: float) -> float:
    """The fraction of objects and background that the best threshold on the grey outside the pictures gets right.

    Windows of large objects reach out of their pictures, and so do those of background where the objects are in the
    middle: a classifier may learn the grey instead of the objects. 0 where there is no background.
    """
    if objects.description.names[1:] != [BACKGROUND]:
        return 0.0
    shares = np.array([outside(own, Window(context)) for own in objects.records])
    real = np.array([int(own.labels[0]) == 0 for own in objects.records])
    order = np.argsort(-shares, kind="stable")
    gains = np.cumsum(np.where(real[order], 1, -1))[np.append(np.diff(shares[order]) != 0, True)]
    more_is_object = np.count_nonzero(~real) + max(0, int(gains.max()))
    more_is_background = np.count_nonzero(real) - min(0, int(gains.min()))
    return float(max(more_is_object, more_is_background)) / len(real)


def said_by_border(objects: Split, context: float) -> str:
    """A line on how well the grey outside the pictures separates objects from background; empty without background."""
    right = border_level(objects, context)
    if not right:
        return ""
    what = f"the grey outside the pictures alone classifies {right:.0%} of objects and background correctly"
    return f"{objects.name}: {what}; a classifier that learnt the objects is above that"


def outside(record: Record, window: Window) -> float:
    """The fraction of an object's window that is outside its picture."""
    left, top, side = window.draw(record.boxes_xyxy[0].tolist())
    height, width = record.size_hw
    across, down = (min(start + side, length) - max(start, 0) for start, length in ((left, width), (top, height)))
    return 1 - max(0, across) * max(0, down) / side**2


def all_alike(objects: Split) -> str:
    """What to do about objects that are of one class though there are names of others; empty where they differ."""
    (label, *others) = sorted({int(own.labels[0]) for own in objects.records})
    if others:
        return ""
    what = f"all objects of `{objects.name}` are `{objects.description.names[label]}`: there is nothing to tell apart"
    remedies = f"leave the other names out of {objects.description.yaml.name}, which makes background the second class"
    return f"{what}; {remedies}, or give --pretrain-source pictures, or --cl-splits 0"


def listed(names: list[str]) -> str:
    """Names, the first LISTED of them where they are many."""
    further = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {further} more" if further > 0 else "")


def said(left_out: Counter[str]) -> str:
    """What is left out, counted by its kind."""
    return ", left out: " + ", ".join(f"{count} {kind}" for kind, count in left_out.items()) if left_out else ""


def objects_in(record: Record, left_out: Counter[str]) -> Iterator[Record]:
    """A record for each box that can be cut out; counts the others."""
    crowd = np.zeros(len(record.labels), bool) if record.crowd is None else record.crowd
    longer = (record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]).max(1, initial=0)
    for index in range(len(record.labels)):
        if crowd[index]:
            left_out["around crowds"] += 1
        elif record.difficult[index]:
            left_out["difficult"] += 1
        elif longer[index] < LEAST_PIXELS:
            left_out[f"smaller than {LEAST_PIXELS} pixels"] += 1
        else:
            yield one_object(record, record.boxes_xyxy[index], int(record.labels[index]))


def one_object(record: Record, box_xyxy: np.ndarray, label: int) -> Record:
    """The record of one box of a picture."""
    return replace(
        record,
        boxes_xyxy=np.asarray(box_xyxy, np.float32).reshape(1, 4),
        labels=np.array([label], np.int64),
        difficult=np.zeros(1, bool),
        classes=np.array([label], np.int64),
        group=record.group or str(record.image),
        clipped=0,
        crowd=None,
        areas=None,
    )


def with_background(split: Split, objects: list[Record]) -> list[Record]:
    """Background boxes, as many in a picture as objects where there is room, of sides that objects have.

    Raises:
        UserError: there is no room in any picture.
    """
    counts = Counter(str(own.image) for own in objects)
    sides = np.concatenate([(own.boxes_xyxy[:, 2:] - own.boxes_xyxy[:, :2]).max(1) for own in objects])
    found = []
    for number, record in enumerate(split.records):
        generator = np.random.default_rng(mixed_seed(SEED, number))
        for _ in range(max(1, counts[str(record.image)])):
            box = free_box(record, float(generator.choice(sides)), generator)
            if box is not None:
                found.append(one_object(record, box, 1))
    if not found:
        what = f"one class, `{split.description.names[0]}`, and no room beside it for background"
        hint = "give --cl-splits 0, or --pretrain-data with more classes"
        raise UserError(what, where=f"{split.description.yaml} `{split.name}`", hint=hint)
    return found


def free_box(record: Record, side: float, generator: np.random.Generator) -> np.ndarray | None:
    """A square [4] within a picture that touches none of its boxes; smaller where there is no room, else None."""
    height, width = record.size_hw
    side = min(side, height, width)
    for attempt in range(TRIES):
        if attempt and attempt % (TRIES // 3) == 0:
            side /= 2
        if side < LEAST_PIXELS:
            return None
        x, y = generator.uniform(0, width - side), generator.uniform(0, height - side)
        box = np.array([x, y, x + side, y + side], np.float32)
        low, high = record.boxes_xyxy[:, :2], record.boxes_xyxy[:, 2:]
        if not ((low <= box[2:]) & (high >= box[:2])).all(1).any():
            return box
    return None


def cut_ahead(records: list[Record], window: Window, ranks: int = 1) -> list[Record]:
    """Object records that hold the pixels around their box, where all of them find room; else as they are.

    A picture is then decoded once, not once for each object in each epoch; what CutOut makes of it is the same. Records
    of one that cannot be read stay as they are.

    Args:
        ranks: processes of this machine that do the same.
    """
    places = [window.reach(own.boxes_xyxy[0].tolist(), own.size_hw) for own in records]
    needed = sum(3 * (x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in places)
    if needed > free_memory() * RAM_SHARE / ranks:
        return records
    by_picture: dict[str, list[int]] = {}
    for index, own in enumerate(records):
        by_picture.setdefault(str(own.image), []).append(index)
    found = list(records)

    def cut(indices: list[int]) -> None:
        try:
            pixels = record_pixels(records[indices[0]])
        except UnreadableError:  # its records stay without pixels; whoever asks for them names the file
            return
        for index in indices:
            found[index] = cut_record(records[index], pixels, places[index])

    for _ in each(cut, by_picture.values()):
        pass
    return found


def cut_record(record: Record, pixels: np.ndarray, place_xyxy: tuple[int, int, int, int]) -> Record:
    """A record of the part of a picture, pixels [H, W, C], that is in a place."""
    x1, y1, x2, y2 = place_xyxy
    boxes = record.boxes_xyxy - np.array([x1, y1, x1, y1], np.float32)
    return replace(record, boxes_xyxy=boxes, size_hw=(y2 - y1, x2 - x1), pixels=pixels[y1:y2, x1:x2].copy())
