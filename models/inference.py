"""A trained network made quick: BatchNorm folded into the convolutions, weights of half the size."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.layers import ConvNormAct, Normalise

M = TypeVar("M", bound=nn.Module)
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
    """Join convolution and BatchNorm of each ConvNormAct, in place; the model stays in evaluation mode from then on.

    Other modules with a `conv` and a `norm` may run them the other way round, as DenseNet's transitions do.
    """
    model.eval()
    for module in list(model.modules()):
        if isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
