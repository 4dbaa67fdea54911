"""How coarse a region is: what is left of it after openings by larger and larger disks.

Wang & Farrahi (arXiv 2311.12704, §3.5) plot one number a map; the first author's notebook for a sibling paper
(github.com/FrankWJW/cascade_transfer_learning_medical at 4fa5db1e) takes the mean over disks of radius 0 to 14 of the
pixels that survive.
"""

from functools import cache

import cv2
import numpy as np

RADII, SIDE = 15, 256  # as many radii for images of this side; fewer for smaller ones


def radii_for(side: int) -> int:
    """How many radii, from 0 on, suit images of a side."""
    return max(2, round(RADII * side / SIDE))


@cache
def disk(radius: int) -> np.ndarray:
    """[2r + 1, 2r + 1] uint8: pixels within the radius."""
    reach = np.arange(-radius, radius + 1) ** 2
    return (reach[:, None] + reach[None] <= radius**2).astype(np.uint8)


def spectrum(regions: np.ndarray, radii: int) -> np.ndarray:
    """[N, radii] pixels of bool regions [N, H, W] that survive an opening by a disk of each radius from 0 on.

    Outside the image there is nothing.
    """
    found = np.zeros((len(regions), radii), np.int64)
    for row, region in enumerate(regions):
        padded = np.pad(region, radii).astype(np.uint8)
        for radius in range(radii):
            left = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disk(radius)) if radius else padded
            found[row, radius] = cv2.countNonZero(left)
            if not found[row, radius]:
                break
    return found


def coarseness(survivors: np.ndarray) -> np.ndarray:
    """[N] mean over the radii of the pixels that survive: higher is coarser."""
    return survivors.mean(1)


def mean_size(survivors: np.ndarray) -> np.ndarray:
    """[N] sum over the radii of the share that survives: the mean size, in radii, of what a region is made of."""
    whole = survivors[:, :1]
    return np.where(whole[:, 0] > 0, (survivors / np.maximum(whole, 1)).sum(1), np.nan)
