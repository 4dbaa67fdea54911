"""Sliding windows over scales, and boxes that are merged greedily (Sermanet et al., OverFeat, arXiv 1312.6229, §4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from maps.explained import Explained
from wsol.localiser import Localiser, Subject

SCALES = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0)  # of the image; six, as in OverFeat
STEPS = 4  # windows begin so many times within the length of one
BEST = 20  # boxes of an image that are merged: those of the highest scores
APART = 1.0  # match score from which on two boxes are not merged


@dataclass(frozen=True)
class Windows:
    """All windows of some images at one scale.

    Attributes:
        features: [B, n, C, h, w] what a classifier on the cut is given when it looks at the image at its own size.
        boxes: [n, 4] what each window covers, as fractions of the image.
    """

    features: Tensor
    boxes: np.ndarray


def offsets(cells: int, window: int) -> list[int]:
    """Where windows of so many cells begin, up to the edge."""
    step = max(1, window // STEPS)
    return sorted({*range(0, cells - window + 1, step), cells - window})


@torch.no_grad()
def windows(network: Explained, cut: int, images: Tensor) -> Iterator[Windows]:
    """Scale after scale: the enlarged images' features at a cut (its place), and the windows in them.

    A window has as many cells as the features of an image at its own size: enlarged k times, it shows a k-th of it. It
    begins where its first cell does, or, where maps are stretched, at that cell's share of the image.

    Raises:
        UserError: the cells are not spaced evenly.
    """
    height, width = network.features(images)[cut].shape[2:]
    stride = network.frame(cut, images.shape[2:], pooled=True).stride if network.aligned else None
    for scale in SCALES:
        size = [round(side * scale) for side in images.shape[2:]]
        larger = images if scale == 1 else interpolate(images, size, mode="bilinear", antialias=False)
        found = network.features(larger)[cut]
        rows, columns = found.shape[2:]
        places = [(y, x) for y in offsets(rows, height) for x in offsets(columns, width)]
        parts = torch.stack([found[:, :, y : y + height, x : x + width] for y, x in places], 1)
        corners = np.array([(x, y) for y, x in places])
        if stride is None:
            low, sides = corners / (columns, rows), np.array([width / columns, height / rows])
        else:
            low, sides = corners * stride / size[::-1], np.array(images.shape[:1:-1]) / size[::-1]
        yield Windows(parts, np.concatenate([low, np.minimum(low + sides, 1)], 1))


def distances(boxes: np.ndarray) -> np.ndarray:
    """[n, n] match scores of boxes [n, 4]: distance of the centres over the mean side, and 1 − IoU; 0 for equal boxes.

    OverFeat adds the area that two boxes share where it should take it away: boxes that share more match better.
    """
    one, other = boxes[:, None], boxes[None]
    sides = boxes[:, 2:] - boxes[:, :2]
    mean = (sides[:, None] + sides[None]).mean(-1) / 2
    apart = np.linalg.norm((one[..., :2] + one[..., 2:] - other[..., :2] - other[..., 2:]) / 2, axis=-1)
    shared = (np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])).clip(0).prod(-1)
    areas = sides.prod(-1)
    found: np.ndarray = apart / mean + 1 - shared / (areas[:, None] + areas[None] - shared)
    return found


def merged(boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge the two boxes that match best, again and again, until none match; their scores add up.

    Args:
        boxes: [n, 4] x1 y1 x2 y2.
        scores: [n], above 0; a merged box is the mean weighted by them.

    Returns:
        Boxes [m, 4] and scores [m], best first.
    """
    boxes, scores = boxes.astype(float), scores.astype(float)
    while len(boxes) > 1:
        apart = distances(boxes)
        np.fill_diagonal(apart, np.inf)
        pair = list(np.unravel_index(apart.argmin(), apart.shape))
        if apart.min() > APART:
            break
        both = np.average(boxes[pair], axis=0, weights=scores[pair])
        boxes = np.concatenate([np.delete(boxes, pair, 0), both[None]])
        scores = np.append(np.delete(scores, pair), scores[pair].sum())
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order]


def surest(boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """[4] the box of the highest score after the best ones are merged, within the image."""
    best = np.argsort(-scores, kind="stable")[:BEST]
    return np.clip(merged(boxes[best], np.maximum(scores[best], np.finfo(float).tiny))[0][0], 0, 1)


Looks = Callable[[Windows, Tensor], tuple[np.ndarray, np.ndarray]]
"""Windows at a scale and classes [B] → boxes [B, n, 4] as fractions of the image, and their scores [B, n]."""


def by_windows(subject: Subject, cut: int, look: Looks) -> Localiser:
    """The merged box of all windows at all scales, for the class that is asked about."""

    def boxes(images: Tensor, labels: Tensor) -> np.ndarray:
        device = subject.plan.device
        found = [look(own, labels) for own in windows(subject.network, cut, images.to(device))]
        everywhere, scores = (np.concatenate(part, 1) for part in zip(*found, strict=True))
        return np.stack([surest(*own) for own in zip(everywhere, scores, strict=True)])

    return Localiser(boxes, lambda found: found)


def classified(subject: Subject, cut: int) -> Localiser:
    """Windows as they are, scored by the network's own classifier at the cut."""
    place = place_of(subject, cut)
    head, single = subject.network.heads[place], subject.network.single_label

    @torch.no_grad()
    def look(own: Windows, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        logits = head(own.features.flatten(0, 1)).unflatten(0, own.features.shape[:2])
        shares = logits.softmax(-1) if single else logits.sigmoid()
        return np.tile(own.boxes, (len(labels), 1, 1)), of_labels(shares, labels)

    return by_windows(subject, place, look)


def of_labels(scores: Tensor, labels: Tensor) -> np.ndarray:
    """[B, n] the scores [B, n, classes] of each image's class."""
    rows = torch.arange(len(labels))
    found: np.ndarray = scores.cpu()[rows, :, labels].double().numpy()
    return found


def place_of(subject: Subject, cut: int) -> int:
    """Index of a cut that is counted from 1; of the last one for 0."""
    return (cut or len(subject.network.cuts)) - 1
