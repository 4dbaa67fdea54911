"""What every reader of a data format is given and returns: description → images with boxes, and what was left out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from utils.errors import UserError
from utils.levels import Levels
from utils.tables import Entry
from utils.text import counted

LONGEST = 300  # characters of a file, a line or a name that a notice shows
LISTED = 20  # problems that a summary names one by one
NAMED = 3  # files that a notice names
EVERYTHING = "*"  # in place of a split's list: all images, to be shared out


@dataclass(frozen=True)
class Format(Entry):
    """How a data format is read, and what its data can train.

    Attributes:
        read: (description, name of the split) → the split.
        single_label: exactly one class an image (softmax); else any number of them (sigmoid).
        boxed: images come with boxes that a detector can be trained on.
        names: (root folder, what the yaml calls the training split) → class names in the order of their indices;
            None where the format does not say them.
        by_folder: these names are those of folders of pictures, below `images:` where the yaml has it.
        channels: of its pictures: 3 for RGB, 1 for grey values; networks then have one input channel.
        lists_all: it can list all images, for splits that the yaml gives as shares.
        in_json: a json has more about each image, for `group:`.
        labelled: the yaml says with `label:` which key of the json, or column of the table, is the class.
        joins: `classes:` may join its labels to classes.
        volumetric: pictures are slices of volumes: `slices:` and `volumes:` say which.
        check: refuses a description whose splits do not go together, before any of them is read.
        numbers: (description, split) → the data set's own number of each class, None where it has none.
        masks: split → for each image which class each of its pixels is of, what is wrong with that, or None where
            nothing says it; None where the format has no masks of its own.
    """

    read: Callable[["Description", str], "Split"]
    single_label: bool
    boxed: bool
    names: Callable[[Path, str], list[str]] | None = None
    by_folder: bool = False
    channels: int = 3
    lists_all: bool = False
    in_json: bool = False
    labelled: bool = False
    joins: bool = False
    volumetric: bool = False
    check: Callable[["Description"], None] | None = None
    numbers: Callable[["Description", str], list[int | str | None]] | None = None
    masks: Callable[["Split"], "list[Mask | Problem | None]"] | None = None


@dataclass(frozen=True)
class Description:
    """A data set: its yaml, its root folder, its format, its splits and its classes.

    Attributes:
        splits: train, val, test → what the yaml calls their parts, where it has them; a reader is given one part.
        images, labels: folders of the images and of their labels, or the table of subjects, where the yaml names them.
        shares: train, val, test → fraction of all images, where the yaml gives no lists.
        group: key of an image in its json that states whose it is.
        label, classes: key of an image in its json, or column of the table of subjects, of its class, and the values,
            or synsets, of each class.
        keypoints: how many points follow each box and how many numbers each has, if the yaml says; (0, 0) for none.
        long_lines: what long lines of txt files are (data/yolo_lines.py), once the first of them have decided it.
        levels: of pictures of more than 8 bits, where the yaml or a trained file gives them, or once they are measured.
        masks: folder of the images' masks, where the yaml names it.
        subsets: name → classes whose figures are averaged beside those of all.
        slices: of each direction of a volume, from its middle.
        volumes: pattern of the names of volumes, where the yaml gives one.
    """

    yaml: Path
    root: Path
    format: Format
    splits: dict[str, tuple[str, ...]]
    names: list[str]
    images: Path | None = None
    labels: Path | None = None
    shares: dict[str, float] = field(default_factory=dict)
    group: str | None = None
    label: str | None = None
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    keypoints: tuple[int, int] | None = None
    long_lines: str | None = field(default=None, kw_only=True)
    levels: Levels | None = None
    masks: Path | None = None
    subsets: dict[str, tuple[str, ...]] = field(default_factory=dict)
    slices: int = 16
    volumes: str | None = None

    @property
    def single_label(self) -> bool:
        """Exactly one class an image (softmax), else any number of them (sigmoid)."""
        return self.format.single_label

    @property
    def boxed(self) -> bool:
        """Images come with boxes that a detector can be trained on."""
        return self.format.boxed

    def split(self, name: str) -> str:
        """What the yaml calls a split, or its first part.

        Raises:
            UserError: the yaml names no such split.
        """
        return self.parts(name)[0]

    def parts(self, name: str) -> tuple[str, ...]:
        """What the yaml calls the parts of a split.

        Raises:
            UserError: the yaml names no such split.
        """
        if name not in self.splits:
            raise UserError(f"has no `{name}` split", where=self.yaml, hint=f"use one of {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def levels_entry(self) -> dict[str, list[float]]:
        """The levels as checkpoints and metrics.json hold them; nothing where no picture has more than 8 bits."""
        return {"levels": self.levels.pair} if self.levels else {}

    @property
    def channels_entry(self) -> dict[str, int]:
        """How many channels the pictures have, as checkpoints hold it; nothing for the 3 of RGB."""
        return {} if self.format.channels == 3 else {"in_channels": self.format.channels}

    @property
    def held_out(self) -> str:
        """The split for figures to report: test where there is one, else val."""
        return "test" if "test" in self.splits else "val"


class Box(NamedTuple):
    """A box in pixels, half-open and inside the image; clipped: it reached out of it."""

    x1: float
    y1: float
    x2: float
    y2: float
    clipped: bool = False


class Mask(Protocol):
    """Which class each pixel of an image is of: 0 is the background, n the n-th name, 255 does not count."""

    def pixels(self, size_hw: tuple[int, int]) -> np.ndarray:
        """[H, W] uint8 at the size of the image."""

    def identity(self) -> bytes:
        """What distinguishes it from another, without painting it."""

    def content(self) -> bytes:
        """What distinguishes it from any other."""


@dataclass(frozen=True)
class Record:
    """One image, its true boxes and its classes.

    Attributes:
        image: the image file; where the image is no file of its own, `file#row`, for messages only.
        size_hw: height and width in pixels.
        boxes_xyxy: [n, 4] float32 pixels of the original image, half-open.
        labels: [n] int64 class indices of the boxes.
        difficult: [n] bool: boxes that the data set calls so (VOC).
        classes: [m] int64 class indices of the image where the data set states them; None: those of the boxes.
        pixels: [H, W, 3] uint8 RGB, or [H, W, 1] of grey values, where the image is no file of its own.
        group: whose image it is, a patient's for example; images of one group are never parted.
        clipped: how many boxes reached out of the image.
        crowd: [n] bool: boxes around many things together (COCO's `iscrowd`); None for none.
        areas: [n] pixels within the outlines that the boxes go around, where the data set states; None: those of boxes.
        levels: which values become black and white, where the image has more than 8 bits.
        number: the image's own number, where the data set gives one: COCO's `id`.
        mask: which class each pixel is of, where that was asked for (data/masks.py).
        captions: what people wrote of the image, where the data set has it.
    """

    image: Path
    size_hw: tuple[int, int]
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    classes: np.ndarray | None = None
    pixels: np.ndarray | None = None
    group: str | None = None
    clipped: int = 0
    crowd: np.ndarray | None = None
    areas: np.ndarray | None = None
    levels: Levels | None = None
    number: int | str | None = None
    mask: Mask | None = None
    captions: tuple[str, ...] = ()

    @property
    def asked(self) -> np.ndarray:
        """[n] bool: the boxes that count, neither difficult nor around a crowd.

        The one rule: these are learnt from, demanded by AP and mean IoU, explained and cut out. The others are neither
        demanded nor blamed.
        """
        return ~self.difficult if self.crowd is None else ~(self.difficult | self.crowd)

    @property
    def stated(self) -> np.ndarray:
        """Classes of the picture as a whole: those that the data set states, else those of the boxes that count."""
        return self.labels[self.asked] if self.classes is None else self.classes


def make_record(
    image: Path,
    size_hw: tuple[int, int],
    boxes_xyxy: Sequence[Sequence[float]] = (),
    labels: Sequence[int] = (),
    difficult: Sequence[bool] | None = None,
    *,
    classes: Sequence[int] | None = None,
    pixels: np.ndarray | None = None,
    group: str | None = None,
    crowd: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> Record:
    """A record from plain lists; no box is difficult where `difficult` is None."""
    return Record(
        image,
        size_hw,
        np.array([box[:4] for box in boxes_xyxy], np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool) if difficult is None else np.array(difficult, bool),
        None if classes is None else np.array(classes, np.int64),
        pixels,
        group,
        sum(isinstance(box, Box) and box.clipped for box in boxes_xyxy),
        None if crowd is None else np.array(crowd, bool),
        None if areas is None else np.array(areas, np.float64),
    )


@dataclass(frozen=True)
class Problem:
    """Something damaged that was left out."""

    where: str
    what: str
    hint: str

    def error(self) -> UserError:
        """The problem as an error, for --strict."""
        return UserError(self.what, where=self.where, hint=self.hint)


@dataclass(frozen=True)
class Notice:
    """Something that is not as one might think, though nothing is damaged.

    Attributes:
        what: said of the places, as in `pictures without a label file`.
        places: files, lines or names; all of them.
        more: what else there is to say.
    """

    what: str
    places: Sequence[str]
    more: str = ""

    def line(self) -> str:
        """How many there are, the first of them, and what else there is to say."""
        shown = ", ".join(own if len(own) <= LONGEST else f"{own[:LONGEST]}…" for own in self.places[:NAMED])
        shown += " and others" if len(self.places) > NAMED else ""
        return f"{counted(len(self.places), self.what)}: {shown}" + (f"; {self.more}" if self.more else "")


@dataclass(frozen=True)
class Split:
    """Readable part of one split of a data set.

    Attributes:
        problems: what is damaged and left out.
        notices: what is read in another way than one might think.
        of: the split of the yaml that it was held out of; None where it is one of the yaml's itself.
    """

    name: str
    description: Description
    records: list[Record]
    problems: list[Problem] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    of: str | None = None

    @property
    def listed(self) -> str:
        """The split of the yaml whose files list its pictures."""
        return self.of or self.name

    @property
    def digest(self) -> str:
        """16 hex digits of what is judged: names and sizes of the images, classes, boxes and what they count for."""
        found = hashlib.sha256(repr(self.description.names).encode())
        for own in self.records:
            found.update(repr((own.image.name, own.size_hw)).encode())
            for part in (own.boxes_xyxy, own.labels, own.difficult, own.classes, own.crowd):
                found.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        return found.hexdigest()[:16]

    def summary(self) -> str:
        """One line of counts: boxes, or classes where there are no boxes; then the first problems, a line each."""
        boxes = sum(len(record.labels) for record in self.records)
        unboxed = not boxes and any(record.classes is not None for record in self.records)
        things = counted(len(self.description.names), "classes") if unboxed else counted(boxes, "boxes")
        clipped = sum(record.clipped for record in self.records)
        counts = f"{counted(len(self.records), 'images')}, {things}, {len(self.problems)} left out"
        lines = [f"{self.name}: {counts}" + (f", {clipped} clipped to their image" if clipped else "")]
        if masks := sum(record.mask is not None for record in self.records):
            lines.append(f"  {counted(masks, 'images with masks')}")
        if deep := sum(record.levels is not None for record in self.records):
            lines.append(f"  {counted(deep, 'images of more than 8 bits')}: {self.description.levels}")
        lines += [f"  left out {problem.where}: {problem.what}" for problem in self.problems[:LISTED]]
        further = len(self.problems) - LISTED
        lines += [f"  and {further} more"] if further > 0 else []
        return "\n".join(lines + [f"  {notice.line()}" for notice in self.notices])
