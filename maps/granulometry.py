"""How coarse a region is: what is left of it after openings by larger and larger disks.

Wang & Farrahi (arXiv 2311.12704, §3.5) plot one number a map; the first author's notebook for a sibling paper
(github.com/FrankWJW/cascade_transfer_learning_medical at 4fa5db1e) takes the mean over disks of radius 0 to 14 of the
pixels that survive.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

RADII, SIDE = 15, 256  # as many radii for images of this side; fewer for smaller ones
LEAST = 6  # radii, where they are more than a pixel apart


def radii_for(side: int, cell: float = 1.0) -> tuple[int, ...]:
    """Radii, ascending from 0, that suit images of a side and maps with cells of so many pixels.

    What a map marks is no smaller than a cell: where disks stay smaller, everything survives and nothing is measured.
    Larger cells have as many radii further apart, up to that of a cell.
    """
    count = max(2, round(RADII * side / SIDE))
    if cell < count:
        return tuple(range(count))
    return tuple(np.unique(np.linspace(0, np.ceil(cell), max(count, LEAST)).round().astype(int)).tolist())


@cache
def disk(radius: int) -> np.ndarray:
    """[2r + 1, 2r + 1] uint8: pixels within the radius."""
    reach = np.arange(-radius, radius + 1) ** 2
    return (reach[:, None] + reach[None] <= radius**2).astype(np.uint8)


def spectrum(regions: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """[N, radii] pixels of bool regions [N, H, W] that survive an opening by a disk of each radius.

    Outside the image there is nothing.
    """
    count, _, width = regions.shape
    # One below the other, with rows of nothing in between, they are one image: an opening adds no pixel to any of them.
    apart = np.pad(regions, ((0, 0), (0, max(radii)), (0, 0))).reshape(-1, width).view(np.uint8)
    found = np.empty((count, len(radii)), np.int64)
    for place, radius in enumerate(radii):
        left = cv2.morphologyEx(apart, cv2.MORPH_OPEN, disk(radius), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        found[:, place] = np.count_nonzero(left.reshape(count, -1), axis=1)
    return found


def coarseness(survivors: np.ndarray) -> np.ndarray:
    """[N] mean over the radii of the pixels that survive: higher is coarser."""
    return survivors.mean(1)


def mean_size(survivors: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """[N] sum over all radii of the share that survives: the mean radius, in pixels, of what a region is made of.

    What survives a radius is taken to survive up to the next one.
    """
    whole, steps = survivors[:, :1], np.diff(radii, append=2 * radii[-1] - radii[-2])
    return np.where(whole[:, 0] > 0, (survivors / np.maximum(whole, 1) * steps).sum(1), np.nan)
