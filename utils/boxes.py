"""Boxes: float pixels, x1 y1 x2 y2, half-open, unless the name says more."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.ops import box_convert


@dataclass  # not frozen: Fabric moves it to the device field by field
class Truth:
    """True boxes of a batch.

    Attributes:
        boxes_xyxy: [M, 4] input pixels.
        labels: [M] class indices.
        sample: [M] index of the image in the batch.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    sample: Tensor


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first: boxes_xyxy [n, 4] pixels, scores [n] in 0–1, labels [n]."""

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor

    def at(self, which: Tensor) -> "Detections":
        """Some of them, by index or by a mask [n]."""
        return Detections(self.boxes_xyxy[which], self.scores[which], self.labels[which])


def cxcywh_to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """[..., 4] centre and size → corners."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy")


def xyxy_to_cxcywh(boxes_xyxy: Tensor) -> Tensor:
    """[..., 4] corners → centre and size."""
    return box_convert(boxes_xyxy, "xyxy", "cxcywh")


def shape_iou(sizes_a: Tensor, sizes_b: Tensor) -> Tensor:
    """IoU of boxes laid on one centre: [M, 2] and [K, 2] width × height → [M, K]."""
    overlap = torch.minimum(sizes_a[:, None], sizes_b[None]).prod(-1)
    return overlap / (sizes_a.prod(-1)[:, None] + sizes_b.prod(-1)[None] - overlap)


def box_iou(one: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """[n] IoU of a box with boxes [n, 4], on continuous areas."""
    low, high = np.maximum(one[:2], boxes_xyxy[:, :2]), np.minimum(one[2:], boxes_xyxy[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1) + (one[2:] - one[:2]).prod()
    return np.asarray(shared / (areas - shared))
