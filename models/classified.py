"""The likeliest classes of a picture, and the picture with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from models.shown import Shown
from utils.draw import with_legend
from utils.text import as_terminal, printable


@dataclass(frozen=True, eq=False)
class Classified(Shown):
    """What a picture shows, likeliest class first.

    Attributes:
        labels: [k] indices of the classes.
        names: [k] of the labels.
        logits: [k] what the network says.
        scores: [k] probabilities, 0–1.
        size_hw: height and width of the picture.
    """

    labels: Sequence[int]
    names: Sequence[str]
    logits: Sequence[float]
    scores: Sequence[float]
    size_hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        """The picture's name, and below it place, logit, probability and name of each class."""
        rows = [
            [f"#{place}", f"({logit:.2f})", f"{score:.3f}", printable(name)]
            for place, (logit, score, name) in enumerate(zip(self.logits, self.scores, self.names, strict=True), 1)
        ]
        frame = "" if self.number is None else f", frame {self.number}"
        return f"{printable(self.where or 'a picture')}{frame}\n{as_terminal(rows)}"

    def plot(self) -> Image.Image:
        """The picture with the likeliest classes and their probabilities at its left, as many as there is room for."""
        lines = [(f"{name} {score:.2f}", label % 255 + 1) for name, score, label in self.columns]
        return with_legend(Image.fromarray(self.pixels), lines)

    @property
    def columns(self) -> list[tuple[str, float, int]]:
        """Name, probability and index of each class."""
        return list(zip(self.names, self.scores, self.labels, strict=True))

    def to_dict(self) -> dict[str, Any]:
        """The classes as classes.json holds them."""
        rows = zip(self.labels, self.names, self.logits, self.scores, strict=True)
        classes = [{"class": label, "name": name, "logit": logit, "score": score} for label, name, logit, score in rows]
        return {**self.origin, "size_hw": list(self.size_hw), "classes": classes}
