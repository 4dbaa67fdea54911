"""Maps → regions of an exact area, and the pixels of a map in the order of their height.

A threshold would not give a region of a given area: after a ReLU a large part of a map is exactly 0, and 50 % of the
pixels above the median may be 30 % or all of them.
"""

from collections.abc import Sequence

import numpy as np

PERCENTILES = (*range(5, 100, 5), 97, 98, 99)  # wide enough for boxes of 1 % to nearly all of an image


def region_size(pixels: int, percentile: float) -> int:
    """How many of so many pixels are above a percentile, rounded to the nearest.

    Raises:
        ValueError: the percentile is outside (0, 100).
    """
    if not 0 < percentile < 100:
        raise ValueError(f"percentile {percentile} is outside (0, 100)")
    return round((1 - percentile / 100) * pixels)


def ranks(maps: np.ndarray, within: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """[N, H, W] int32: how many pixels of its map [N, H, W] are higher than each, in single precision.

    Args:
        within: [N, H, W] that decides among equal pixels, what a map was before rectification; the rest is decided by
            a draw.
        seed: of that draw.
    """
    flat = maps.reshape(len(maps), -1)
    order = np.broadcast_to(np.random.default_rng(seed).permutation(flat.shape[1]), flat.shape)
    for values in (flat,) if within is None else (within.reshape(flat.shape), flat):
        order = falling(values, order)
    found = np.empty(flat.shape, np.int32)
    np.put_along_axis(found, order, np.arange(flat.shape[1], dtype=np.int32)[None], 1)
    return found.reshape(maps.shape)


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


def above(ranks: np.ndarray, count: int | np.ndarray) -> np.ndarray:
    """[N, H, W] bool: the first `count` pixels, one number or [N], by their ranks."""
    return ranks < np.reshape(count, (-1, 1, 1))


def highest(
    maps: np.ndarray, count: int | np.ndarray, *, within: np.ndarray | None = None, seed: int = 0
) -> np.ndarray:
    """[N, H, W] bool: the highest pixels of each map, exactly `count` of them, one number or [N]; see `ranks`."""
    return above(ranks(maps, within, seed), count)


def iou_by_size(ranks: np.ndarray, truth: np.ndarray, counts: Sequence[int]) -> np.ndarray:
    """[N, counts] IoU with true masks [N, H, W] of the regions of so many highest pixels."""
    order = np.argsort(counts)
    sample, *place = np.nonzero(truth)
    row = np.searchsorted(np.asarray(counts)[order], ranks[(sample, *place)], side="right")  # sizes that do not hold it
    hits = np.bincount(sample * (len(counts) + 1) + row, minlength=len(truth) * (len(counts) + 1))
    shared = np.empty((len(truth), len(counts)), np.int64)
    shared[:, order] = hits.reshape(len(truth), -1).cumsum(1)[:, :-1]
    size = np.count_nonzero(truth, axis=(1, 2))[:, None]
    return np.asarray(shared / np.maximum(np.asarray(counts) + size - shared, 1))
