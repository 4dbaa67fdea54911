"""A map as a detector: the box around the largest component of what is high."""

from collections.abc import Callable

import cv2
import numpy as np

from localisation.binary import highest, region_size

Rule = Callable[[np.ndarray], np.ndarray]


def above_share(share: float = 0.2) -> Rule:
    """Pixels above a share of the maximum, once the minimum is taken away (Zhou et al., arXiv 1512.04150: 0.2)."""

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


def largest_component(region: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The 8-connected component of most pixels; of equally large ones the one with the highest value in it.

    Args:
        region, values: [H, W] bool and the map.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    if count < 2:
        return np.zeros(region.shape, bool)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    candidates = np.flatnonzero(sizes == sizes.max()) + 1
    best = max(candidates, key=lambda label: values[labels == label].max())
    found: np.ndarray = labels == best
    return found


def box_around(region: np.ndarray) -> np.ndarray | None:
    """Box x1 y1 x2 y2, half-open pixels, around a bool region [H, W]; None around nothing."""
    ys, xs = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if not len(ys):
        return None
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def boxes_from_maps(maps: np.ndarray, rule: Rule) -> list[np.ndarray | None]:
    """A box for each map [N, H, W], None for a map of which nothing is high or that is the same all over."""
    return [box_around(largest_component(rule(one), one)) if np.ptp(one) > 0 else None for one in maps]


def box_iou(one: np.ndarray, boxes_xyxy: np.ndarray) -> np.ndarray:
    """[n] IoU of a box with boxes [n, 4], on continuous areas."""
    low, high = np.maximum(one[:2], boxes_xyxy[:, :2]), np.minimum(one[2:], boxes_xyxy[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1) + (one[2:] - one[:2]).prod()
    return np.asarray(shared / (areas - shared))


def best_ious(found: list[np.ndarray | None], truth: list[np.ndarray]) -> np.ndarray:
    """[N] IoU of each image's box with the true box [n, 4] that it fits best; 0 without either."""
    return np.array(
        [0.0 if one is None or not len(own) else box_iou(one, own).max() for one, own in zip(found, truth, strict=True)]
    )


def corloc(ious: np.ndarray, labels: np.ndarray, classes: int) -> tuple[float, np.ndarray]:
    """Share of a class's images with an IoU above 0.5, of each class [classes] and their mean (Deselaers et al., 2012).

    Classes without an image are NaN and do not count.
    """
    own = np.array([(ious[labels == c] > 0.5).mean() if (labels == c).any() else np.nan for c in range(classes)])
    return float(np.nanmean(own)), own


def gt_known_accuracy(ious: np.ndarray) -> float:
    """Share of the images with an IoU of at least 0.5, their class given (Choe et al., arXiv 2001.07437)."""
    return float((ious >= 0.5).mean())
