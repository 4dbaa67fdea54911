"""Boxes from maps at every threshold: MaxBoxAcc, MaxBoxAccV2 and PxAP (Choe et al., arXiv 2001.07437 and 2007.04178).

The published evaluator (github.com/clovaai/wsolevaluation, evaluation.py) tries 1,000 thresholds on a map of 256
levels, takes the contours around holes for boxes too, and adds a pixel to each side of a box. The same numbers come out
here from the distinct levels alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

TAUS = np.arange(0, 1, 0.001)
DELTAS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class BoxAccuracy:
    """Shares of images whose box is right at one threshold for all of them.

    Attributes:
        by_threshold: [deltas, taus].
        deltas: IoU that a box needs.
    """

    by_threshold: np.ndarray
    deltas: tuple[float, ...]

    @property
    def best(self) -> float:
        """Mean over the deltas of the best threshold's share: MaxBoxAccV2, or MaxBoxAcc with the one delta 0.5."""
        return float(self.by_threshold.max(1).mean())

    def at(self, tau: float) -> float:
        """The same at a threshold that was chosen elsewhere."""
        return float(self.by_threshold[:, int(np.abs(TAUS - tau).argmin())].mean())

    @property
    def tau(self) -> float:
        """The threshold that is best on average over the deltas; to be chosen on other images than it is used on."""
        return float(TAUS[int(self.by_threshold.mean(0).argmax())])


def box_accuracy(
    maps: np.ndarray, boxes: Sequence[np.ndarray], deltas: Sequence[float] = DELTAS, *, all_contours: bool = True
) -> BoxAccuracy:
    """Judge maps [N, H, W] in 0–1 by the true boxes [n, 4] of each, in pixels that include both corners.

    Args:
        all_contours: any contour may give the box, and any true box may be met (V2); else the largest contour only.
    """
    hits = hits_by_tau(maps, boxes, deltas, all_contours=all_contours)
    return BoxAccuracy(hits / len(maps), tuple(deltas))


def hits_by_tau(
    maps: Iterable[np.ndarray], boxes: Iterable[np.ndarray], deltas: Sequence[float] = DELTAS, *,
    all_contours: bool = True,
) -> np.ndarray:  # fmt: skip
    """[deltas, taus] how many maps have a right box; maps [H, W] in 0–1, one after another, and boxes as above."""
    hits = np.zeros((len(deltas), len(TAUS)))
    for one, own in zip(maps, boxes, strict=True):
        ious = ious_by_tau(one, own, all_contours=all_contours)
        hits += ious >= np.array(deltas)[:, None]
    return hits


def ious_by_tau(one: np.ndarray, boxes: np.ndarray, *, all_contours: bool) -> np.ndarray:
    """[taus] IoU of the best box of a map with the best true box; each level is looked at once."""
    levels = (one * 255).astype(np.uint8)
    thresholds = (TAUS * levels.max()).astype(int)
    distinct, place = np.unique(thresholds, return_inverse=True)
    return level_ious(levels, distinct.tolist(), boxes, all_contours)[place]


def level_ious(levels: np.ndarray, thresholds: Sequence[int], boxes: np.ndarray, all_contours: bool) -> np.ndarray:
    """[thresholds] IoU of the best box of a map of whole numbers with the best true box."""
    found = [contour_boxes(levels, threshold, all_contours) for threshold in thresholds]
    x, y, w, h = np.array([box for own in found for box in own]).T
    height, width = levels.shape
    corners = np.stack([x, y, np.minimum(x + w, width - 1), np.minimum(y + h, height - 1)], 1)
    starts = np.cumsum([0, *(len(own) for own in found[:-1])])
    return np.asarray(np.maximum.reduceat(inclusive_iou(corners, boxes).max(1), starts))


def contour_boxes(levels: np.ndarray, threshold: int, all_contours: bool) -> list[Sequence[int]]:
    """x, y, width, height of what is above; one of no size, as the published evaluator has it, if nothing does."""
    _, binary = cv2.threshold(levels, threshold, 255, cv2.THRESH_BINARY)
    contours = cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]
    if contours and not all_contours:
        contours = [max(contours, key=cv2.contourArea)]
    return [cv2.boundingRect(contour) for contour in contours] or [(0, 0, 0, 0)]


def inclusive_iou(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n, m] IoU of boxes [n, 4] and [m, 4] whose corners are pixels that belong to them."""
    low, high = np.maximum(one[:, None, :2], other[None, :, :2]), np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.clip(high - low + 1, 0, None).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2] + 1).prod(1) for boxes in (one, other)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def pixel_average_precision(pixels: np.ndarray, right: np.ndarray) -> float:
    """PxAP: area under precision over recall of all pixels of some maps together, against true masks.

    Args:
        pixels, right: [levels] how many pixels have each level, lowest first, and how many of these are in a true mask.

    Raises:
        ValueError: no pixel is true.
    """
    if not right.any():
        raise ValueError("no pixel is true")
    there = pixels[::-1] > 0
    taken, hits = (np.cumsum(own[::-1])[there] for own in (pixels, right))
    precision, recall = hits / taken, hits / hits[-1]
    return float((precision * np.diff(recall, prepend=0)).sum())
