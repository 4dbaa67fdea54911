"""What was found in a picture, and the picture with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from utils.boxes import Detections
from utils.draw import draw_detections, picture_file, save_image
from utils.levels import Levels
from utils.pictures import Picture, pixels_of


class Shown:
    """What a network says of one picture, with a picture of it.

    Attributes:
        where: the file or address that it comes from, empty for pixels.
        number: its place in a video or stream, from 1; None for a picture of its own.
    """

    where: str
    number: int | None

    def plot(self) -> Image.Image:
        """The picture with what is said of it."""
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Write `plot` to a file, .jpg or .png, and give its path.

        Raises:
            UserError: another suffix, or the folder cannot be written.
        """
        path = picture_file(path)
        save_image(self.plot(), path)
        return path

    @property
    def origin(self) -> dict[str, Any]:
        """Where the picture comes from, as the JSON files hold it."""
        return {"image": self.where} | ({} if self.number is None else {"frame": self.number})


@dataclass(frozen=True, eq=False)
class Found(Shown, Detections):
    """What was found in one picture, best first.

    Attributes:
        boxes_xyxy: [n, 4] in pixels of the picture, upright.
        scores: [n] in 0–1.
        labels: [n] indices of the classes.
        names: [n] of the labels.
        picture: as it was given; a file is read again when it is drawn, so that many of them fit into memory.
        size_hw: its height and width.
        where: the file or address that it comes from, empty for pixels.
        number: its place in a video or stream, from 1; None for a picture of its own.
        levels: with which a picture of more than 8 bits was looked at.
    """

    names: list[str]
    picture: Picture
    size_hw: tuple[int, int]
    where: str = ""
    number: int | None = None
    levels: Levels | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.size_hw
        boxes = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True))
        return f"Found({self.where or 'a picture'}, {width}×{height}: {boxes or 'nothing'})"

    def plot(self) -> Image.Image:
        """The picture with boxes, class names and scores; the surest are on top.

        Raises:
            UserError: its file cannot be read any more.
        """
        classes = dict(zip(self.labels.tolist(), self.names, strict=True))
        return Image.fromarray(draw_detections(pixels_of(self.picture, "plot", self.levels), self, classes))

    def to_dict(self) -> dict[str, Any]:
        """The detections as detections.json holds them: plain values, boxes x1 y1 x2 y2 in pixels."""
        parts: tuple[Sequence[Any], ...] = (self.boxes_xyxy.tolist(), self.scores.tolist(), self.labels.tolist())
        boxes = [
            {"box_xyxy": box, "score": score, "class": label, "name": name}
            for box, score, label, name in zip(*parts, self.names, strict=True)
        ]
        return {**self.origin, "size_hw": list(self.size_hw), "boxes": boxes}
