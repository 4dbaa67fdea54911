"""A trained network made quick: BatchNorm folded into the convolutions, weights of half the size."""

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.backbone import Backbone
from models.layers import ConvNormAct, Normalise, PaddedConv2d

M = TypeVar("M", bound=nn.Module)
CONVOLUTIONS = (nn.Conv2d, PaddedConv2d)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def for_inference(model: M, precision: str = "fp32") -> M:
    """A copy in evaluation mode that computes the same up to rounding, in a precision: a key of DTYPES.

    Pixels are normalised in float32 whatever the precision: bfloat16 has eight bits for them.
    """
    quick = deepcopy(model).eval()
    fold_batchnorm(quick)
    dtype = DTYPES[precision]
    quick.to(dtype)
    if precise := [module for module in quick.modules() if isinstance(module, Normalise)]:
        for module in precise:
            module.float().register_forward_hook(lambda _, __, normalised: normalised.to(dtype))
    else:
        quick.register_forward_pre_hook(lambda _, images: (images[0].to(dtype),))
    quick.requires_grad_(False)
    return quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def fold_batchnorm(model: nn.Module) -> None:
    """Join each convolution with the BatchNorm behind it, in place; the model stays in evaluation mode from then on.

    The modules of ConvNormAct, and of a backbone's block that is a plain sequence, are known to run in their order.
    """
    model.eval()
    for steps in [own for own in model.modules() if isinstance(own, ConvNormAct)] + plain_blocks(model):
        for (name, conv), (after, norm) in pairwise(list(steps._modules.items())):  # a module may be there twice
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and are_plain(conv, norm):
                setattr(steps, name, fuse_conv_bn_eval(conv, norm))
                setattr(steps, after, nn.Identity())


def plain_blocks(model: nn.Module) -> list[nn.Sequential]:
    """The blocks of backbones that are sequences and nothing else."""
    blocks = [block for own in model.modules() if isinstance(own, Backbone) for block in own.blocks]
    return [own for own in blocks if isinstance(own, nn.Sequential) and type(own).forward is nn.Sequential.forward]


def are_plain(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    """Whether nothing but their own arithmetic is in them: others standardise their weights, or hold an activation."""
    hooks = [hooks for own in (conv, norm) for hooks in (own._forward_hooks, own._forward_pre_hooks)]
    known = type(conv) in CONVOLUTIONS and type(norm) is nn.BatchNorm2d
    return known and norm.running_mean is not None and not any(hooks)
