"""What was found in a picture, and the picture with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from models.shown import Shown
from utils.boxes import Detections
from utils.draw import draw_detections


@dataclass(frozen=True, eq=False)
class Found(Shown, Detections):
    """What was found in one picture, best first.

    Attributes:
        boxes_xyxy: [n, 4] in pixels of the picture, upright.
        scores: [n] in 0–1.
        labels: [n] indices of the classes.
        names: [n] of the labels.
        size_hw: height and width of the picture.
    """

    names: list[str]
    size_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        height, width = self.size_hw
        boxes = ", ".join(f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True))
        return f"Found({self.where or 'a picture'}, {width}×{height}: {boxes or 'nothing'})"

    def plot(self) -> Image.Image:
        """The picture with boxes, class names and scores; the surest are on top."""
        classes = dict(zip(self.labels.tolist(), self.names, strict=True))
        return Image.fromarray(draw_detections(self.pixels, self, classes))

    def to_dict(self) -> dict[str, Any]:
        """The detections as detections.json holds them: plain values, boxes x1 y1 x2 y2 in pixels."""
        parts: tuple[Sequence[Any], ...] = (self.boxes_xyxy.tolist(), self.scores.tolist(), self.labels.tolist())
        boxes = [
            {"box_xyxy": box, "score": score, "class": label, "name": name}
            for box, score, label, name in zip(*parts, self.names, strict=True)
        ]
        return {**self.origin, "size_hw": list(self.size_hw), "boxes": boxes}
