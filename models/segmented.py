"""The class of every pixel of a picture, and the picture with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.shown import Shown
from utils.draw import draw_mask, picture_file
from utils.files import written_whole
from utils.palette import palette


@dataclass(frozen=True, eq=False)
class Segmented(Shown):
    """What each pixel of a picture is.

    Attributes:
        mask: [H, W] uint8, 0 for the background, n for the n-th name.
        names: of the classes, without the background.
    """

    mask: np.ndarray
    names: Sequence[str]

    def __len__(self) -> int:
        """How many classes there are in it."""
        return len(self.shares)

    @property
    def shares(self) -> dict[str, float]:
        """Fraction of the pixels by class, of those that are there; the background is none."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.names) + 1)[1:] / self.mask.size
        return {name: float(own) for name, own in zip(self.names, counts, strict=True) if own}

    def plot(self) -> Image.Image:
        """The picture under the colours of the classes, with their names."""
        return Image.fromarray(draw_mask(self.pixels, self.mask, self.names))

    def save_mask(self, path: str | Path) -> Path:
        """Write the class numbers as a .png with the palette of Pascal VOC, and give its path.

        Raises:
            UserError: another suffix, or the folder cannot be written.
        """
        path = picture_file(path, (".png",))
        image = Image.fromarray(self.mask, "P")
        image.putpalette(palette().tobytes())
        with written_whole(path) as temporary:
            image.save(temporary, format="PNG")
        return path
