"""A map of evidence, and how it is brought to the size of its image."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from maps.frame import Frame

NO_INFLUENCE, NOT_FOUND = 1, 2  # why a map is absent


@dataclass(frozen=True)
class Evidence:
    """Maps of one kind at one cut.

    Attributes:
        maps: [B, h, w], none below zero.
        raw: [B, h, w] before rectification, which decides among zeros; None where nothing was rectified.
        frame: where the cells are in the image; None: they share it out evenly.
        absent: [B] 0 where there is a map; NO_INFLUENCE where the features cannot change what is explained, NOT_FOUND
            where there is nothing to explain. Such a map is not measured. None: all are there.
    """

    maps: Tensor
    raw: Tensor | None = None
    frame: Frame | None = None
    absent: np.ndarray | None = None

    def at(self, height: int, width: int) -> "Evidence":
        """The same at the size of the image."""
        if self.frame is None and self.maps.shape[1:] == (height, width):
            return self
        resize = resized if self.frame is None else self.frame.placed
        raw = None if self.raw is None else resize(self.raw, height, width)
        return Evidence(resize(self.maps, height, width), raw, absent=self.absent)


def signed(raw: Tensor, frame: Frame | None = None) -> Evidence:
    """What is positive of a map [B, h, w]."""
    return Evidence(raw.relu(), raw, frame)


def resized(maps: Tensor, height: int, width: int) -> Tensor:
    """[B, h, w] → [B, height, width]: bilinear, pixels as areas."""
    return interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]
