"""What a classifier is shown of a data set: whole pictures, or the objects in them, at one size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import nn
from torchvision.transforms import v2

from data.objects import CutOut, Window, border_level, no_object, objects_of, say_more
from data.records import Split
from data.transforms import eval_transform, last, pretrain_transform
from utils.config import Augment, Pretrain, Recipe

Source = Literal["objects", "pictures"]


@dataclass(frozen=True)
class View:
    """How a classifier that learnt from objects or from pictures is shown others.

    Attributes:
        source: `objects`, each true box a picture of its class, or `pictures`.
        imgsz: side of the square input, pixels.
        fit: of pictures, `letterbox` or `center`; `square` of larger ones.
        context: of objects, surroundings as a fraction of the box's longer side.
    """

    source: Source
    imgsz: int
    fit: str = "letterbox"
    context: float = 0.0

    @classmethod
    def of(cls, phase: Pretrain) -> "View":
        """The view that a settled pre-training section learns from."""
        assert phase.source != "auto", "the source is settled once the data are read"
        assert phase.imgsz is not None
        objects = phase.source == "objects"
        return cls(phase.source, phase.imgsz, "window" if objects else phase.view, phase.context if objects else 0.0)

    @property
    def about(self) -> str:
        """In the words of a legend."""
        return f"{self.source}, {self.imgsz} px, {self.fit}" + (f" {self.context:g}" if self.context else "")

    def larger(self, imgsz: int) -> "View":
        """The same view at a size that windows of its own size are taken from: the whole shorter side, no middle."""
        return replace(self, imgsz=imgsz, fit="square" if self.fit == "center" else self.fit)

    def transform(self) -> nn.Module:
        """Picture and boxes as they are judged, without any draw."""
        if self.source == "objects":
            return CutOut(self.imgsz, Window(self.context))
        return eval_transform(self.imgsz, self.fit)

    def shown(self, split: Split) -> tuple[Split, str]:
        """What is judged of a split, and a line that says so; pictures as they are, objects cut out.

        Raises:
            UserError: no object can be cut out.
        """
        return objects_of(split) if self.source == "objects" else (split, split.summary())

    def border(self, shown: Split) -> float:
        """What the grey outside the pictures alone says of what is shown: `border_level` of objects, else 0."""
        return border_level(shown, self.context) if self.source == "objects" else 0.0


def training_view(phase: Pretrain, augment: Augment) -> nn.Module:
    """Picture and boxes as a classifier learns from them: another draw for each epoch and picture."""
    view = View.of(phase)
    if view.source == "pictures":
        return pretrain_transform(view.imgsz, augment, phase.crop)
    cut = CutOut(view.imgsz, Window(view.context, phase.jitter))
    return v2.Compose([cut, v2.RandomHorizontalFlip(augment.fliplr), *last(view.imgsz, augment)])


def settled(recipe: Recipe, sides: Sequence[Split]) -> tuple[Recipe, str]:
    """The recipe with the source of pre-training that suits the data, where it leaves that open.

    Args:
        sides: what the backbone learns from, then what it is judged on: whole pictures.

    Returns:
        The recipe; and why it is pictures though boxes say more, else nothing.
    """
    if recipe.pretrain.source != "auto":
        return recipe, ""
    more = say_more(sides[0])
    why = next(filter(None, map(no_object, sides)), "") if more else ""
    source = "objects" if more and not why else "pictures"
    recipe = recipe.model_copy(update={"pretrain": recipe.pretrain.model_copy(update={"source": source})})
    return recipe, f"backbone: pictures, not objects: {why}" if why else ""
