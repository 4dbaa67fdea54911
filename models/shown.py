"""What is shared by all that a network says of one picture."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from utils.draw import picture_file, save_image
from utils.levels import Levels
from utils.pictures import Picture, pixels_of


@dataclass(frozen=True, eq=False, kw_only=True)
class Shown(ABC):
    """What a network says of one picture.

    Attributes:
        picture: as it was given; a file is read again when it is drawn, so that many of them fit into memory.
        where: the file or address that it comes from, empty for pixels.
        number: its place in a video or stream, from 1; None for a picture of its own.
        levels: with which a picture of more than 8 bits was looked at.
    """

    picture: Picture
    where: str = ""
    number: int | None = None
    levels: Levels | None = None

    @property
    def pixels(self) -> np.ndarray:
        """The picture [H, W, 3] uint8.

        Raises:
            UserError: its file cannot be read any more.
        """
        return pixels_of(self.picture, "plot", self.levels)

    @property
    def origin(self) -> dict[str, Any]:
        """Where the picture comes from, as the JSON files hold it."""
        return {"image": self.where} | ({} if self.number is None else {"frame": self.number})

    @abstractmethod
    def plot(self) -> Image.Image:
        """The picture with what is said of it.

        Raises:
            UserError: its file cannot be read any more.
        """

    def save(self, path: str | Path) -> Path:
        """Write `plot` to a file, .jpg or .png, and give its path.

        Raises:
            UserError: another suffix, or the folder cannot be written.
        """
        path = picture_file(path)
        save_image(self.plot(), path)
        return path
