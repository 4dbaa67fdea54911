"""What every reader of a data format returns: images with boxes, and what was left out and why."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from data.description import Description
from utils.errors import UserError

VERIFY_THREADS = 4


@dataclass(frozen=True)
class Record:
    """One image and its true boxes.

    Attributes:
        boxes_xyxy: [n, 4] float32 pixels of the original image, half-open.
        labels: [n] class indices.
        difficult: [n] boxes that evaluation neither demands nor blames.
        size_hw: height and width in pixels.
    """

    image: Path
    size_hw: tuple[int, int]
    boxes_xyxy: np.ndarray
    labels: np.ndarray
    difficult: np.ndarray


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
        """One line: counts, and each problem on a line of its own."""
        boxes = sum(len(record.labels) for record in self.records)
        lines = [f"{self.name}: {len(self.records)} images, {boxes} boxes, {len(self.problems)} left out"]
        return "\n".join(lines + [f"  left out {problem.where}: {problem.what}" for problem in self.problems])


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a readable image.

    Decodes all of it, JPEGs at an eighth of their size, so that a truncated file is found here, not in training.

    Raises:
        OSError: missing, truncated or no image.
    """
    with Image.open(path) as image:
        width, height = image.size
        image.draft("RGB", (width // 8, height // 8))
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
