"""Boxes from frozen features by regression in windows (Sermanet et al., OverFeat, arXiv 1312.6229, §4–5).

Two small networks look at the features of a window: one says which class is in it, or the background; the other where
in the window the object's box is. The backbone stays as it is.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, mse_loss

from maps.prepare import TRAINING_IMAGES
from maps.regions import Standardise
from utils.seed import mixed_seed, seed_process
from wsol.localiser import Localiser, Subject, largest
from wsol.windows import Windows, by_windows, of_labels, place_of, windows

CELLS = 3  # along a side, to which the features of a window are averaged
HIDDEN = 256
SHOWN = 0.5  # fraction of a box that a window must show to learn its place, as in the paper
FITTING, FOREIGN = 0.5, 0.2  # IoU with a box from which on a window is of its class; below it with all: background
REGRESSED, BACKGROUND = 12, 24  # windows of an image at most that teach the place, and that there are negatives of
HARD = 3  # negatives for each positive: the most offending ones
EPOCHS, BATCH, RATE = 20, 256, 1e-3


@dataclass(frozen=True)
class Lesson:
    """Windows of training images.

    Attributes:
        features: [n, C, 3, 3] in half precision.
        labels: [n] class of what the window holds; −1 for the background.
        places: [n, 4] the box as fractions of the window; NaN where it shows too little of it.
        fits: [n] bool: the window teaches its class; background always does.
    """

    features: Tensor
    labels: Tensor
    places: Tensor
    fits: Tensor


def pooled(features: Tensor) -> Tensor:
    """[…, C, h, w] → […, C, 3, 3]."""
    return adaptive_avg_pool2d(features.flatten(0, -4), CELLS).unflatten(0, features.shape[:-3])


def overlaps(windows_: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """IoU of windows [n, 4] with a box, and how much of the box each shows."""
    inner = np.minimum(windows_[:, 2:], box[2:]) - np.maximum(windows_[:, :2], box[:2])
    shared = inner.clip(0).prod(1)
    own = (box[2:] - box[:2]).prod()
    return shared / ((windows_[:, 2:] - windows_[:, :2]).prod(1) + own - shared), shared / own


def lesson(subject: Subject, cut: int, draw: np.random.Generator) -> Lesson:
    """Windows of all training images: those that show the largest box of the class, and some of background."""
    every = true_boxes(subject)
    parts: list[list[Tensor]] = []
    for cases in subject.training():
        scales = list(windows(subject.network, cut, cases.images.to(subject.plan.device)))
        boxes = np.concatenate([own.boxes for own in scales])
        features = torch.cat([pooled(own.features).half().cpu() for own in scales], 1)
        for row, (label, box) in enumerate(zip(cases.labels.tolist(), largest(cases), strict=True)):
            iou, shown = overlaps(boxes, box)
            fits = iou >= min(FITTING, iou.max())
            taught = some(np.flatnonzero((shown >= SHOWN) | fits), REGRESSED, draw, first=fits)
            empty = some(np.flatnonzero(foreign(boxes, every[int(cases.record[row])]) & ~fits), BACKGROUND, draw)
            chosen = np.concatenate([taught, empty])
            sides = np.tile(boxes[taught, 2:] - boxes[taught, :2], 2)
            places = np.full((len(chosen), 4), np.nan)
            places[: len(taught)] = (box - np.tile(boxes[taught, :2], 2)) / sides
            labels = np.repeat([label, -1], [len(taught), len(empty)])
            teaches = np.concatenate([fits[taught], np.ones(len(empty), bool)])
            arrays = (labels, places.astype(np.float32), teaches)
            parts.append([features[row, chosen], *map(torch.from_numpy, arrays)])
    return Lesson(*(torch.cat(part) for part in zip(*parts, strict=True)))


def true_boxes(subject: Subject) -> dict[int, np.ndarray]:
    """[n, 4] of each training image, by its index: the boxes of all classes, as fractions of the image."""
    found: dict[int, list[np.ndarray]] = {}
    for cases in subject.training():
        height, width = cases.truth.shape[1:]
        for record, own in zip(cases.record.tolist(), cases.boxes, strict=True):
            found.setdefault(record, []).append(own / np.array([width, height, width, height]))
    return {record: np.concatenate(own) for record, own in found.items()}


def foreign(windows_: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """[n] bool: windows [n, 4] that are background, for they overlap and show too little of any true box [m, 4]."""
    pairs = [overlaps(windows_, box) for box in boxes]
    return np.all([(iou < FOREIGN) & (shown < SHOWN) for iou, shown in pairs], 0)


def some(indices: np.ndarray, most: int, draw: np.random.Generator, first: np.ndarray | None = None) -> np.ndarray:
    """So many of them at random; those of a mask [n] go before the others."""
    order = draw.permutation(indices)
    if first is not None:
        order = order[np.argsort(~first[order], kind="stable")]
    return order[:most]


def layers(features: Tensor, numbers: int) -> nn.Sequential:
    """Standardised features, one hidden layer, so many numbers."""
    flat = features[0].numel()
    return nn.Sequential(
        Standardise(features), nn.Flatten(), nn.Linear(flat, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, numbers)
    )


def learnt(network: nn.Module, count: int, loss: "partial[Tensor]", seed: int) -> nn.Module:
    """The network after its passes over so many windows; `loss` takes the network and the rows of a batch."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    steps = -(-count // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(count, generator=order).split(BATCH):
            optimizer.zero_grad()
            loss(network, rows).backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def place_loss(own: Lesson, network: nn.Module, rows: Tensor, *, shared: bool) -> Tensor:
    """ℓ2 of the four numbers of each window's own class, or of those that all classes share."""
    found = network(own.features[rows].float()).unflatten(1, (-1, 4))
    place = torch.zeros_like(own.labels[rows]) if shared else own.labels[rows]
    return mse_loss(found[torch.arange(len(rows)), place], own.places[rows])


def class_loss(own: Lesson, network: nn.Module, rows: Tensor, *, negatives: str) -> Tensor:
    """Cross-entropy over classes and background, of the positives and HARD times as many negatives.

    Args:
        negatives: `hard`: those held least to be background, found anew in every batch; `random`: as they come.
    """
    logits = network(own.features[rows].float())
    background = logits.shape[1] - 1
    label = own.labels[rows]
    loss = cross_entropy(logits, label.where(label >= 0, background), reduction="none")
    empty = label < 0
    most = min(int(empty.sum()), HARD * max(1, int((~empty).sum())))
    worst = loss.detach() if negatives == "hard" else torch.arange(len(rows), 0, -1, dtype=loss.dtype)
    chosen = worst.masked_fill(~empty, -torch.inf).topk(most).indices
    return torch.cat([loss[~empty], loss[chosen]]).mean()


def only(own: Lesson, which: Tensor) -> Lesson:
    """Some of the windows."""
    return Lesson(own.features[which], own.labels[which], own.places[which], own.fits[which])


def overfeat(subject: Subject, boxes: str, cut: int, negatives: str, images: int = TRAINING_IMAGES) -> Localiser:
    """Fit both networks at a cut of a network, and merge what they find in all windows.

    Args:
        boxes: `class`: four numbers for each class; `shared`: the same four for all.
        cut: counted from 1; 0 for the last.
        negatives: of the window's classifier, `hard` or `random`; `none`: it knows no background.
        images: it learns from so many training images, drawn at random, the same in every run; 0: from all.
    """
    subject = replace(subject, training=partial(subject.training, images))
    place, classes, shared = place_of(subject, cut), len(subject.plan.files[0].names), boxes == "shared"
    seed = mixed_seed(subject.seed, place)
    seed_process(seed)
    taught = lesson(subject, place, np.random.default_rng(seed))
    shown = only(taught, ~taught.places.isnan().any(1))
    regress = layers(shown.features, 4 * (1 if shared else classes))
    learnt(regress, len(shown.labels), partial(place_loss, shown, shared=shared), seed)
    known = only(taught, taught.fits & ((taught.labels >= 0) | (negatives != "none")))
    classify = layers(known.features, classes + (negatives != "none"))
    rule = partial(class_loss, known, negatives=negatives) if negatives != "none" else partial(plain_loss, known)
    learnt(classify, len(known.labels), rule, seed)

    @torch.no_grad()
    def look(own: Windows, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        features = pooled(own.features).cpu()
        size = features.shape[:2]
        scores = classify(features.flatten(0, 1)).softmax(-1).unflatten(0, size)
        found = regress(features.flatten(0, 1)).unflatten(0, size).unflatten(2, (-1, 4))
        mine = found[torch.arange(len(labels)), :, torch.zeros_like(labels) if shared else labels].double().numpy()
        corner, side = own.boxes[:, :2], own.boxes[:, 2:] - own.boxes[:, :2]
        return ordered(np.tile(corner, 2) + mine * np.tile(side, 2)), of_labels(scores, labels)

    return by_windows(subject, place, look)


def plain_loss(own: Lesson, network: nn.Module, rows: Tensor) -> Tensor:
    """Cross-entropy over the classes."""
    return cross_entropy(network(own.features[rows].float()), own.labels[rows])


def ordered(boxes: np.ndarray) -> np.ndarray:
    """Boxes with their corners in order, none thinner than a thousandth of the image."""
    low, high = np.minimum(boxes[..., :2], boxes[..., 2:]), np.maximum(boxes[..., :2], boxes[..., 2:])
    return np.concatenate([low, np.maximum(high, low + 1e-3)], -1)
