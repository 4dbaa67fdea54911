"""Several images in one: mosaic and mix-up, for training a detector."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Beta
from torchvision.transforms.v2 import functional as F

from data.transforms import area
from utils.letterbox import FILL

LEAST_SHOWN = 0.25  # fraction of a box that a mosaic must show for it to stay
SIZES = (0.5, 1.0)  # longer side of a mosaic's image, as a fraction of the mosaic's
BLEND = 8.0  # both parameters of the Beta distribution that a mix-up's weight is drawn from


@dataclass(frozen=True)
class Mix:
    """How often images are joined.

    Attributes:
        mosaic, mixup: probabilities.
        imgsz: side of a mosaic.
        until: epoch from which on nothing is joined any more.
    """

    mosaic: float
    mixup: float
    imgsz: int
    until: int


@dataclass(frozen=True)
class Labelled:
    """image [3, H, W] uint8 with boxes_xyxy [n, 4] in its pixels and labels [n]."""

    image: Tensor
    boxes_xyxy: Tensor
    labels: Tensor


def make_mosaic(parts: Sequence[Labelled], imgsz: int) -> Labelled:
    """Four images around a point, on a grey square (Bochkovskiy et al., arXiv 2004.10934, section 3.3).

    The point is in the middle half; each image is scaled to a random size and has one corner at the point. What
    reaches out of the square is cut off, with the boxes of which too little is left.
    """
    canvas = parts[0].image.new_full((len(parts[0].image), imgsz, imgsz), FILL)
    x, y = (int(share * imgsz) for share in torch.empty(2).uniform_(0.25, 0.75).tolist())
    boxes, labels = [], []
    for part, (right, below) in zip(parts, ((0, 0), (1, 0), (0, 1), (1, 1)), strict=True):
        old_h, old_w = part.image.shape[1:]
        scale = imgsz * float(torch.empty(()).uniform_(*SIZES)) / max(old_h, old_w)
        height, width = max(1, round(old_h * scale)), max(1, round(old_w * scale))
        left, top = x - width * (1 - right), y - height * (1 - below)
        x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, imgsz), min(top + height, imgsz)
        resized = F.resize(part.image, [height, width], antialias=True)
        canvas[:, y1:y2, x1:x2] = resized[:, y1 - top : y2 - top, x1 - left : x2 - left]
        ratio = part.boxes_xyxy.new_tensor([width / old_w, height / old_h] * 2)
        moved = part.boxes_xyxy * ratio + part.boxes_xyxy.new_tensor([left, top] * 2)
        shown = torch.stack([moved[:, 0::2].clamp(x1, x2), moved[:, 1::2].clamp(y1, y2)], 2).flatten(1)
        kept = area(shown) >= LEAST_SHOWN * area(moved)
        boxes.append(shown[kept])
        labels.append(part.labels[kept])
    return Labelled(canvas, torch.cat(boxes), torch.cat(labels))


def mix_up(one: Labelled, other: Labelled) -> Labelled:
    """Weighted mean of two images of one size, with the boxes of both (Zhang et al., arXiv 1902.04103, section 3.1)."""
    share = float(Beta(BLEND, BLEND).sample())
    image = (share * one.image + (1 - share) * other.image).round().to(torch.uint8)
    boxes, labels = torch.cat([one.boxes_xyxy, other.boxes_xyxy]), torch.cat([one.labels, other.labels])
    return Labelled(image, boxes, labels)
