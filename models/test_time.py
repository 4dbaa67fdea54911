"""Test-time augmentation: boxes of several views of an image together."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from models.yolov3 import STRIDES

VIEWS = ((1.0, False), (0.83, True), (0.67, False))  # scale, mirrored; those of Ultralytics' repositories


Outputs = Callable[[Tensor], tuple[Tensor, Tensor]]


def augmented(find: Outputs, images: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 4], centre and size in pixels, and scores [B, N, classes] of all views of images [B, 3, S, S]."""
    side, coarsest = images.shape[-1], STRIDES[-1]
    boxes, scores = [], []
    for scale, mirrored in VIEWS:
        size = math.ceil(side * scale / coarsest) * coarsest
        view = images if size == side else interpolate(images, (size, size), mode="bilinear", antialias=True)
        own, own_scores = find(view.flip(-1) if mirrored else view)
        if mirrored:
            own = torch.cat([size - own[..., :1], own[..., 1:]], -1)
        boxes.append(own * (side / size))
        scores.append(own_scores)
    return torch.cat(boxes, 1), torch.cat(scores, 1)
