"""Taking pre-trained weights over into a detector's backbone."""

from pathlib import Path

from engine import checkpoint
from models.darknet import DarkNet
from utils.config import Recipe
from utils.errors import UserError


def reuse_backbone(backbone: DarkNet, path: Path, recipe: Recipe) -> None:
    """Load the blocks up to recipe.reuse_upto from a backbone file, and fix them if the recipe says so.

    Raises:
        UserError: the file is of another backbone or width.
    """
    content = checkpoint.load(path, "backbone")
    for key, wanted in (("backbone", recipe.backbone), ("width", recipe.width)):
        if content[key] != wanted:
            raise UserError(f"{key} is {content[key]}, not {wanted}", where=path, mend=f"give --{key} {content[key]}")
    count = recipe.reuse_blocks
    own = backbone.state_dict()
    reused = {name: tensor for name, tensor in content["model"].items() if block_number(name) <= count}
    checkpoint.load_state(backbone, own | reused, path)
    if recipe.freeze:
        backbone.freeze(count)


def block_number(name: str) -> int:
    """1-based block of a parameter, whose name starts with `blocks.<index>`."""
    return int(name.split(".")[1]) + 1
