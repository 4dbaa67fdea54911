"""Which prediction answers for which true box (YOLOv3, arXiv 1804.02767, section 2.1)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.yolov3 import ANCHORS_PER_SCALE, STRIDES
from utils.boxes import Truth, shape_iou, xyxy_to_cxcywh


@dataclass(frozen=True)
class Assignment:
    """Positive predictions: [P] indices into the batch, the flat prediction order and the true boxes."""

    sample: Tensor
    prediction: Tensor
    truth: Tensor


def assign(
    truth: Truth, anchors: Tensor, grid_hw: list[tuple[int, int]], batch: int, *, anchor_iou: float
) -> Assignment:
    """Give each true box the anchor of best shape, in the cell that holds its centre.

    Args:
        anchors: [9, 2] width × height in pixels, small to large.
        grid_hw: (rows, columns) of the three maps.
        anchor_iou: further anchors whose shape IoU with the box exceeds this become positives too; 1 for none.

    Returns:
        At most one true box for each prediction: a best anchor goes before a further one, a later box before
        an earlier one.
    """
    boxes = xyxy_to_cxcywh(truth.boxes_xyxy)
    overlap = shape_iou(boxes[:, 2:], anchors)  # [M, 9]
    best = overlap.argmax(1)
    everyone = torch.arange(len(boxes), device=boxes.device)
    further = overlap > anchor_iou
    further[everyone, best] = False
    further_truth, further_anchor = further.nonzero(as_tuple=True)
    chosen = torch.cat([further_truth, everyone])  # rising rank: the last claim on a prediction wins
    anchor = torch.cat([further_anchor, best])
    sizes = boxes.new_tensor(grid_hw, dtype=torch.long)
    per_scale = ANCHORS_PER_SCALE * sizes.prod(1)
    scale, slot = anchor // ANCHORS_PER_SCALE, anchor % ANCHORS_PER_SCALE
    stride = boxes.new_tensor(STRIDES)[scale]
    rows, columns = sizes[scale].unbind(1)
    column = (boxes[chosen, 0] / stride).long().clamp(min=0).minimum(columns - 1)
    row = (boxes[chosen, 1] / stride).long().clamp(min=0).minimum(rows - 1)
    prediction = (per_scale.cumsum(0) - per_scale)[scale] + (slot * rows + row) * columns + column
    keep = last_claims(truth.sample[chosen] * per_scale.sum() + prediction, int(batch * per_scale.sum()))
    return Assignment(truth.sample[chosen[keep]], prediction[keep], chosen[keep])


def last_claims(keys: Tensor, count: int) -> Tensor:
    """Positions of the last occurrence of each key among keys in [0, count), rising."""
    position = torch.arange(len(keys), device=keys.device)
    winner = torch.full((count,), -1, dtype=torch.long, device=keys.device)
    winner = winner.scatter_reduce(0, keys, position, "amax")
    return (winner[keys] == position).nonzero().squeeze(1)
