"""Boxes from frozen features: one convolution on each cut, trained with YOLOv1's loss (Wang & Farrahi, figure 6).

Features of every cut are brought to the same cells, so that layers differ in what they know and not in their grid.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from data.records import Record, make_record
from evaluation.detection_figures import mean_or_none
from evaluation.evaluate import coco_evaluation
from maps.cells import Cells
from maps.frame import Frame
from maps.kept import Arrays
from maps.networks import UNTRAINED, Named, trained_networks, untrained_networks
from maps.plan import Plan
from maps.prepare import sample
from models.yolov1 import CellTruth, YOLOv1Loss, cell_truth, decode
from utils.boxes import Detections, Truth, box_iou
from utils.console import progress
from utils.device import side_by_side
from utils.errors import UserError
from utils.seed import mixed_seed

CELLS, FINE = 7, 4  # cells along a side as in YOLOv1, and points of a feature map that are averaged to one
CONSTANT = "constant box"
RUNS = 3  # at least so many a line, over files and seeds
EPOCHS, BATCH, RATE = (20, 320), 64, 2e-3  # at least and at most
STEPS = 2000  # at least, unless these are too many epochs
JUDGED = 2000  # images at most: COCO's evaluation comes once for every cut, file and run


@dataclass(frozen=True)
class Region:
    """What one convolution on frozen features reached on held-out images.

    Attributes:
        miou: mean over the images of the IoU of the surest box with the true box that it fits best.
        map50: average precision at IoU 0.5, of boxes of any class.
        cut: 0 of the constant box, which is at every cut.
        ious: [N] of each image that is left a box; a view that crops leaves some images none.
        record: [N] index of each of these among the images of `judged_on`.
        untrained: the line of the networks that are like it and learnt nothing.
        judged: not where the layer has too few cells in the pictures, or a classifier learnt nothing.
    """

    line: str
    seed: int
    run: int
    cut: int
    miou: float
    map50: float
    ious: np.ndarray = field(repr=False)
    record: np.ndarray = field(repr=False)
    untrained: str = UNTRAINED
    judged: bool = True


@dataclass(frozen=True)
class Grid:
    """True boxes of images, on cells.

    Attributes:
        boxes: [n, 4] of each image, in pixels of the input.
        record: [N] index of each among the images that were asked for: those without a box in view are left out.
        shown: a hash of what the networks are shown.
    """

    truth: CellTruth
    boxes: list[Tensor]
    record: np.ndarray
    side: int
    shown: str


def check_training(plan: Plan) -> None:
    """Refuse boxes from frozen features where there is nothing to train on.

    Raises:
        UserError: there are no training images with boxes.
    """
    if not plan.training:
        what = "no training images with boxes beside those that are explained"
        raise UserError(what, where=plan.split.description.yaml, hint="leave out --regions")


def propose(plan: Plan) -> list[Region]:
    """Train and judge a convolution on every cut of every file; the backbone stays as it is.

    Raises:
        UserError: there are no training images with boxes.
    """
    check_training(plan)
    train, test = (grid(plan, records) for records in (plan.training, judged_on(plan)))
    named = [*trained_networks(plan), *untrained_networks(plan)]
    count = Counter(own.line for own in named)
    found: list[Region] = []
    for network in named:
        identity, shown = network.network.identity(), network.coarse(plan, pooled=True) | network.blank(plan)
        features = cache(partial(both_features, plan, network))  # only if a run is not kept, and once
        for run in range(math.ceil(RUNS / count[network.line])):
            make = partial(fitted, network, run, features, train, test)
            own = plan.kept.of(make, identity, "regions", network.seed, run, train.shown, test.shown)
            found += regions_of(network, run, own, test, shown)
    return [*found, constant_box(train, test)]


def regions_of(named: Named, run: int, found: Arrays, test: Grid, shown: frozenset[int]) -> list[Region]:
    """What `fitted` found, one by one.

    Args:
        shown: cuts that are shown only, not judged.
    """
    rows = zip(named.file.cuts, found["miou"], found["map50"], found["ious"], strict=True)
    about = (named.line, named.seed, run)
    return [
        Region(*about, cut, float(miou), float(map50), ious, test.record, named.untrained, cut not in shown)
        for cut, miou, map50, ious in rows
    ]


def judged_on(plan: Plan) -> list[Record]:
    """The held-out images that regions are judged on, where they have a box in view."""
    return sample(list(plan.split.records), JUDGED)


def judged_cuts(regions: Sequence[Region], line: str) -> list[int]:
    """The cuts of a line that are judged, ascending."""
    return sorted({own.cut for own in regions if own.line == line and own.judged})


def both_features(plan: Plan, named: Named) -> list[list[Tensor]]:
    """Of the images that are learnt from, and of those that are judged."""
    return [features_of(plan, named, records) for records in (plan.training, judged_on(plan))]


def fitted(named: Named, run: int, features: Callable[[], list[list[Tensor]]], train: Grid, test: Grid) -> Arrays:
    """A convolution on every cut of a network, trained and measured: `miou` and `map50` [cuts], `ious` [cuts, N]."""
    learnt, seen = features()
    seeds = [mixed_seed(named.seed, run, cut) for cut in named.file.cuts]
    layers = [fresh(own, train.truth) for own in learnt]
    with side_by_side() as pool:
        fits = pool.map(partial(fit, truth=train.truth), layers, learnt, seeds)
        list(progress(fits, f"{named.line}: regions", len(layers)))
    found = [judged(found_by(layer, own, test), test) for layer, own in zip(layers, seen, strict=True)]
    return {name: np.array(own) for name, own in zip(("miou", "map50", "ious"), zip(*found, strict=True), strict=True)}


def constant_box(train: Grid, test: Grid) -> Region:
    """The mean of the largest boxes of the training images, for every image: what looks at nothing."""
    largest = [own[((own[:, 2] - own[:, 0]) * (own[:, 3] - own[:, 1])).argmax()] for own in train.boxes]
    box = torch.stack(largest).mean(0)[None]
    one = Detections(box, torch.ones(1), torch.zeros(1, dtype=torch.long))
    return Region(CONSTANT, 0, 0, 0, *judged([one] * len(test.boxes), test), test.record)


def grid(plan: Plan, records: Sequence[Record]) -> Grid:
    """The true boxes of some images."""
    side, boxes, record, shown = plan.files[0].imgsz, [], [], []
    for cases in plan.images(records, "boxes"):
        boxes += [torch.from_numpy(own) for own in cases.boxes]
        record.append(cases.record)
        shown.append(plan.kept.content(cases))
    sample = torch.cat([torch.full((len(own),), index) for index, own in enumerate(boxes)])
    truth = Truth(torch.cat(boxes), torch.zeros(len(sample), dtype=torch.long), sample)
    return Grid(cell_truth(truth, len(boxes), CELLS, side), boxes, np.concatenate(record), side, " ".join(shown))


@torch.no_grad()
def features_of(plan: Plan, named: Named, records: Sequence[Record]) -> list[Tensor]:
    """[N, C, S, S] of some images at every cut, in half precision to spare memory."""
    network, side = named.network, named.file.imgsz
    parts: list[list[Tensor]] = [[] for _ in named.file.cuts]
    for cases in plan.images(records, "features"):
        for stage, own in enumerate(network.features(cases.images.to(plan.device))):
            if plan.stretched:
                even = Cells.spread(min(own.shape[2:]), side)
                frame = Frame(even.stride, even.offset)
            else:
                frame = network.frame(stage, cases.images.shape[2:], pooled=True)
            parts[stage].append(on_cells(frame, own, side).half().cpu())
    return [torch.cat(own) for own in parts]


def on_cells(frame: Frame, features: Tensor, side: int) -> Tensor:
    """[B, C, h, w] → [B, C, S, S]: the mean over points spread evenly in each cell of the image."""
    points = (torch.arange(CELLS * FINE) + 0.5) * side / (CELLS * FINE) - 0.5
    return avg_pool2d(frame.at(features, points, points), FINE)


def fresh(features: Tensor, truth: CellTruth) -> nn.Module:
    """A 3×3 convolution on standardised features [N, C, S, S] that will predict boxes, and predicts average ones.

    From random weights most of the training would go into what every picture has in common, and end before features
    counted: layers would differ in how fast they learn.
    """
    layer = nn.Conv2d(features.shape[1], YOLOv1Loss().channels, 3, padding=1)
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(average_boxes(truth))  # type: ignore[union-attr]
    return nn.Sequential(Standardise(features), layer)


def average_boxes(truth: CellTruth) -> Tensor:
    """[boxes · 5] what each cell predicts of boxes: the mean place in it, a small and a large size, and how often."""
    found, count = truth.boxes[truth.has], YOLOv1Loss().boxes
    shares = (torch.arange(count) + 0.5) / count  # of different sizes, so that not all learn the same
    sizes = torch.quantile(found[:, 2:].sqrt(), shares, dim=0)
    often = truth.has.float().mean().expand(count, 1) / count
    return torch.cat([found[:, :2].mean(0).expand(count, 2), sizes, often], 1).flatten()


def fit(layer: nn.Module, features: Tensor, seed: int, *, truth: CellTruth) -> None:
    """Train it in place."""
    loss, order = YOLOv1Loss(), torch.Generator().manual_seed(seed)
    steps = max(1, len(features) // BATCH)
    epochs = int(np.clip(math.ceil(STEPS / steps), *EPOCHS))
    optimizer = torch.optim.AdamW(layer.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=order).split(BATCH)[:steps]:
            optimizer.zero_grad()
            wanted = CellTruth(truth.has[rows], truth.boxes[rows], truth.labels[rows])
            torch.stack(list(loss(layer(features[rows].float()), wanted).values())).sum().backward()
            optimizer.step()
            schedule.step()


class Standardise(nn.Module):
    """Features minus their mean over their deviation, channel by channel, as the training images have them."""

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
def found_by(layer: nn.Module, features: Tensor, test: Grid) -> list[Detections]:
    """Boxes in held-out images, of which these are the features at the layer's cut."""
    return [own for part in features.split(BATCH) for own in decode(layer(part.float()), test.side)]


def judged(found: Sequence[Detections], test: Grid) -> tuple[float, float, np.ndarray]:
    """Mean IoU, AP50, and the IoU of each held-out image."""
    ious = np.array(
        [
            box_iou(own.boxes_xyxy[own.scores.argmax()].numpy(), boxes.numpy()).max()
            for own, boxes in zip(found, test.boxes, strict=True)
        ]
    )
    size = (test.side, test.side)
    records = [make_record(Path(f"{n}"), size, boxes.tolist(), [0] * len(boxes)) for n, boxes in enumerate(test.boxes)]
    evaluation = coco_evaluation(records, list(found), ["object"])
    return float(ious.mean()), mean_or_none(evaluation.eval["precision"][0, :, :, 0, -1]) or 0.0, ious
