"""YOLOv1's cells and its loss (Redmon et al., arXiv 1506.02640), for boxes from frozen features."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert

from utils.boxes import Detections, Truth

COORD, NO_OBJECT = 5.0, 0.5  # λ_coord and λ_noobj of the paper
BOX = 5  # numbers of a box: x, y in its cell, √w, √h in the image, confidence


@dataclass(frozen=True)
class CellTruth:
    """What cells should say.

    Attributes:
        has: [B, S, S] bool: the centre of a true box is in the cell.
        boxes: [B, S, S, 4] its centre within the cell, and its width and height as fractions of the image.
        labels: [B, S, S] its class.
    """

    has: Tensor
    boxes: Tensor
    labels: Tensor


def cell_truth(truth: Truth, batch: int, cells: int, side: int) -> CellTruth:
    """Give each true box to the cell of its centre; of several in a cell the largest stays.

    Args:
        cells: S, along each side.
        side: of the images in pixels.
    """
    boxes = box_convert(truth.boxes_xyxy, "xyxy", "cxcywh") / side
    order = boxes[:, 2:].prod(1).argsort()  # the largest is written last
    boxes, sample, label = boxes[order].cpu(), truth.sample[order].cpu(), truth.labels[order].cpu()
    place = (boxes[:, :2] * cells).clamp(0, cells - 1e-4)
    column, row = place.long().unbind(1)
    found = CellTruth(
        torch.zeros(batch, cells, cells, dtype=torch.bool),
        torch.zeros(batch, cells, cells, 4),
        torch.zeros(batch, cells, cells, dtype=torch.long),
    )
    for index in range(len(order)):  # one after another: with an index twice, torch does not say which one stays
        at = (sample[index], row[index], column[index])
        found.has[at] = True
        found.boxes[at] = torch.cat([place[index] - place[index].floor(), boxes[index, 2:]])
        found.labels[at] = label[index]
    device = truth.boxes_xyxy.device
    return CellTruth(found.has.to(device), found.boxes.to(device), found.labels.to(device))


class YOLOv1Loss(nn.Module):
    """The paper's five terms, summed over cells and averaged over images.

    Of the boxes that a cell predicts, the one that fits the true box best answers for it, and its confidence shall be
    that IoU. The paper this project follows (Wang & Farrahi, arXiv 2311.12704, eq. 4) writes the first two terms.

    Args:
        boxes: predicted by each cell.
        classes: 0 for none.
    """

    def __init__(self, boxes: int = 2, classes: int = 0) -> None:
        super().__init__()
        self.boxes, self.classes = boxes, classes

    @property
    def channels(self) -> int:
        """Numbers that a cell predicts."""
        return BOX * self.boxes + self.classes

    def forward(self, raw: Tensor, truth: CellTruth) -> dict[str, Tensor]:
        """`centre`, `size`, `object`, `no_object`, `classes` of raw predictions [B, 5·boxes + classes, S, S]."""
        cells = raw.permute(0, 2, 3, 1)
        predicted = cells[..., : BOX * self.boxes].unflatten(-1, (self.boxes, BOX))
        own, wanted = predicted[truth.has], truth.boxes[truth.has]  # [M, boxes, 5], [M, 4]
        overlap = self.fit(own.detach(), wanted, cells.shape[1])
        best, responsible = overlap.max(1)
        one = own[torch.arange(len(own)), responsible]
        confidence = predicted[..., 4]
        answers = torch.zeros_like(confidence, dtype=torch.bool)
        answers[truth.has] = nn.functional.one_hot(responsible, self.boxes).bool()
        classes = nn.functional.one_hot(truth.labels[truth.has], max(1, self.classes))[:, : self.classes]
        terms = {
            "centre": COORD * (one[:, :2] - wanted[:, :2]).square().sum(),
            "size": COORD * (one[:, 2:4] - wanted[:, 2:].sqrt()).square().sum(),
            "object": (one[:, 4] - best).square().sum(),
            "no_object": NO_OBJECT * confidence[~answers].square().sum(),
            "classes": (cells[truth.has][:, BOX * self.boxes :] - classes).square().sum(),
        }
        return {name: term / len(raw) for name, term in terms.items()}

    @staticmethod
    def fit(own: Tensor, wanted: Tensor, cells: int) -> Tensor:
        """[M, boxes] IoU of the boxes [M, boxes, 5] of a cell with its true box [M, 4]."""
        predicted = torch.cat([own[..., :2] / cells, own[..., 2:4].clamp(min=0).square()], -1)
        true = torch.cat([wanted[:, :2] / cells, wanted[:, 2:]], -1)[:, None]
        one, other = box_convert(predicted, "cxcywh", "xyxy"), box_convert(true, "cxcywh", "xyxy")
        shared = (torch.minimum(one[..., 2:], other[..., 2:]) - torch.maximum(one[..., :2], other[..., :2])).clamp(
            min=0
        )
        inter = shared.prod(-1)
        return inter / (predicted[..., 2:].prod(-1) + true[..., 2:].prod(-1) - inter)


def cells_of(raw: Tensor, boxes: int) -> tuple[Tensor, Tensor]:
    """Raw predictions [B, 5·boxes + classes, S, S] → boxes [B, S, S, boxes, 5] and classes [B, S, S, classes]."""
    cells = raw.permute(0, 2, 3, 1)
    predicted = torch.stack([cells[..., BOX * box : BOX * (box + 1)] for box in range(boxes)], 3)
    return predicted, cells[..., BOX * boxes :]


def image_boxes(predicted: Tensor) -> Tensor:
    """[B, N, 4] corners as fractions of the image, within it, of boxes [B, S, S, boxes, 5]; N: row, column, box."""
    size = predicted.shape[1]
    places = torch.arange(size, device=predicted.device)
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    corner = torch.stack([columns, rows], -1)[:, :, None]
    centres = (predicted[..., :2] + corner) / size
    xyxy = box_convert(torch.cat([centres, predicted[..., 2:4].clamp(min=0).square()], -1), "cxcywh", "xyxy")
    return xyxy.clamp(0, 1).flatten(1, 3)


def decode(raw: Tensor, side: int, *, boxes: int = 2, iou_threshold: float = 0.5) -> list[Detections]:
    """Boxes of each image after non-maximum suppression; the score is the confidence, times the class's if there are.

    Args:
        raw: [B, 5·boxes + classes, S, S].
        side: of the images in pixels.
    """
    predicted, classes = cells_of(raw.detach().float().cpu(), boxes)
    xyxy = image_boxes(predicted) * side
    scores, labels = scored(classes, predicted[..., 4])
    found = []
    for box, score, label in zip(xyxy, scores, labels, strict=True):
        keep = batched_nms(box, score, label, iou_threshold)
        found.append(Detections(box[keep], score[keep], label[keep]))
    return found


def scored(classes: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """[B, S·S·boxes] scores in 0–1 and labels."""
    sure = confidence.clamp(0, 1)
    if not classes.shape[-1]:
        return sure.flatten(1), torch.zeros_like(sure, dtype=torch.long).flatten(1)
    best, label = classes.clamp(0, 1).max(-1)
    return (sure * best[..., None]).flatten(1), label[..., None].expand_as(sure).flatten(1)
