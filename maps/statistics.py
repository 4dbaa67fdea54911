"""Intervals and tests for values by image: paired, clustered, over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

DRAWS = 10_000
CHUNK = 256  # resamples whose weights are held at once


class Resamples:
    """Bootstrap resamples of images, the same for whatever is measured on them, so that differences are paired.

    Args:
        clusters: [N] whose image each is; images of one patient are drawn together. None: each by itself.
    """

    def __init__(
        self, images: int, clusters: Sequence[object] | None = None, *, draws: int = DRAWS, seed: int = 0
    ) -> None:
        own = range(images) if clusters is None else clusters
        self.cluster = np.unique(np.array(list(map(str, own))), return_inverse=True)[1]
        self.count = int(self.cluster.max()) + 1
        self.draws, self.seed = draws, seed

    def interval(self, values: np.ndarray, level: float = 0.95, *, weights: np.ndarray | None = None) -> np.ndarray:
        """[2, …] BCa bounds (Efron, 1987) of the mean of values [seeds, N, …] over seeds and images; NaN without draws.

        Several seeds are drawn too, independently of the images. Values that are NaN do not count.

        Args:
            weights: [N, …] of each image in each mean; a resample whose images have none does not count. None: equal.

        Raises:
            ValueError: the values are not of these images.
        """
        images, *rest = values.shape[1:]
        if images != len(self.cluster):
            raise ValueError(f"{images} images, not {len(self.cluster)}")
        if not self.draws:
            return np.full((2, *rest), np.nan)
        flat = values.reshape(len(values), images, -1)
        weights = np.ones((images, 1)) if weights is None else weights.reshape(images, -1)
        known = ~np.isnan(flat)
        bounds = np.full((2, flat.shape[2]), np.nan)
        some = (known & (weights > 0)).any((0, 1))  # nothing is said of a column without any value
        flat, known = flat[..., some], known[..., some]
        weights = weights[:, some] if weights.shape[1] > 1 else weights
        each = weights[None] if known.all() else weights * known  # of each seed, where they differ
        sums = np.stack([self._of_clusters(own * weights) for own in np.where(known, flat, 0)])
        bounds[:, some] = self._bounds(sums, np.stack([self._of_clusters(own) for own in each]), level)
        return bounds.reshape(2, *rest)

    def _bounds(self, sums: np.ndarray, sizes: np.ndarray, level: float) -> np.ndarray:
        """[2, columns] of the means, of sums [seeds, clusters, columns] and of what the images weigh in them."""
        means = self._means(sums, sizes)
        total, size = sums.mean(0), sizes.mean(0)
        whole = total.sum(0) / size.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = (total.sum(0) - total) / (size.sum(0) - size)
        return bca_bounds(whole, means, left_out, level)

    def _of_clusters(self, values: np.ndarray) -> np.ndarray:
        """[clusters, columns] sums of values [N, columns]."""
        sums = np.zeros((self.count, values.shape[1]))
        np.add.at(sums, self.cluster, values)
        return sums

    def _means(self, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """[draws, columns] means of the resamples; NaN where the images of one weigh nothing.

        Args:
            sizes: [seeds or 1, clusters, columns or 1] what the images weigh.
        """
        draw, seeds = np.random.default_rng(self.seed), len(sums)
        found = np.empty((self.draws, sums.shape[2]))
        for start in range(0, self.draws, CHUNK):
            rows = min(CHUNK, self.draws - start)
            weights = draw.multinomial(self.count, np.full(self.count, 1 / self.count), rows).astype(float)
            of_seeds = draw.multinomial(seeds, np.full(seeds, 1 / seeds), rows) / seeds
            parts = np.stack([weights @ own for own in sums], 1)  # [rows, seeds, columns]
            counts = [weights @ own for own in sizes]
            whole = counts[0] if len(counts) == 1 else np.einsum("rs,rsc->rc", of_seeds, np.stack(counts, 1))
            with np.errstate(invalid="ignore"):
                found[start : start + rows] = np.einsum("rs,rsc->rc", of_seeds, parts) / whole
        return found


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


@dataclass(frozen=True)
class Comparison:
    """One side against the other on the same images.

    Attributes:
        mean, median: of the differences.
        interval: 95 % of the mean difference, or of all seeds together.
        above, ties: share of the images on which the first side is higher, of those that are no ties; share of ties.
        wilcoxon, sign: p of the signed-rank test and of the exact sign test.
    """

    mean: float
    median: float
    interval: tuple[float, float]
    above: float
    ties: float
    wilcoxon: float
    sign: float


def compare(apart: np.ndarray, interval: np.ndarray) -> Comparison:
    """Differences by image, [N] or [seeds, N], and the interval of their mean; tests take the means over the seeds.

    NaN, where a side has no value, does not count; nothing at all differs by NaN.
    """
    own = mean_known(np.atleast_2d(apart))
    own = own[~np.isnan(own)]
    low, high = interval
    higher, lower = int((own > 0).sum()), int((own < 0).sum())
    decided = higher + lower
    return Comparison(
        float(own.mean()) if len(own) else float("nan"),
        float(np.median(own)) if len(own) else float("nan"),
        (float(low), float(high)),
        higher / decided if decided else float("nan"),
        1 - decided / len(own) if len(own) else float("nan"),
        float(stats.wilcoxon(own).pvalue) if decided else 1.0,
        float(stats.binomtest(higher, decided).pvalue) if decided else 1.0,
    )


def mean_known(values: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """The mean along some axes of the values that are there; NaN where none is."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """P of McNemar's exact test for two sides that are right or wrong on the same images."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    decided = only_first + only_second
    return float(stats.binomtest(only_first, decided).pvalue) if decided else 1.0


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p values (Holm, 1979), in the order given."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    found = np.empty(len(p_values))
    found[order] = adjusted
    return found
