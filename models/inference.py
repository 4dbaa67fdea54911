"""A trained network made quick: BatchNorm folded into the convolutions, weights of half the size."""

from copy import deepcopy

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.layers import ConvNormAct, Normalise
from models.yolov3 import YOLOv3

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def for_inference(model: YOLOv3, precision: str = "fp32") -> YOLOv3:
    """A copy in evaluation mode that computes the same up to rounding, in a precision: a key of DTYPES.

    Pixels are normalised in float32 whatever the precision: bfloat16 has eight bits for them.
    """
    quick = deepcopy(model).eval()
    for module in list(quick.modules()):
        if isinstance(module, ConvNormAct):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
    dtype = DTYPES[precision]
    quick.to(dtype)
    if precise := [module for module in quick.modules() if isinstance(module, Normalise)]:
        for module in precise:
            module.float().register_forward_hook(lambda _, __, normalised: normalised.to(dtype))
    else:
        quick.register_forward_pre_hook(lambda _, images: (images[0].to(dtype),))
    quick.requires_grad_(False)
    return quick.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
