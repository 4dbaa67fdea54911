"""Weights that a run begins with or takes over: into a backbone before it is trained, into a detector or segmenter."""

from pathlib import Path

from models.backbone import Backbone
from models.channels import fitted
from models.fcn import FCN
from models.network import DetectorNetwork
from models.weights_files import Content, read_weights
from utils import checkpoint
from utils.config import Recipe
from utils.console import console
from utils.errors import UserError


def load_backbone(path: Path, recipe: Recipe) -> Content:
    """Read a backbone file, or a weight file of another format, that fits the recipe.

    Raises:
        UserError: no whole file, or one of another backbone or width.
    """
    return read_weights(path, recipe.backbone, recipe.width)


def reuse_backbone(backbone: Backbone, path: Path, recipe: Recipe, content: Content | None = None) -> None:
    """Load the blocks up to recipe.reuse_upto from a backbone file, and fix them if the recipe says so.

    Args:
        content: of the file, where it was read already.

    Raises:
        UserError: there is no such block, or a cascade was not cut there: blocks inside a sub-module were never
            trained to be used without the rest of it.
    """
    content, whole = content or load_backbone(path, recipe), len(backbone.blocks)
    count = reused_count(recipe, backbone)
    cuts = [stop for _, stop in content["splits"]] if content["method"].startswith("cl") else list(range(1, whole + 1))
    if len(cuts) > 1 and count not in cuts:
        reached = ", ".join(f"b{cut}" for cut in cuts)
        what = f"no sub-module of {path.name} ends at b{count}"
        raise UserError(what, where="--reuse-upto", hint=f"give one of {reached}, or pre-train with other cuts")
    model = fitted(content["model"], backbone)
    reused = {name: tensor for name, tensor in model.items() if block_number(name) <= count}
    checkpoint.load_state(backbone, backbone.state_dict() | reused, path)
    if recipe.freeze:
        backbone.freeze(count)


def reused_count(recipe: Recipe, backbone: Backbone) -> int:
    """How many first blocks keep the weights that they were given."""
    return len(backbone.blocks) if recipe.reuse_upto is None else int(recipe.reuse_upto.removeprefix("b"))


def begin_detector(model: DetectorNetwork | FCN, path: Path, recipe: Recipe, content: Content) -> None:
    """Load the backbone and all else of such a network in the file; what predicts other classes starts afresh."""
    reuse_backbone(model.backbone, path, recipe, content)
    if not (rest := content.get("rest")):
        return
    own = model.state_dict()
    fits = {key: value for key, value in rest.items() if key in own and own[key].shape == value.shape}
    model.load_state_dict(own | fits)
    afresh = [key for key in own if not key.startswith("backbone.") and key not in fits]
    if afresh:
        shapes = (
            f"{tuple(rest[afresh[0]].shape)} there, {tuple(own[afresh[0]].shape)} here" if afresh[0] in rest else ""
        )
        what = "segmenter" if isinstance(model, FCN) else "detector"
        console.print(f"{len(afresh)} tensors of the {what} start afresh, first {afresh[0]} {shapes}")


def block_number(name: str) -> int:
    """1-based block of a parameter, whose name starts with `blocks.<index>`."""
    return int(name.split(".")[1]) + 1
