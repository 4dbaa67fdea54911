"""A recipe beside the tables: whether what it names is there, and takes the sizes that it asks for."""

from typing import Any

import torch

from data.views import View
from models.backbones import BACKBONES, make_backbone
from models.heads import HEADS
from models.plan import block_costs
from utils.config import Recipe
from utils.tables import Table

NAMED: dict[str, Table[Any]] = {"backbone": BACKBONES, "pretrain.head": HEADS}  # recipe key → what its value names


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


def check_sizes(recipe: Recipe) -> None:
    """Refuse images that the backbone cannot take, before anything is made.

    Args:
        recipe: its source of pre-training is settled.

    Raises:
        UserError: there are such; names the block, and its reason.
    """
    with torch.device("meta"):
        backbone = make_backbone(recipe.backbone, recipe.width)
    sides = {View.of(recipe.stage).imgsz} if recipe.pretrains else set()
    judged_twice = recipe.pretrains and not HEADS.pick(recipe.pretrain.head).one_size
    if judged_twice or (backbone.taps and not recipe.pretrain_only):
        sides.add(recipe.imgsz)  # a stage is judged at the detector's size too
    for side in sorted(sides):
        block_costs(backbone, side)
