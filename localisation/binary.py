"""Maps → regions of an exact area, and the pixels of a map in the order of their height.

A threshold would not give a region of a given area: after a ReLU a large part of a map is exactly 0, and 50 % of the
pixels above the median may be 30 % or all of them.
"""

from collections.abc import Sequence

import numpy as np

PERCENTILES = tuple(range(50, 100, 5))


def region_size(pixels: int, percentile: float) -> int:
    """How many of so many pixels lie above a percentile, rounded to the nearest.

    Raises:
        ValueError: the percentile is outside (0, 100).
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile {percentile} is outside (0, 100)")
    return round((1 - percentile / 100) * pixels)


def descending(maps: np.ndarray, within: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """[N, H·W] pixels of each map [N, H, W], the highest first.

    Args:
        within: [N, H, W] that decides among equal pixels, what a map was before rectification; the rest is decided by
            a draw.
        seed: of that draw.
    """
    flat = maps.reshape(len(maps), -1)
    order = np.broadcast_to(np.random.default_rng(seed).permutation(flat.shape[1]), flat.shape)
    for values in (flat,) if within is None else (within.reshape(flat.shape), flat):
        order = falling(values, order)
    return order


def falling(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    """[N, P] an order of pixels, sorted anew by their values [N, P], the highest first; equal ones stay as they are.

    Whole numbers are sorted much faster than floats with their indices would be by a stable sort: the upper half of
    each is a value in single precision, negated, the lower half the place in the order.
    """
    rows = np.arange(len(order))[:, None] * order.shape[1]
    own = np.take(0 - values.astype(np.float32), order + rows)
    bits = own.view(np.int32)
    rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)  # whole numbers in the order of the floats
    places = np.sort((rising.astype(np.int64) << 32) | np.arange(order.shape[1]), axis=1) & 0xFFFFFFFF
    return np.take(np.ascontiguousarray(order), places + rows)


def regions(order: np.ndarray, count: int | np.ndarray, height: int, width: int) -> np.ndarray:
    """[N, H, W] bool: the first `count` pixels, one number or [N], of each order [N, H·W]."""
    first = np.arange(order.shape[1]) < np.broadcast_to(count, len(order))[:, None]
    found = np.zeros(order.shape, bool)
    np.put_along_axis(found, order, first, 1)
    return found.reshape(-1, height, width)


def highest(
    maps: np.ndarray, count: int | np.ndarray, *, within: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """[N, H, W] bool: the highest pixels of each map, exactly `count` of them, one number or [N]; see `descending`."""
    return regions(descending(maps, within, seed), count, *maps.shape[1:])


def iou_by_size(order: np.ndarray, truth: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """[N, counts] IoU with true masks [N, H, W] of the regions of so many highest pixels."""
    hits = np.take_along_axis(truth.reshape(order.shape), order, 1).cumsum(1, dtype=np.int32)
    sizes = np.asarray(counts)
    shared = hits[:, np.maximum(sizes, 1) - 1] * (sizes > 0)
    return np.asarray(shared / np.maximum(sizes + hits[:, -1:] - shared, 1))
