"""Boxes from frozen features: one convolution on each cut, trained with YOLOv1's loss (Wang & Farrahi, figure 6).

Features of every cut are brought to the same cells, so that layers differ in what they know and not in their grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from data.records import Record, make_record
from evaluation.accuracy import BackboneFile, line_names
from evaluation.detection_figures import mean_or_none
from evaluation.evaluate import coco_evaluation
from maps.boxes_from_maps import box_iou
from maps.frame import Frame
from maps.localise import load_explained
from maps.plan import Plan
from maps.prepare import sample
from models.yolov1 import CellTruth, YOLOv1Loss, cell_truth, decode
from utils.boxes import Detections, Truth
from utils.console import progress
from utils.device import side_by_side
from utils.errors import UserError
from utils.seed import mixed_seed, seed_process

CELLS, FINE = 7, 4  # cells along a side as in YOLOv1, and points of a feature map that are averaged to one
RUNS = 3  # at least so many a line, over files and seeds
EPOCHS, BATCH, RATE = 20, 64, 2e-3
JUDGED = 2000  # images at most: COCO's evaluation comes once for every cut, file and run


@dataclass(frozen=True)
class Region:
    """What one convolution on frozen features reached on held-out images.

    Attributes:
        miou: mean over the images of the IoU of the surest box with the true box that it fits best.
        map50: average precision at IoU 0.5, of boxes of any class.
    """

    line: str
    seed: int
    run: int
    cut: int
    miou: float
    map50: float


@dataclass(frozen=True)
class Grid:
    """Images as features on cells, one tensor [N, C, S, S] for each cut, with their true boxes."""

    features: list[Tensor]
    truth: CellTruth
    boxes: list[Tensor]
    side: int


def propose(plan: Plan) -> list[Region]:
    """Train and judge a convolution on every cut of every file; the backbone stays as it is.

    Raises:
        UserError: there are no training images with boxes.
    """
    if not plan.training:
        own = plan.split.description.yaml
        raise UserError(
            "no training images with boxes beside those that are explained", where=own, mend="leave out --regions"
        )
    found, lines, judged_on = [], line_names(plan.files), sample(plan.split.records, JUDGED)
    for file, line in zip(plan.files, lines, strict=True):
        train, test = (grid(plan, file, records) for records in (plan.training, judged_on))
        for run in range(math.ceil(RUNS / lines.count(line))):
            seeds = [mixed_seed(file.seed, run, cut) for cut in file.cuts]
            layers = [fresh(features, seed) for features, seed in zip(train.features, seeds, strict=True)]
            with side_by_side() as pool:
                fits = pool.map(partial(fit, truth=train.truth), layers, train.features, seeds)
                list(progress(fits, f"{line}: regions", len(layers)))
            rows = zip(layers, test.features, file.cuts, strict=True)
            found += [Region(line, file.seed, run, cut, *judged(layer, own, test)) for layer, own, cut in rows]
    return found


@torch.no_grad()
def grid(plan: Plan, file: BackboneFile, records: Sequence[Record]) -> Grid:
    """The features of some images at every cut, in half precision to spare memory."""
    network = load_explained(file, plan)
    parts: list[list[Tensor]] = [[] for _ in file.cuts]
    boxes: list[Tensor] = []
    for cases in plan.images(records, "features"):
        for stage, own in enumerate(network.features(cases.images.to(plan.device))):
            frame = network.frame(stage, cases.images.shape[2:], pooled=True)
            parts[stage].append(on_cells(frame, own, file.imgsz).half().cpu())
        boxes += [torch.from_numpy(own) for own in cases.boxes]
    sample = torch.cat([torch.full((len(own),), index) for index, own in enumerate(boxes)])
    truth = Truth(torch.cat(boxes), torch.zeros(len(sample), dtype=torch.long), sample)
    return Grid([torch.cat(own) for own in parts], cell_truth(truth, len(boxes), CELLS, file.imgsz), boxes, file.imgsz)


def on_cells(frame: Frame, features: Tensor, side: int) -> Tensor:
    """[B, C, h, w] → [B, C, S, S]: the mean over points spread evenly in each cell of the image."""
    points = (torch.arange(CELLS * FINE) + 0.5) * side / (CELLS * FINE) - 0.5
    return avg_pool2d(frame.at(features, points, points), FINE)


def fresh(features: Tensor, seed: int) -> nn.Module:
    """A 3×3 convolution on standardised features [N, C, S, S] that will predict boxes."""
    seed_process(seed)
    return nn.Sequential(Standardise(features), nn.Conv2d(features.shape[1], YOLOv1Loss().channels, 3, padding=1))


def fit(layer: nn.Module, features: Tensor, seed: int, *, truth: CellTruth) -> None:
    """Train it in place."""
    loss, order = YOLOv1Loss(), torch.Generator().manual_seed(seed)
    steps = max(1, len(features) // BATCH)
    optimizer = torch.optim.AdamW(layer.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(features), generator=order).split(BATCH)[:steps]:
            optimizer.zero_grad()
            wanted = CellTruth(truth.has[rows], truth.boxes[rows], truth.labels[rows])
            torch.stack(list(loss(layer(features[rows].float()), wanted).values())).sum().backward()
            optimizer.step()
            schedule.step()


class Standardise(nn.Module):
    """Features less their mean over their deviation, channel by channel, as the training images have them."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        values = features.float()
        self.register_buffer("mean", values.mean((0, 2, 3))[:, None, None])
        self.register_buffer("deviation", values.std((0, 2, 3)).clamp(min=1e-6)[:, None, None])

    def forward(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.deviation


@torch.no_grad()
def judged(layer: nn.Module, features: Tensor, test: Grid) -> tuple[float, float]:
    """Mean IoU and AP50 on held-out images, of which these are the features at the layer's cut."""
    found: list[Detections] = []
    for part in features.split(BATCH):
        found += decode(layer(part.float()), test.side)
    ious = [
        float(box_iou(own.boxes_xyxy[own.scores.argmax()].numpy(), boxes.numpy()).max())
        for own, boxes in zip(found, test.boxes, strict=True)
    ]
    size = (test.side, test.side)
    records = [make_record(Path(f"{n}"), size, boxes.tolist(), [0] * len(boxes)) for n, boxes in enumerate(test.boxes)]
    evaluation = coco_evaluation(records, found, ["object"])
    return sum(ious) / len(ious), mean_or_none(evaluation.eval["precision"][0, :, :, 0, -1]) or 0.0
