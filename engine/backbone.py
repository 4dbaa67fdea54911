"""Taking pre-trained weights over into a detector's backbone."""

from pathlib import Path
from typing import Any

from models.backbone import Backbone
from utils import checkpoint
from utils.config import Recipe
from utils.errors import UserError


def load_backbone(path: Path, recipe: Recipe) -> dict[str, Any]:
    """Read a backbone file that fits the recipe.

    Raises:
        UserError: no whole backbone file, or one of another backbone or width.
    """
    content = checkpoint.load(path, "backbone")
    for key, wanted in (("backbone", recipe.backbone), ("width", recipe.width)):
        if content[key] != wanted:
            raise UserError(f"{key} is {content[key]}, not {wanted}", where=path, mend=f"give --{key} {content[key]}")
    return content


def reuse_backbone(backbone: Backbone, path: Path, recipe: Recipe) -> None:
    """Load the blocks up to recipe.reuse_upto from a backbone file, and fix them if the recipe says so.

    Raises:
        UserError: there is no such block, or a cascade was not cut there: what its sub-modules hold inside was never
            trained to stand alone.
    """
    content, whole = load_backbone(path, recipe), len(backbone.blocks)
    count = whole if recipe.reuse_upto is None else int(recipe.reuse_upto.removeprefix("b"))
    cuts = [stop for _, stop in content["splits"]] if content["method"].startswith("cl") else list(range(1, whole + 1))
    if len(cuts) > 1 and count not in cuts:
        reached = ", ".join(f"b{cut}" for cut in cuts)
        what = f"no sub-module of {path.name} ends at b{count}"
        raise UserError(what, where="--reuse-upto", mend=f"give one of {reached}, or pre-train with other cuts")
    reused = {name: tensor for name, tensor in content["model"].items() if block_number(name) <= count}
    checkpoint.load_state(backbone, backbone.state_dict() | reused, path)
    if recipe.freeze:
        backbone.freeze(count)


def block_number(name: str) -> int:
    """1-based block of a parameter, whose name starts with `blocks.<index>`."""
    return int(name.split(".")[1]) + 1
