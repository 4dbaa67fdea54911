"""How well a region or a map falls on true boxes."""

from collections.abc import Mapping

import numpy as np

LOCALISED = 0.2  # IoU above which a region localises its object (Wang & Farrahi, arXiv 2311.12704, §2.4)


def box_mask(boxes_xyxy: np.ndarray, height: int, width: int) -> np.ndarray:
    """[H, W] bool: pixels whose centre is in any of the boxes [n, 4], half-open pixels."""
    ys, xs = np.arange(height)[:, None] + 0.5, np.arange(width)[None] + 0.5
    found = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in boxes_xyxy:
        found |= (xs >= x1) & (xs < x2) & (ys >= y1) & (ys < y2)
    return found


def region_iou(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] intersection over union of bool regions [N, H, W] and true masks of the same shape; 0 of two empty ones."""
    union = (regions | truth).sum((1, 2))
    return (regions & truth).sum((1, 2)) / np.maximum(union, 1)


def coverage(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] fraction of the true mask that the region covers; NaN where there is no true pixel."""
    return divided((regions & truth).sum((1, 2)), truth.sum((1, 2)))


def precision(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] fraction of the region that is true; NaN where the region is empty."""
    return divided((regions & truth).sum((1, 2)), regions.sum((1, 2)))


def iou_ceiling(share: np.ndarray | float, region_share: np.ndarray | float) -> np.ndarray:
    """The best IoU that a region of a given fraction of the image can have with a mask of another."""
    return np.minimum(share, region_share) / np.maximum(np.maximum(share, region_share), 1e-12)


def chance_iou(share: np.ndarray | float, region_share: np.ndarray | float) -> np.ndarray:
    """About what a region that falls anywhere has: product of the shares over their sum minus the product."""
    product = np.multiply(share, region_share)
    return product / np.maximum(np.add(share, region_share) - product, 1e-12)


def furthest_above_chance(means: Mapping[int, float], shares: np.ndarray) -> int:
    """The percentile at which a mean IoU is furthest above that of regions of the same size that fall anywhere.

    The mean IoU itself is highest for nearly the whole image, whatever a map shows, where boxes fill most of it.

    Args:
        means: mean IoU by percentile.
        shares: [N] fraction of the image that each case's boxes take.
    """
    return max(means, key=lambda own: means[own] - float(chance_iou(shares, 1 - own / 100).mean()))


def pointing(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] whether the highest pixel is true (Zhang et al., arXiv 1608.00507); the fraction of the equally high ones."""
    flat, own = maps.reshape(len(maps), -1), truth.reshape(len(maps), -1)
    peak = flat == flat.max(1, keepdims=True)
    return (peak & own).sum(1) / peak.sum(1)


def mass_accuracy(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] fraction of a map's positive evidence on true pixels (Arras et al., arXiv 2003.07258); NaN of none."""
    positive = np.maximum(maps, 0)
    return divided((positive * truth).sum((1, 2)), positive.sum((1, 2)))


def rank_accuracy(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] share that is true of as many highest pixels as the mask has (Arras et al.); NaN without a mask.

    Args:
        regions: `highest` with the size of each mask.
    """
    return coverage(regions, truth)


def divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part of a whole, NaN where there is no whole."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
