"""Intervals and tests for values by image: paired, clustered, over seeds."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.intervals import bootstrap_bounds, where_all_alike
from evaluation.learnt import LEAST_GROUPS

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

    def interval(
        self,
        values: np.ndarray,
        level: float = 0.95,
        *,
        weights: np.ndarray | None = None,
        differences: bool | np.ndarray = False,
    ) -> np.ndarray:
        """[2, …] bounds of the mean of values [seeds, N, …] over seeds and images; NaN where nothing can be said.

        One seed: the wider of BCa (Efron, 1987) and Student's t over the images, which says nothing of how training
        varies. Several seeds: Student's t over the seeds' means and over the images' means, the two half-widths added
        in quadrature; resampling three seeds would cover 72 % instead of 95 %. Fractions have bounds within 0–1, and
        the exact one where they are all 1 or all 0. Values that are NaN do not count; nothing is said of fewer than
        five images, or patients, with a value that counts.

        Args:
            weights: [N, …] of each image in each mean; a resample whose images have none does not count. None: equal.
            differences: whether, or where […], values are differences, which are no fractions even if all are in 0–1.

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
        groups = (self._of_clusters((known.any(0) & (weights > 0)).astype(float)) > 0).sum(0)
        some = groups >= LEAST_GROUPS
        bounds = np.full((2, flat.shape[2]), np.nan)
        if some.any():
            own = weights[:, some] if weights.shape[1] > 1 else weights
            columns, counted = flat[..., some], known[..., some]
            found = self._bounds(columns, counted, own, level)
            fractions = (np.nanmin(columns, (0, 1)) >= 0) & (np.nanmax(columns, (0, 1)) <= 1)
            fractions &= ~np.broadcast_to(differences, rest).reshape(-1)[some]
            alike = _all_alike(np.where(counted & (own > 0), columns, np.nan))
            within = where_all_alike(found.clip(0, 1), alike, level, groups[some])
            bounds[:, some] = np.where(fractions, within, found)
        return bounds.reshape(2, *rest)

    def _bounds(self, values: np.ndarray, known: np.ndarray, weights: np.ndarray, level: float) -> np.ndarray:
        """[2, columns] of values [seeds, N, columns], of which some are known, with weights [N, columns or 1]."""
        each = weights[None] if known.all() else weights * known  # of each seed, where they differ
        sums = np.stack([self._of_clusters(own * weights) for own in np.where(known, values, 0)])
        sizes = np.stack([self._of_clusters(own) for own in each])
        return t_bounds(sums, sizes, level) if len(sums) > 1 else self._bootstrap(sums[0], sizes[0], level)

    def _bootstrap(self, sums: np.ndarray, sizes: np.ndarray, level: float) -> np.ndarray:
        """[2, columns] bounds of sums [clusters, columns] over sizes [clusters, columns or 1]."""
        whole = sums.sum(0) / sizes.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = (sums.sum(0) - sums) / (sizes.sum(0) - sizes)
        return bootstrap_bounds(whole, self._means(sums, sizes), left_out, level, (sizes > 0).sum(0))

    def _of_clusters(self, values: np.ndarray) -> np.ndarray:
        """[clusters, columns] sums of values [N, columns]."""
        sums = np.zeros((self.count, values.shape[1]))
        np.add.at(sums, self.cluster, values)
        return sums

    def _means(self, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """[draws, columns] means of the resamples; NaN where the images of one weigh nothing."""
        draw = np.random.default_rng(self.seed)
        found = np.empty((self.draws, sums.shape[1]))
        for start in range(0, self.draws, CHUNK):
            rows = min(CHUNK, self.draws - start)
            weights = draw.multinomial(self.count, np.full(self.count, 1 / self.count), rows).astype(float)
            with np.errstate(invalid="ignore"):
                found[start : start + rows] = (weights @ sums) / (weights @ sizes)
        return found


def _all_alike(values: np.ndarray) -> np.ndarray:
    """[columns] the value that all known ones [seeds, N, columns] have; NaN where they differ."""
    least = np.nanmin(values, (0, 1))
    return np.where(least == np.nanmax(values, (0, 1)), least, np.nan)


def t_bounds(sums: np.ndarray, sizes: np.ndarray, level: float) -> np.ndarray:
    """[2, columns] bounds of the mean of a design in which every seed meets every image.

    The variance of the seeds' means and that of the clusters' means each have Student's t; a value's own noise is in
    both, which errs on the safe side. Seeds that weigh more count for more. NaN where fewer than two seeds weigh
    anything; two clusters at least have to.

    Args:
        sums: [seeds, clusters, columns] of weighted values.
        sizes: [seeds or 1, clusters, columns or 1] of the weights, whose sum over seeds and clusters is above 0.
    """
    totals, size = sizes.sum(1), sizes.mean(0)
    total, clusters = totals.mean(0), (size > 0).sum(0)
    seeds = np.broadcast_to(totals > 0, (len(sums), totals.shape[1])).sum(0)
    shares = totals / total * (seeds / len(sums))  # of each seed; 1 where all weigh the same
    means = sums.sum(1) / np.where(totals > 0, totals, 1)  # [seeds, columns]
    with np.errstate(invalid="ignore", divide="ignore"):
        whole = (shares * means).sum(0) / seeds
        by_seed = ((shares * (means - whole)) ** 2).sum(0) / (seeds - 1) / seeds
        away = ((sums.mean(0) - whole * size) / total) ** 2
        by_cluster = away.sum(0) * clusters / (clusters - 1)
        of_seeds, of_clusters = (stats.t.ppf((1 + level) / 2, own) for own in (seeds - 1, clusters - 1))
        half = np.sqrt(of_seeds**2 * by_seed + of_clusters**2 * by_cluster)
    return np.stack([whole - half, whole + half])


@dataclass(frozen=True)
class Comparison:
    """One side against the other on the same images.

    Attributes:
        mean, median: of the differences.
        interval: 95 % of the mean difference, or of all seeds together.
        above, ties: fraction of the images on which the first side is higher, of those that are no ties, and share of
            ties; means over the seeds.
        wilcoxon, sign: p of the signed-rank test and of the exact sign test, of these networks: of each patient's mean
            where there are patients, of the mean over the seeds.
    """

    mean: float
    median: float
    interval: tuple[float, float]
    above: float
    ties: float
    wilcoxon: float
    sign: float


def compare(apart: np.ndarray, interval: np.ndarray, clusters: Sequence[object] | None = None) -> Comparison:
    """Differences by image, [N] or [seeds, N], and the interval of their mean; tests take the means over the seeds.

    NaN, where a side has no value, does not count; where there is nothing at all, the difference is NaN.

    Args:
        clusters: [N] whose image each is; None: each by itself.
    """
    own = mean_known(np.atleast_2d(apart))
    there, known = ~np.isnan(own), ~np.isnan(apart)
    own, (low, high) = own[there], interval
    higher, decided, count = int((apart > 0).sum()), int((apart[known] != 0).sum()), int(known.sum())
    means = own if clusters is None else cluster_means(own, list(itertools.compress(clusters, there)))
    return Comparison(
        float(own.mean() if known.all() else mean_known(apart, None)),
        float(np.median(own)) if count else float("nan"),
        (float(low), float(high)),
        higher / decided if decided else float("nan"),
        1 - decided / count if count else float("nan"),
        float(stats.wilcoxon(means).pvalue) if means.any() else 1.0,
        sign_test(means),
    )


def mean_known(values: np.ndarray, axis: int | tuple[int, ...] | None = 0) -> np.ndarray:
    """The mean along some axes, None for all, of the values that are there; NaN where none is."""
    known = ~np.isnan(values)
    if known.all() and values.size:
        return np.asarray(values.mean(axis))
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def cluster_means(values: np.ndarray, clusters: Sequence[object]) -> np.ndarray:
    """[clusters] means of values [N], one a patient."""
    place = np.unique(np.array(list(map(str, clusters))), return_inverse=True)[1]
    return np.asarray(np.bincount(place, values) / np.bincount(place))


def sign_test(differences: np.ndarray) -> float:
    """P of the exact sign test; ties do not count."""
    higher, lower = int((differences > 0).sum()), int((differences < 0).sum())
    return float(stats.binomtest(higher, higher + lower).pvalue) if higher + lower else 1.0


def mcnemar(first: np.ndarray, second: np.ndarray, clusters: Sequence[object] | None = None) -> float:
    """P of McNemar's exact test for two sides [N] that are right or wrong on the same images, or patients."""
    apart = first.astype(float) - second.astype(float)
    return sign_test(apart if clusters is None else cluster_means(apart, clusters))


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Adjusted p values (Holm, 1979), in the order given."""
    order = np.argsort(p_values)
    factors = len(p_values) - np.arange(len(p_values))
    adjusted = np.minimum(1, np.maximum.accumulate(np.asarray(p_values)[order] * factors))
    found = np.empty(len(p_values))
    found[order] = adjusted
    return found
