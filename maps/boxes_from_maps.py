"""A map as a detector: the box around the largest component of what is high."""

from collections.abc import Callable

import cv2
import numpy as np

from maps.binary import highest, region_size
from utils.boxes import box_iou

Rule = Callable[[np.ndarray], np.ndarray]


def above_share(share: float = 0.2) -> Rule:
    """Pixels above a fraction of the maximum, once the minimum is taken away (Zhou et al., arXiv 1512.04150: 0.2)."""

    def rule(one: np.ndarray) -> np.ndarray:
        low, high = one.min(), one.max()
        return one > low + share * (high - low)

    return rule


def above_otsu(one: np.ndarray) -> np.ndarray:
    """Pixels above Otsu's threshold of the map in 256 steps, as in CheXlocalize (Saporta et al., 2022)."""
    low, high = float(one.min()), float(one.max())
    if high <= low:
        return np.zeros(one.shape, bool)
    steps = np.round((one - low) / (high - low) * 255).astype(np.uint8)
    edge, _ = cv2.threshold(steps, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return steps > edge


def above_percentile(percentile: float) -> Rule:
    """The pixels above a percentile, an exact number of them."""

    def rule(one: np.ndarray) -> np.ndarray:
        found: np.ndarray = highest(one[None], region_size(one.size, percentile))[0]
        return found

    return rule


RULES: dict[str, Rule] = {"cam20": above_share(0.2), "otsu": above_otsu, "percentile80": above_percentile(80)}


def largest_components(regions: np.ndarray, values: np.ndarray) -> list[np.ndarray | None]:
    """Boxes x1 y1 x2 y2, half-open pixels, each around the 8-connected component of most pixels; None around nothing.

    Of equally large components the one with the highest value in it counts.

    Args:
        regions, values: [N, H, W] bool and the maps.
    """
    count, height, width = regions.shape
    if not count:
        return []
    # One below the other, with a row of nothing in between, they are one image.
    apart = np.pad(regions, ((0, 0), (0, 1), (0, 0))).reshape(-1, width).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(apart, connectivity=8)
    left, top, across, down, sizes = stats[1:].T
    owner = top // (height + 1)
    largest = np.zeros(count, sizes.dtype)
    np.maximum.at(largest, owner, sizes)
    found: list[np.ndarray | None] = [None] * count
    peaks = np.full(count, -np.inf)
    for own in np.flatnonzero(sizes == largest[owner]):
        image, rows = owner[own], slice(top[own] % (height + 1), top[own] % (height + 1) + down[own])
        peak = values[image][rows][labels[top[own] : top[own] + down[own]] == own + 1].max()
        if found[image] is None or peak > peaks[image]:
            peaks[image] = peak
            found[image] = np.array([left[own], rows.start, left[own] + across[own], rows.stop], np.float32)
    return found


def boxes_from_maps(maps: np.ndarray, rule: Rule) -> list[np.ndarray | None]:
    """A box for each map [N, H, W], None for a map of which nothing is high or that is the same all over."""
    regions = np.zeros(maps.shape, bool)
    for own, one in zip(regions, maps, strict=True):
        if np.ptp(one) > 0:
            own[:] = rule(one)
    return largest_components(regions, maps)


def best_ious(found: list[np.ndarray | None], truth: list[np.ndarray]) -> np.ndarray:
    """[N] IoU of each image's box with the true box [n, 4] that it fits best; 0 without either."""
    return np.array(
        [0.0 if one is None or not len(own) else box_iou(one, own).max() for one, own in zip(found, truth, strict=True)]
    )


def corloc(ious: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    """Fraction of images with an IoU above 0.5, of each class [classes], and their mean (Deselaers et al., 2012).

    Classes without an image are NaN and do not count.
    """
    own = np.array([(ious[labels == c] > 0.5).mean() if (labels == c).any() else np.nan for c in range(classes)])
    return float(np.nanmean(own)), own


def gt_known_accuracy(ious: np.ndarray) -> float:
    """Fraction of the images with an IoU of at least 0.5, their class given (Choe et al., arXiv 2001.07437)."""
    return float((ious >= 0.5).mean())
