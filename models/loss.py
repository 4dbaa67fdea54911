"""The darknet criterion of YOLOv3 as named terms."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torchvision.ops import box_iou, complete_box_iou_loss

from models.assign import Assignment, assign
from models.decode import Decoder, flatten_maps
from models.yolov3 import STRIDES
from utils.boxes import Truth, cxcywh_to_xyxy, xyxy_to_cxcywh

Grid = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class YOLOLossConfig:
    """Weights and thresholds.

    Attributes:
        regression: the box term.
        ignore_thresh: a prediction that overlaps a true box by more adds no objectness loss
            (yolov3-voc.cfg: 0.5).
        anchor_iou: further anchors of at least this shape IoU are positives too; 1 for the paper's one.
    """

    regression: Literal["darknet", "ciou"] = "darknet"
    box: float = 1.0
    objectness: float = 1.0
    classes: float = 1.0
    ignore_thresh: float = 0.5
    anchor_iou: float = 1.0


class YOLOLoss(nn.Module):
    """Box, objectness and class terms, summed over predictions and averaged over images.

    Boxes as darknet: binary cross-entropy of the centre's position within the cell, half the squared error of
    log(size / anchor); these are the gradients of its yolo layer. Or 1 − complete IoU (Zheng et al., arXiv 1911.08287).
    Either is weighted by 2 − w·h (fractions of the image), so that small boxes count. Objectness and classes: binary
    cross-entropy.

    Args:
        class_weights: [classes] factors on the class term of a box of each class; None for 1.
    """

    class_weights: Tensor | None

    def __init__(
        self, decoder: Decoder, config: YOLOLossConfig | None = None, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.config = config or YOLOLossConfig()
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, raw_maps: list[Tensor], truth: Truth) -> dict[str, Tensor]:
        """Scalars `box`, `objectness`, `class`; their sum is the loss. Finite with no boxes at all.

        Args:
            raw_maps: of YOLOv3, any float type; computed in float32.
        """
        flat, grid = flatten_maps(raw_maps).float(), self.decoder.grid(raw_maps)
        grid_hw = [(raw.shape[2], raw.shape[3]) for raw in raw_maps]
        positive = assign(truth, self.decoder.anchors, grid_hw, len(flat), anchor_iou=self.config.anchor_iou)
        chosen = flat[positive.sample, positive.prediction]  # [P, 5 + classes]
        area = math.prod(grid_hw[0]) * STRIDES[0] ** 2
        terms = {
            "box": self.config.box * self._box(chosen, truth, positive, grid, area),
            "objectness": self.config.objectness * self._objectness(flat, truth, positive, grid),
            "class": self.config.classes * self._class(chosen[:, 5:], truth.labels[positive.truth]),
        }
        return {name: term / len(flat) for name, term in terms.items()}

    def _box(self, chosen: Tensor, truth: Truth, positive: Assignment, grid: Grid, area: int) -> Tensor:
        cells, strides, anchors = (part[positive.prediction] for part in grid)
        boxes = xyxy_to_cxcywh(truth.boxes_xyxy[positive.truth])
        weight = 2 - boxes[:, 2:].prod(1, keepdim=True) / area
        if self.config.regression == "ciou":
            predicted = self.decoder.boxes_cxcywh(chosen[:, :4], (cells, strides, anchors))
            true = truth.boxes_xyxy[positive.truth]
            return (weight.squeeze(1) * complete_box_iou_loss(cxcywh_to_xyxy(predicted), true)).sum()
        within = (boxes[:, :2] / strides - cells).clamp(0, 1)
        log_size = (boxes[:, 2:] / anchors).log()
        centre = bce(chosen[:, :2], within, reduction="none")
        size = 0.5 * (chosen[:, 2:4] - log_size).square()
        return (weight * (centre + size)).sum()

    def _objectness(self, flat: Tensor, truth: Truth, positive: Assignment, grid: Grid) -> Tensor:
        target = torch.zeros_like(flat[..., 4])
        target[positive.sample, positive.prediction] = 1
        counts = (self._best_overlap(flat, truth, grid) <= self.config.ignore_thresh) | (target > 0)
        return (bce(flat[..., 4], target, reduction="none") * counts).sum()

    @torch.no_grad()
    def _best_overlap(self, flat: Tensor, truth: Truth, grid: Grid) -> Tensor:
        """IoU [B, N] of every predicted box with the true box of its image that it fits best; 0 without any."""
        predicted = cxcywh_to_xyxy(self.decoder.boxes_cxcywh(flat, grid))
        best = predicted.new_zeros(predicted.shape[:2])
        for index in truth.sample.unique().tolist():
            best[index] = box_iou(predicted[index], truth.boxes_xyxy[truth.sample == index]).amax(1)
        return best

    def _class(self, logits: Tensor, labels: Tensor) -> Tensor:
        target = nn.functional.one_hot(labels, logits.shape[1]).to(logits.dtype)
        weight = None if self.class_weights is None else self.class_weights[labels, None]
        return bce(logits, target, weight, reduction="sum")
