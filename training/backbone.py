"""Weights that a run begins with or takes over: into a backbone before it is trained, into a detector or segmenter."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from models.backbone import Backbone
from models.backbones import make_backbone
from models.channels import fitted
from models.detectors import DETECTORS, Settings
from models.families import aside
from models.fcn import FCN
from models.network import DetectorNetwork
from models.weights_files import Content, read_weights
from training.check import check_reused
from utils import checkpoint
from utils.config import Recipe
from utils.console import console
from utils.text import counted


def load_backbone(path: Path, recipe: Recipe) -> Content:
    """Read a backbone file, or a weight file of another format, that fits the recipe.

    Raises:
        UserError: no whole file, or one of another backbone or width.
    """
    return read_weights(path, recipe.backbone, recipe.width)


def reuse_backbone(backbone: Backbone, path: Path, recipe: Recipe, content: Content | None = None) -> None:
    """Load the blocks up to recipe.reuse_upto from a backbone file, and fix them if the recipe says so.

    Of a file that holds the first blocks alone, these are loaded and fixed.

    Args:
        content: of the file, where it was read already.

    Raises:
        UserError: there is no such block, or a cascade was not cut there: blocks inside a sub-module were never
            trained to be used without the rest of it.
    """
    content, whole = content or load_backbone(path, recipe), len(backbone.blocks)
    count = whole if recipe.reuse_upto is None else int(recipe.reuse_upto.removeprefix("b"))
    check_reused(recipe, path.name, cuts_of(content, whole))
    model = fitted(content["model"], backbone)
    reused = {name: tensor for name, tensor in model.items() if block_number(name) <= count}
    own = backbone.state_dict()
    checkpoint.load_state(backbone, own | reused, path)
    backbone.reused = count if own.keys() <= model.keys() else min(count, max(map(block_number, model)))
    if recipe.freeze:
        backbone.freeze(backbone.reused)


def cuts_of(content: Content, blocks: int) -> list[int]:
    """Where the sub-modules of a file end; of a network of so many blocks that was trained whole, after the last."""
    return [stop for _, stop in content["splits"]] if content["method"].startswith("cl") else [blocks]


def begin_detector(
    model: DetectorNetwork | FCN, path: Path, recipe: Recipe, content: Content, names: Sequence[str]
) -> None:
    """Load the backbone and all else of such a network in the file; what predicts other classes starts afresh.

    Args:
        names: of the classes that it is to find.
    """
    reuse_backbone(model.backbone, path, recipe, content)
    if not (rest := content.get("rest")):
        return
    own = model.state_dict()
    others = of_classes(recipe, model) if list(content.get("names", names)) != list(names) else set()
    fits = {
        key: value for key, value in rest.items() if key in own and own[key].shape == value.shape and key not in others
    }
    model.load_state_dict(own | fits)
    if afresh := [key for key in own if not key.startswith("backbone.") and key not in fits]:
        why = why_afresh(rest.get(afresh[0]), own[afresh[0]])
        what = "segmenter" if isinstance(model, FCN) else "detector"
        console.print(f"{counted(len(afresh), f'tensors of the {what} start afresh')}, first {afresh[0]} {why}")


def of_classes(recipe: Recipe, model: DetectorNetwork | FCN) -> set[str]:
    """The weights of a recipe's detector or segmenter whose shape depends on the number of classes."""
    if isinstance(model, FCN):  # scores, and what enlarges them
        return {key for key in model.state_dict() if not key.startswith("backbone.")}
    entry = DETECTORS[recipe.detector]
    with aside():
        one, two = (
            entry.network(
                make_backbone(recipe.backbone, recipe.width, model.backbone.in_channels),
                Settings(classes, recipe.imgsz),
            ).state_dict()
            for classes in (1, 2)
        )
    return {key for key in one if one[key].shape != two[key].shape}


def why_afresh(theirs: Tensor | None, own: Tensor) -> str:
    """In the words of a line on a weight that was not taken over."""
    if theirs is None:
        return ""
    return "(other classes)" if theirs.shape == own.shape else f"{tuple(theirs.shape)} there, {tuple(own.shape)} here"


def block_number(name: str) -> int:
    """1-based block of a parameter, whose name starts with `blocks.<index>`."""
    return int(name.split(".")[1]) + 1
