"""Raw YOLOv3 maps → boxes and scores → detections after non-maximum suppression."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from models.network import Predictions, RawDecoder
from models.yolov3 import ANCHORS_PER_SCALE, STRIDES
from utils.boxes import Detections, cxcywh_to_xyxy
from utils.errors import UserError

DECODE_TYPE = "darknet"  # sigmoid(xy) + cell, anchor · exp(wh); stored in every detector checkpoint
# exp(8) ≈ 3,000 anchors wide: beyond any picture, and finite in every precision.
MAX_LOG_SIZE = 8.0


def flatten_maps(raw_maps: list[Tensor]) -> Tensor:
    """Maps [B, 3·(5+classes), H, W] of all scales → [B, N, 5+classes], order: scale, anchor, row, column."""
    flat = []
    for raw in raw_maps:
        batch, channels, height, width = raw.shape
        per_anchor = raw.reshape(batch, ANCHORS_PER_SCALE, channels // ANCHORS_PER_SCALE, height * width)
        flat.append(per_anchor.transpose(2, 3).flatten(1, 2))
    return torch.cat(flat, 1)


class Decoder(RawDecoder):
    """Darknet decode: centre = (cell + sigmoid(t_xy)) · stride, size = anchor · exp(t_wh) (YOLOv3, fig. 2).

    Args:
        anchors: nine (width, height) in input pixels, small to large; three for each of the strides 8, 16, 32.
    """

    anchors: Tensor

    def __init__(self, anchors: list[tuple[float, float]]) -> None:
        super().__init__()
        wanted = ANCHORS_PER_SCALE * len(STRIDES)
        if len(anchors) != wanted:
            raise ValueError(f"{len(anchors)} anchors; YOLOv3 takes {wanted}, as width height pairs")
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)

    def grid(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Constants of the flat order: cells [N, 2] (column, row), strides [N, 1], anchors [N, 2] in pixels."""
        cells, strides, sizes = [], [], []
        anchors = self.anchors.view(len(STRIDES), ANCHORS_PER_SCALE, 1, 2)
        for raw, stride, anchor in zip(raw_maps, STRIDES, anchors, strict=True):
            height, width = raw.shape[2:]
            rows = torch.arange(height, device=raw.device, dtype=torch.float32)
            columns = torch.arange(width, device=raw.device, dtype=torch.float32)
            row, column = torch.meshgrid(rows, columns, indexing="ij")
            cell = torch.stack([column, row], -1).view(1, height * width, 2)
            cells.append(cell.expand(ANCHORS_PER_SCALE, -1, -1).reshape(-1, 2))
            sizes.append(anchor.expand(-1, height * width, -1).reshape(-1, 2))
            strides.append(torch.full_like(cells[-1][:, :1], stride))
        return torch.cat(cells), torch.cat(strides), torch.cat(sizes)

    def boxes_cxcywh(self, flat: Tensor, grid: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Boxes [B, N, 4], centre and size in input pixels, of flat predictions [B, N, 4 or more]."""
        cells, strides, anchors = grid
        centre = (flat[..., :2].sigmoid() + cells) * strides
        size = flat[..., 2:4].clamp(max=MAX_LOG_SIZE).exp() * anchors
        return torch.cat([centre, size], -1)

    def counts(self, raw_maps: list[Tensor]) -> list[int]:
        return [ANCHORS_PER_SCALE * raw.shape[2] * raw.shape[3] for raw in raw_maps]

    def predictions(self, raw_maps: list[Tensor]) -> Predictions:
        flat = flatten_maps(raw_maps).float()
        return Predictions(self.boxes_cxcywh(flat, self.grid(raw_maps)), flat[..., 4], flat[..., 5:])

    def parts(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        flat = flatten_maps(raw_maps).float()
        probabilities = flat[..., 4:].sigmoid()  # in one piece: in two, the last bit may differ
        return self.boxes_cxcywh(flat, self.grid(raw_maps)), probabilities[..., :1], probabilities[..., 1:]


@dataclass(frozen=True)
class Thresholds:
    """What counts as a detection; the defaults are those of evaluation.

    Attributes:
        conf_thres: lowest score.
        iou_thres: overlap above which the weaker of two boxes is dropped.
        max_det: most detections in an image.
        multi_label: a box may be reported for several classes, else for its best one.
        classes: indices of the classes to report; None for all.
        agnostic: boxes are suppressed by stronger ones of other classes too.

    Raises:
        UserError: one is out of its range.
    """

    conf_thres: float = 0.001
    iou_thres: float = 0.6
    max_det: int = 300
    multi_label: bool = True
    classes: tuple[int, ...] | None = None
    agnostic: bool = False

    def __post_init__(self) -> None:
        for flag, share in (("--conf-thres", self.conf_thres), ("--iou-thres", self.iou_thres)):
            if not 0 <= share <= 1:
                raise UserError(f"{share:g}", where=flag, hint="give a number in 0–1")
        if self.max_det < 1:
            raise UserError(f"{self.max_det}", where="--max-det", hint="give 1 or more")


# Only so many best-scored candidates enter suppression: a count, never a time limit, so that the result does not depend
# on the speed of the machine.
MOST_CANDIDATES = 10_000
FEW_CANDIDATES = 2_000  # up to which one suppression of all groups is quicker than one for each


def suppress(boxes_cxcywh: Tensor, scores: Tensor, thresholds: Thresholds) -> Detections:
    """Non-maximum suppression for one image.

    Args:
        boxes_cxcywh: [N, 4] pixels.
        scores: [N, classes] in 0–1.
    """
    index, labels = kept(boxes_cxcywh, scores, thresholds)
    return Detections(cxcywh_to_xyxy(boxes_cxcywh[index]), scores[index, labels], labels)


def kept(boxes_cxcywh: Tensor, scores: Tensor, thresholds: Thresholds) -> tuple[Tensor, Tensor]:
    """What suppression keeps, best first: [n] indices of the predictions, and [n] the class that each is kept for.

    Args:
        boxes_cxcywh: [N, 4] pixels.
        scores: [N, classes] in 0–1.
    """
    wanted = None
    if thresholds.classes is not None:
        asked = torch.tensor(thresholds.classes, device=scores.device)
        wanted = scores.new_zeros(scores.shape[1]).index_fill(0, asked, 1)
    if thresholds.multi_label:
        scores = scores if wanted is None else scores * wanted
        rows = (scores.amax(1) > thresholds.conf_thres).nonzero().squeeze(1)  # few boxes have any score to speak of
        within, labels = (scores[rows] > thresholds.conf_thres).nonzero(as_tuple=True)
        index = rows[within]
        best = scores[index, labels]
    else:
        best, labels = scores.max(1)
        if wanted is not None:
            best = best * wanted[labels]  # a box whose best class is another is not one of the next best
        index = (best > thresholds.conf_thres).nonzero().squeeze(1)
        best, labels = best[index], labels[index]
    best, order = best.sort(descending=True, stable=True)
    best, index, labels = best[:MOST_CANDIDATES], index[order[:MOST_CANDIDATES]], labels[order[:MOST_CANDIDATES]]
    groups = torch.zeros_like(labels) if thresholds.agnostic else labels
    chosen = strongest(cxcywh_to_xyxy(boxes_cxcywh[index]), best, groups, thresholds.iou_thres)[: thresholds.max_det]
    return index[chosen], labels[chosen]


def strongest(boxes_xyxy: Tensor, scores: Tensor, groups: Tensor, iou_thres: float) -> Tensor:
    """Indices of the boxes [n, 4] that no stronger one of their group overlaps by more, best first.

    Few boxes are laid apart by group and go through one suppression; as double, or the distance would cost them
    digits, and the result would depend on how many classes there are.
    """
    if not 0 < len(scores) <= FEW_CANDIDATES or boxes_xyxy.device.type == "mps":
        return batched_nms(boxes_xyxy, scores, groups, iou_thres)
    exact = boxes_xyxy.double()
    width = exact.max() - exact.min() + 1
    return nms(exact + (groups * width)[:, None], scores.double(), iou_thres)
