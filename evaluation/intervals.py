"""Intervals of statistics from their resamples."""

import numpy as np
from scipy import stats


def bca_bounds(whole: np.ndarray, resampled: np.ndarray, left_out: np.ndarray, level: float) -> np.ndarray:
    """[2, columns] bias-corrected and accelerated bounds (Efron, 1987) of statistics.

    Args:
        whole: [columns] of the sample.
        resampled: [draws, columns]; NaN does not count.
        left_out: [n, columns] without one of its members each; NaN where nothing is left.
    """
    draws = (~np.isnan(resampled)).sum(0)
    below = ((resampled < whole).sum(0) + 0.5 * (resampled == whole).sum(0)) / draws
    bias = stats.norm.ppf(np.clip(below, 0.5 / draws, 1 - 0.5 / draws))
    known = ~np.isnan(left_out)
    centre = np.where(known, left_out, 0).sum(0) / np.maximum(known.sum(0), 1)
    away = np.where(known, centre - left_out, 0)
    spread = (away**2).sum(0)
    lean = np.where(spread > 0, (away**3).sum(0) / (6 * np.where(spread > 0, spread, 1) ** 1.5), 0)
    bounds = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        z = bias + stats.norm.ppf(tail)
        shares = stats.norm.cdf(bias + z / (1 - lean * z))
        bounds.append([np.nanquantile(own, share) for own, share in zip(resampled.T, shares, strict=True)])
    return np.array(bounds)
