"""What every reader of a data format is given and returns: description → images with boxes, and what was left out."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from utils.errors import UserError

VERIFY_THREADS = max(4, os.cpu_count() or 1)
LISTED = 20  # problems that a summary names one by one


@dataclass(frozen=True)
class Format:
    """How a data format is read, and what its data can train.

    Attributes:
        read: (description, name of the split) → the split.
        single_label: exactly one class an image (softmax); else any number of them (sigmoid).
        boxed: images come with boxes that a detector can be trained on.
        names: (root folder, what the yaml calls the training split) → class names in the order of their indices;
            None where the format does not tell them.
    """

    read: Callable[["Description", str], "Split"]
    single_label: bool
    boxed: bool
    names: Callable[[Path, str], list[str]] | None = None


@dataclass(frozen=True)
class Description:
    """A data set: its yaml, its root folder, its format, its splits and its classes.

    Attributes:
        splits: train, val, test → what the yaml calls them, where it has them.
        images: folder of the images, where the yaml names one.
    """

    yaml: Path
    root: Path
    format: Format
    splits: dict[str, str]
    names: list[str]
    images: Path | None = None

    @property
    def single_label(self) -> bool:
        """Exactly one class an image (softmax), else any number of them (sigmoid)."""
        return self.format.single_label

    @property
    def boxed(self) -> bool:
        """Images come with boxes that a detector can be trained on."""
        return self.format.boxed

    def split(self, name: str) -> str:
        """What the yaml calls a split.

        Raises:
            UserError: the yaml names no such split.
        """
        if name not in self.splits:
            raise UserError(f"has no `{name}` split", where=self.yaml, mend=f"use one of {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def held_out(self) -> str:
        """The split for figures to report: test where there is one, else val."""
        return "test" if "test" in self.splits else "val"


@dataclass(frozen=True)
class Record:
    """One image, its true boxes and its classes.

    Attributes:
        image: the image file; where the image is no file of its own, `file#row`, for messages only.
        size_hw: height and width in pixels.
        boxes_xyxy: [n, 4] float32 pixels of the original image, half-open.
        labels: [n] int64 class indices of the boxes.
        difficult: [n] bool: boxes that evaluation neither demands nor blames.
        classes: [m] int64 class indices of the image where the data set states them; None: those of the boxes.
        pixels: [H, W, 3] uint8 RGB where the image is no file of its own.
        group: whose image it is, a patient's for example; images of one group are never parted.
    """

    image: Path
    size_hw: tuple[int, int]
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray
    classes: np.ndarray | None = None
    pixels: np.ndarray | None = None
    group: str | None = None


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
) -> Record:
    """A record from plain lists; no box is difficult where `difficult` is None."""
    return Record(
        image,
        size_hw,
        np.array(boxes_xyxy, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.zeros(len(labels), bool) if difficult is None else np.array(difficult, bool),
        None if classes is None else np.array(classes, np.int64),
        pixels,
        group,
    )


@dataclass(frozen=True)
class Problem:
    """Something damaged that was left out."""

    where: str
    what: str
    mend: str

    def error(self) -> UserError:
        """The problem as an error, for --strict."""
        return UserError(self.what, where=self.where, mend=self.mend)


@dataclass(frozen=True)
class Split:
    """Readable part of one split of a data set."""

    name: str
    description: Description
    records: list[Record]
    problems: list[Problem] = field(default_factory=list)

    def summary(self) -> str:
        """One line of counts: boxes, or classes where there are no boxes; then the first problems, a line each."""
        boxes = sum(len(record.labels) for record in self.records)
        unboxed = not boxes and any(record.classes is not None for record in self.records)
        things = f"{len(self.description.names)} classes" if unboxed else f"{boxes} boxes"
        lines = [f"{self.name}: {len(self.records)} images, {things}, {len(self.problems)} left out"]
        lines += [f"  left out {problem.where}: {problem.what}" for problem in self.problems[:LISTED]]
        further = len(self.problems) - LISTED
        return "\n".join(lines + ([f"  and {further} more"] if further > 0 else []))


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a readable image.

    Decodes all of it, JPEGs at an eighth of their size, so that a truncated file is found here, not in training.

    Raises:
        OSError: missing, truncated or no image.
    """
    with Image.open(path) as image:
        width, height = image.size
        image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
        image.load()
    return height, width


def check_image(path: Path) -> tuple[int, int] | Problem:
    """Size of an image, or what is wrong with it."""
    try:
        return image_size(path)
    except FileNotFoundError:
        return Problem(str(path), "the image does not exist", "add it, or take its name off the list")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        what = "not an image" if isinstance(error, UnidentifiedImageError) else f"damaged image ({error})"
        return Problem(str(path), what, "replace the file, or take its name off the list")


def check_images(paths: list[Path]) -> list[tuple[int, int] | Problem]:
    """check_image for many, in threads: decoding releases the interpreter."""
    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        return list(pool.map(check_image, paths))
