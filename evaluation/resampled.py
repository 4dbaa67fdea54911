"""Average precision of resampled images, from the matches that pycocotools made once.

An image that is drawn twice counts twice. What comes out is what pycocotools would give for the resampled images, to
the last digits where no two scores are equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from evaluation.curves import EVERY_SIZE
from evaluation.evaluate import Evaluation
from evaluation.intervals import bootstrap_bounds, sample_variance
from evaluation.learnt import LEAST_GROUPS

CHUNK_NUMBERS = 2**22  # numbers in a table of draws and detections that are held at once
JACKKNIFE = 200  # parts of the images that are left out, one at a time
MOST_UNKNOWN = 0.1  # fraction of the draws that may have no box of a class


@dataclass(frozen=True)
class Matches:
    """Detections of one class on all images, surest first.

    Attributes:
        hits: [IoU, n] bool: whether each found a box that was still free.
        misses: [IoU, n] bool: whether each found none, and none that may be passed over.
        image: [n] index of the image.
        demanded: [images] how many boxes of the class were to be found.
    """

    hits: np.ndarray
    misses: np.ndarray
    image: np.ndarray
    demanded: np.ndarray

    @classmethod
    def of(cls, evaluation: Evaluation, label: int) -> "Matches":
        """What pycocotools matched of a class: boxes of every size, as many detections an image as it counts."""
        items = matched_of(evaluation, label)
        most, steps = evaluation.params.maxDets[-1], len(evaluation.params.iouThrs)
        own = [(place, item) for place, item in enumerate(items) if item is not None]
        scores = np.concatenate([[], *(item["dtScores"][:most] for _, item in own)])
        image = np.concatenate([np.zeros(0, int), *(np.full(len(item["dtScores"][:most]), at) for at, item in own)])
        matched, ignored = (
            np.concatenate([np.zeros((steps, 0), bool), *(item[key][:, :most] > 0 for _, item in own)], 1)
            for key in ("dtMatches", "dtIgnore")
        )
        order = np.argsort(-scores, kind="mergesort")
        counted = ~ignored[:, order]
        hits, misses = matched[:, order] & counted, ~matched[:, order] & counted
        return cls(hits, misses, image[order].astype(int), demanded_of(items))

    def precision(self, weights: np.ndarray, recalls: np.ndarray) -> np.ndarray:
        """[draws, IoU] average precision over so many recalls; NaN in draws without a box of the class.

        Args:
            weights: [draws, images] how often an image counts, whole numbers.
        """
        wanted = weights @ self.demanded
        found = np.full((len(weights), len(self.hits)), np.nan)
        known = wanted > 0
        of_detections = weights[known][:, self.image]
        for step, (hits, misses) in enumerate(zip(self.hits, self.misses, strict=True)):
            true, false = (np.cumsum(of_detections * own, 1)[:, hits] for own in (hits, misses))
            found[known, step] = area(true, false, wanted[known], recalls)
        return found


def matched_of(evaluation: Evaluation, label: int) -> list[Any]:
    """[images] what pycocotools matched of a class, boxes of every size; None where there is neither box nor guess."""
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    start = (label * areas + EVERY_SIZE) * images
    found: list[Any] = evaluation.evalImgs[start : start + images]
    return found


def demanded_of(items: Sequence[Any]) -> np.ndarray:
    """[images] how many boxes of `matched_of` are to be found."""
    return np.array([0.0 if item is None else np.count_nonzero(np.asarray(item["gtIgnore"]) == 0) for item in items])


def holders_of(evaluation: Evaluation, groups: np.ndarray) -> np.ndarray:
    """[columns] how many groups have a box that is to be found, of any class for the means, and of each class."""
    labels = range(len(evaluation.params.catIds))
    there = np.stack([demanded_of(matched_of(evaluation, label)) > 0 for label in labels])
    whole, *each = (len(np.unique(groups[own])) for own in (there.any(0), *there))
    return np.array([whole] * 3 + [count for count in each for _ in range(2)])


def area(true: np.ndarray, false: np.ndarray, wanted: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """[draws] mean of the precision, made to fall, at the first detection that reaches each recall; 0 beyond the last.

    Args:
        true, false: [draws, hits] how many detections up to each hit are right, and wrong.
        wanted: [draws] boxes to be found.
        recalls: [R] in 0–1.
    """
    draws, hits = true.shape
    if not hits:
        return np.zeros(draws)
    precision = true / (true + false + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    needed = np.ceil(recalls * wanted[:, None])  # the fewest hits that reach a recall, in the floats of pycocotools
    needed += needed / wanted[:, None] < recalls
    needed -= (needed - 1) / wanted[:, None] >= recalls
    # A draw below the other, they are one rising list.
    rows = np.arange(draws)[:, None] * (wanted.max() + 2)
    places = np.searchsorted((true + rows).ravel(), (np.maximum(needed, 0) + rows).ravel()).reshape(needed.shape)
    places -= np.arange(draws)[:, None] * hits
    reached = places < hits
    at = np.take_along_axis(precision, np.minimum(places, hits - 1), 1)
    return np.asarray(np.where(reached, at, 0).mean(1))


def precisions(evaluation: Evaluation, weights: np.ndarray) -> np.ndarray:
    """[draws, classes, IoU] average precision of images that count as often as weights [draws, images] say."""
    labels = range(len(evaluation.params.catIds))
    return np.stack(
        [one_class(Matches.of(evaluation, label), weights, evaluation.params.recThrs) for label in labels], 1
    )


def one_class(own: Matches, weights: np.ndarray, recalls: np.ndarray) -> np.ndarray:
    """[draws, IoU] of a class, some draws at a time."""
    size = max(1, CHUNK_NUMBERS // max(1, len(own.image)))
    parts = [own.precision(weights[start : start + size], recalls) for start in range(0, len(weights), size)]
    return np.concatenate(parts)


def draws_of(groups: np.ndarray, draws: int, seed: int = 0) -> np.ndarray:
    """[draws, images] how often each image is drawn; images of one group (a patient) are drawn together.

    Args:
        groups: [images] whole numbers from 0 without a gap.
    """
    count = int(groups.max()) + 1
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), draws)
    return np.asarray(weights[:, groups], float)


def left_out(groups: np.ndarray, most: int = JACKKNIFE) -> np.ndarray:
    """[parts, images] weights without one part of the groups each: a group, or several where they are many."""
    part = groups % min(most, int(groups.max()) + 1)
    return np.asarray(part[None] != np.arange(part.max() + 1)[:, None], float)


@dataclass(frozen=True)
class Sampled:
    """Figures of a detector, on the images and on resamples of them.

    Attributes:
        names: of the columns: map, map50, map75, and CLASS/map, CLASS/map50 of each class.
        whole: [columns] on all images; NaN where no box allows one.
        drawn: [draws, columns].
        left: [parts, columns] without one part of the images each.
        holders: [columns] how many images, or patients, have a box that a figure is about.
        lowest: the least value that is possible: 0, or −1 of a difference.
    """

    names: tuple[str, ...]
    whole: np.ndarray
    drawn: np.ndarray
    left: np.ndarray
    holders: np.ndarray
    lowest: float = 0.0

    @classmethod
    def of(cls, evaluation: Evaluation, classes: Sequence[str], groups: np.ndarray, draws: int) -> "Sampled":
        """The figures of matched detections; the same draws for every detector on the same images.

        Args:
            groups: [images] whose image each is, whole numbers from 0 without a gap.
        """
        weights = (np.ones((1, len(groups))), draws_of(groups, draws), left_out(groups))
        found = figures(precisions(evaluation, np.concatenate(weights)))
        ends = np.cumsum([len(own) for own in weights])
        names = ("map", "map50", "map75", *(f"{name}/{key}" for name in classes for key in ("map", "map50")))
        return cls(names, found[0], found[1 : ends[1]], found[ends[1] :], holders_of(evaluation, groups))

    def minus(self, other: "Sampled") -> "Sampled":
        """How far it is above another on the same images."""
        parts = self.whole - other.whole, self.drawn - other.drawn, self.left - other.left
        return Sampled(self.names, *parts, self.holders, lowest=-1.0)

    @property
    def known(self) -> np.ndarray:
        """[columns] bool: of which enough images have a box, and enough draws allow a figure, for an interval."""
        if len(self.drawn) < 2:
            return np.zeros(len(self.names), bool)
        enough = (self.holders >= LEAST_GROUPS) & (np.isnan(self.drawn).mean(0) < MOST_UNKNOWN)
        return np.asarray(enough & ~np.isnan(self.whole))

    @property
    def groups(self) -> np.ndarray:
        """[columns] how many images, or patients, a figure rests on, JACKKNIFE at most: those that have such a box."""
        return np.minimum(self.holders, len(self.left))

    def interval(self, level: float = 0.95) -> np.ndarray:
        """[2, columns] bounds over images within what is possible; NaN where too few of them say anything."""
        bounds, known = np.full((2, len(self.names)), np.nan), self.known
        if known.any():
            parts = self.whole[known], self.drawn[:, known], self.left[:, known]
            bounds[:, known] = bootstrap_bounds(*parts, level, self.groups[known])
        return _with_width(bounds.clip(self.lowest, 1))


def over_seeds(runs: Sequence[Sampled], level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """[columns] means over runs with several seeds, and [2, columns] bounds over seeds and images.

    Student's t over the seeds and over the images, whose spread the resamples give, added in quadrature, within what is
    possible; of one run, its interval. NaN where the images of a run say too little.
    """
    whole = np.stack([own.whole for own in runs])
    mean = whole.mean(0)
    if len(runs) == 1:
        return mean, runs[0].interval(level)
    bounds, known = np.full((2, len(mean)), np.nan), np.all([own.known for own in runs], 0)
    if not known.any():
        return mean, bounds
    groups = runs[0].groups[known]
    by_image = sample_variance(np.mean([own.drawn[:, known] for own in runs], 0), groups)
    by_seed = whole[:, known].var(0, ddof=1) / len(runs)
    of_seeds, of_images = (stats.t.ppf((1 + level) / 2, count - 1) for count in (len(runs), groups))
    half = np.sqrt(of_seeds**2 * by_seed + of_images**2 * by_image)
    bounds[:, known] = mean[known] - half, mean[known] + half
    return mean, _with_width(bounds.clip(runs[0].lowest, 1))


def _with_width(bounds: np.ndarray) -> np.ndarray:
    """[2, columns] bounds, NaN where they are equal: what is 0 or 1 in every resample is not certain for that."""
    return np.where(bounds[0] == bounds[1], np.nan, bounds)


def figures(own: np.ndarray) -> np.ndarray:
    """[draws, columns] of the average precision [draws, classes, IoU]; classes without boxes in a draw do not count."""
    known = ~np.isnan(own[..., 0])
    count = known.sum(1)
    of_iou = np.where(count[:, None] > 0, np.nansum(own, 1) / np.maximum(count, 1)[:, None], np.nan)
    of_class = np.stack([own.mean(2), own[..., 0]], 2).reshape(len(own), -1)
    return np.concatenate([of_iou.mean(1)[:, None], of_iou[:, :1], of_iou[:, 5:6], of_class], 1)
