"""How coarse a region is: what is left of it after openings by larger and larger disks.

Wang & Farrahi (arXiv 2311.12704, §3.5) plot one number a map; the first author's notebook for a sibling paper
(github.com/FrankWJW/cascade_transfer_learning_medical at 4fa5db1e) takes the mean over disks of radius 0 to 14 of the
pixels that survive.
"""

import math
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np

RADII, SIDE = 15, 256  # as many radii for images of this side; fewer for smaller ones
LEAST = 6  # radii, where they are more than a pixel apart
SMALL = 8  # the largest radius at which OpenCV opens faster
FAR = 60_000  # further than any image is high, with room to count on


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

    Outside the image there is nothing. Both ways to open give the same pixels.
    """
    found = np.empty((len(regions), len(radii)), np.int64)
    small = np.asarray(radii) <= SMALL
    for way, own in ((surviving_disks, small), (surviving_columns, ~small)):
        if own.any():
            found[:, own] = way(regions, np.asarray(radii)[own].tolist())
    return found


def surviving_disks(regions: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """The same with OpenCV, which looks at every pixel of a disk: its time grows with the square of the radius."""
    count, _, width = regions.shape
    # One below the other, with rows of nothing in between, they are one image: an opening adds no pixel to any of them.
    apart = np.pad(regions, ((0, 0), (0, max(radii)), (0, 0))).reshape(-1, width).view(np.uint8)
    found = np.empty((count, len(radii)), np.int64)
    for place, radius in enumerate(radii):
        left = cv2.morphologyEx(apart, cv2.MORPH_OPEN, disk(radius), borderType=cv2.BORDER_CONSTANT, borderValue=0)
        found[:, place] = np.count_nonzero(left.reshape(count, -1), axis=1)
    return found


def surviving_columns(regions: np.ndarray, radii: Sequence[int]) -> np.ndarray:
    """The same with a disk taken as columns side by side, of which the length is all that counts.

    Its time grows with the radius.
    """
    own = np.ascontiguousarray(regions.transpose(1, 2, 0))  # [H, W, N]: all images at once, and shifts along rows
    inside = along_columns(~own, outside=0)
    return np.stack([np.count_nonzero(opened(inside, radius), axis=(0, 1)) for radius in radii], 1)


def opened(inside: np.ndarray, radius: int) -> np.ndarray:
    """[H, W, N] bool: what an opening leaves of regions, of whose pixels we know how far, in their column, the end is.

    Args:
        inside: [H, W, N] pixels to the nearest one outside, 0 of those outside.
    """
    found = np.zeros(inside.shape, bool)
    left = inside.shape[1] - 2 * radius  # columns that a disk can have its centre in
    if left <= 0:
        return found
    reach = [math.isqrt(radius**2 - aside**2) for aside in range(radius + 1)]
    centres = np.ones((len(inside), left, inside.shape[2]), bool)
    for aside, half in enumerate(reach):
        long = inside > half
        for start in (radius - aside, radius + aside):
            centres &= long[:, start : start + left]
    away = along_columns(centres, outside=FAR)
    for aside, half in enumerate(reach):
        covered = away <= half
        for start in (radius - aside, radius + aside):
            found[:, start : start + left] |= covered
    return found


def along_columns(there: np.ndarray, outside: int) -> np.ndarray:
    """[H, W, N] uint16: rows to the nearest pixel of the column that is there, [H, W, N] bool; FAR where none is.

    Args:
        outside: 0 if the rows next to the image count as there, or FAR.
    """
    return np.minimum(going_down(~there, outside), going_down(~there[::-1], outside)[::-1])


def going_down(absent: np.ndarray, above: int) -> np.ndarray:
    """[H, W, N] uint16: rows since the last pixel that was not absent, [H, W, N] bool, counted from `above`."""
    found = np.empty(absent.shape, np.uint16)
    last = np.full(absent.shape[1:], above, np.uint16)
    for row, own in enumerate(absent):
        last = found[row] = np.minimum(last + 1, FAR) * own
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
