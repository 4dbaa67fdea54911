"""Networks of one input channel, made of those that take RGB.

The first convolution's weights are summed over red, green and blue: so it makes of one channel what it made of three
equal ones. timm does the same for `in_chans=1`.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.layers import Normalise
from utils.errors import UserError

RGB = 3


def with_channels(backbone: Backbone, channels: int) -> Backbone:
    """The backbone, changed in place to take images of so many channels, 3 or 1.

    Raises:
        ValueError: another number.
        UserError: its first block has no convolution that takes RGB.
    """
    if channels == backbone.in_channels:
        return backbone
    if (backbone.in_channels, channels) != (RGB, 1):
        raise ValueError(f"{channels} channels of a backbone that takes {backbone.in_channels}")
    if not (first := reading(backbone)):
        what = "its first block has no convolution that takes RGB, and the pictures have one channel"
        raise UserError(what, where="--backbone", hint="take another backbone")
    for convolution in first:
        convolution.weight = nn.Parameter(summed(convolution.weight.detach()))
        convolution.in_channels = 1
    for module in backbone.blocks[0].modules():
        if isinstance(module, Normalise):
            module.mean, module.std = (own.mean(0, keepdim=True) for own in (module.mean, module.std))
    backbone.in_channels = 1
    return backbone


def check_channels(images: Tensor, channels: int, where: str | Path) -> None:
    """Refuse images [B, C, H, W] of another number of channels than a network takes.

    Raises:
        UserError: they are.
    """
    if images.shape[1] != channels:
        raise wrong_channels(images.shape[1], channels, where)


def wrong_channels(given: int, wanted: int, where: str | Path) -> UserError:
    """The error for pictures of another number of channels than a network takes."""
    what = f"takes pictures of {wanted} channel{'s' * (wanted > 1)}, and the data have {given}"
    return UserError(what, where=where, hint="give the data that it was trained on, or data like them")


def reading(backbone: Backbone) -> list[nn.Conv2d]:
    """The convolutions of the first block that take RGB."""
    modules = backbone.blocks[0].modules()
    return [own for own in modules if isinstance(own, nn.Conv2d) and own.in_channels == RGB and own.groups == 1]


def summed(weight: Tensor) -> Tensor:
    """[c, 1, h, w] of a convolution's [c, 3, h, w]."""
    return weight.sum(1, keepdim=True)


def fitted(model: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Weights from elsewhere for a backbone: where they are for RGB and it takes one channel, they are summed."""
    own = backbone.state_dict()

    def fit(name: str, value: Tensor) -> Tensor:
        mine = own[name].shape if name in own else None
        with torch.no_grad():
            return summed(value) if mine == (*value.shape[:1], 1, *value.shape[2:]) and value.dim() == 4 else value

    return {name: fit(name, value) if backbone.in_channels == 1 else value for name, value in model.items()}
