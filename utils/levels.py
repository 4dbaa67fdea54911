"""Levels: which values of a picture of more than 8 bits become black and white (in radiology, its window)."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError

BLACK, WHITE = 0.1, 99.9  # percentiles of the values that occur
PART = 2**20  # values that are worked on at once: a large picture would take eight times its memory
SAMPLED = 2**16  # values of each picture that count for them


@dataclass(frozen=True)
class Levels:
    """Values up to `black` become 0, values from `white` on 255, those between are on a line.

    Attributes:
        black, white: in the units of the file; of DICOM after its rescale slope and intercept.
        source: where both come from, for messages; it makes no other levels.
    """

    black: float
    white: float
    source: str = field(default="", compare=False)

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Uint8 of values of any type and shape; what is no number becomes 0."""
        reach = (self.white - self.black) or 1.0
        flat, found = values.reshape(-1), np.empty(values.size, np.uint8)
        for start in range(0, len(flat), PART):
            part = flat[start : start + PART].astype(np.float64)
            inside = np.nan_to_num(part, nan=self.black).clip(self.black, self.white)
            found[start : start + PART] = np.rint((inside - self.black) / reach * 255)
        return found.reshape(values.shape)

    @classmethod
    def stored(cls, content: Mapping[str, Any], where: str | Path) -> "Levels | None":
        """The levels in a checkpoint; None where there are none.

        Raises:
            UserError: they are no two numbers.
        """
        if (pair := content.get("levels")) is None:
            return None
        numbers = isinstance(pair, list) and len(pair) == 2 and all(isinstance(own, int | float) for own in pair)
        if not numbers or not -math.inf < pair[0] <= pair[1] < math.inf:
            raise UserError(f"levels are {str(pair)[:60]}", where=where, hint="use a file that this project wrote")
        return cls(pair[0], pair[1], "as in training")

    @property
    def pair(self) -> list[float]:
        """Black and white as plain numbers, as checkpoints and metrics.json hold them."""
        return [self.black, self.white]

    def __str__(self) -> str:
        return f"values from {self.black:g} to {self.white:g} become 0 to 255 ({self.source})"


def levels_of(samples: Iterable[np.ndarray], source: str) -> Levels:
    """Levels by the percentiles of values that occur in one or several pictures."""
    values = np.concatenate([sample_values(sample) for sample in samples])
    black, white = np.percentile(values, (BLACK, WHITE)).tolist() if len(values) else (0.0, 1.0)
    return Levels(black, white, f"{BLACK:g} and {WHITE:g} % of {source}")


def occurring(values: np.ndarray, padding: tuple[float, float] | None) -> np.ndarray:
    """The values of a picture without those from the first to the last that fill what is outside it."""
    if padding is None or values.dtype == np.uint8:
        return values
    first, last = np.array(padding, values.dtype if values.dtype.kind == "f" else np.float64)  # as the file rounds them
    return values[(values < first) | (values > last)]


def sample_values(values: np.ndarray) -> np.ndarray:
    """[n] float64 of at most about SAMPLED finite values of a picture, evenly spread through it."""
    flat = values.reshape(-1)
    some = flat[:: (len(flat) // SAMPLED) | 1].astype(np.float64)  # an odd step does not stay in one column
    own: np.ndarray = some[np.isfinite(some)]
    return own
