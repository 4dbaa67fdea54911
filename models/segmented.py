"""The class of every pixel of a picture, and the picture with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from models.found import Shown
from utils.draw import draw_mask, picture_file
from utils.files import written_whole
from utils.levels import Levels
from utils.palette import palette
from utils.pictures import Picture, pixels_of


@dataclass(frozen=True, eq=False)
class Segmented(Shown):
    """What each pixel of a picture is.

    Attributes:
        mask: [H, W] uint8, 0 for the background, n for the n-th name.
        names: of the classes, without the background.
        picture: as it was given; a file is read again when it is drawn.
        where: the file or address that it comes from, empty for pixels.
        number: its place in a video or stream, from 1; None for a picture of its own.
        levels: with which a picture of more than 8 bits was looked at.
    """

    mask: np.ndarray
    names: Sequence[str]
    picture: Picture
    where: str = ""
    number: int | None = None
    levels: Levels | None = None

    def __len__(self) -> int:
        """How many classes there are in it."""
        return len(self.shares)

    @property
    def shares(self) -> dict[str, float]:
        """Fraction of the pixels by class, of those that are there; the background is none."""
        counts = np.bincount(self.mask.ravel(), minlength=len(self.names) + 1)[1:] / self.mask.size
        return {name: float(own) for name, own in zip(self.names, counts, strict=True) if own}

    def plot(self) -> Image.Image:
        """The picture under the colours of the classes, with their names.

        Raises:
            UserError: its file cannot be read any more.
        """
        return Image.fromarray(draw_mask(pixels_of(self.picture, "plot", self.levels), self.mask, self.names))

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
