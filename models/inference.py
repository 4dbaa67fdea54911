"""A trained network made quick: BatchNorm folded into the convolutions, weights of half the size."""

from copy import deepcopy
from itertools import pairwise
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.layers import Normalise, PaddedConv2d

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

    Only in an nn.Sequential is the order of modules that of their computation, and only of these types is it known that
    they do nothing else: others standardise their weights, or hold an activation.
    """
    model.eval()
    for steps in [own for own in model.modules() if type(own).forward is nn.Sequential.forward]:
        for (name, conv), (after, norm) in pairwise(list(steps.named_children())):
            if isinstance(conv, nn.Conv2d) and type(conv) in CONVOLUTIONS and type(norm) is nn.BatchNorm2d:
                setattr(steps, name, fuse_conv_bn_eval(conv, norm))
                setattr(steps, after, nn.Identity())
