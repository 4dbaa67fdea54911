"""A recipe beside the tables: whether what it names is there."""

from models.backbones import BACKBONES
from models.heads import HEADS
from utils.config import Recipe
from utils.tables import Table

NAMED: dict[str, Table] = {"backbone": BACKBONES, "pretrain.head": HEADS}  # recipe key → what its value names


def check_names(recipe: Recipe, where: str | None = None) -> Recipe:
    """The recipe, if everything that it names is there.

    Args:
        where: what a message points at [the flag].

    Raises:
        UserError: something is not.
    """
    BACKBONES.pick(recipe.backbone, where)
    HEADS.pick(recipe.pretrain.head, where)
    return recipe
