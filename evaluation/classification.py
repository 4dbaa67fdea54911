"""Measures of an image classifier, and how far they would move on other images.

Every measure is a function of how often each image counts: once for the figure itself, as often as it was drawn for
a bootstrap resample. Scores are therefore ranked once, not once a draw.

Shapes: scores [N, C] are logits; targets [N, C] are 0 or 1, one 1 a row for a single-label task; weights [N, D] say
how often image n counts in draw d.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.special import log_softmax

from evaluation.intervals import share_bounds, without_each
from utils.tables import Entry, Table

CHUNK_NUMBERS = 2**23  # numbers in the weights that are held at once

Array = np.ndarray


@dataclass(frozen=True)
class Scored:
    """What a measure looks at.

    Attributes:
        scores: [N, C] logits.
        held: [N, C] bool: which classes an image has.
        weights: [N, D] how often an image counts in each draw.
    """

    scores: Array
    held: Array
    weights: Array
    single_label: bool

    @cached_property
    def ranking(self) -> tuple[Array, Array]:
        """[D] macro AUC and [D] mean average precision."""
        ranks = log_softmax(self.scores.astype(np.float64), axis=1) if self.single_label else self.scores
        return ranking(ranks, self.held, self.weights)

    @property
    def error(self) -> Array:
        """[D] balanced error."""
        return (recall_error if self.single_label else threshold_error)(self.scores, self.held, self.weights)

    def best(self, k: int) -> Array:
        """[D] fraction of the images with a class of theirs among the k best-scored ones."""
        return top_share(self.scores, self.held, k, self.weights)


@dataclass(frozen=True)
class Metric(Entry):
    """A measure of a classifier.

    Attributes:
        of: → [D], a fraction 0–1 for each draw; NaN in draws that do not define it.
        short: the title in few letters.
        lower: whether lower is better.
        classes: it is reported from so many classes on.
    """

    of: Callable[[Scored], Array]
    short: str
    lower: bool = False
    classes: int = 1


METRICS = Table(
    "metric",
    "metrics",
    (
        Metric("accuracy", "top-1 accuracy", lambda own: own.best(1), "top-1"),
        Metric("top5", "top-5 accuracy", lambda own: own.best(5), "top-5", classes=6),
        Metric("error", "error rate", lambda own: 1 - own.best(1), "error", lower=True),
        Metric("balanced_error", "balanced error", lambda own: own.error, "balanced error", lower=True),
        Metric("auc", "macro AUC", lambda own: own.ranking[0], "AUC"),
        Metric("map", "mAP", lambda own: own.ranking[1], "mAP"),
    ),
)


def classification_metrics(scores: Array, targets: Array, single_label: bool) -> dict[str, float]:
    """The measures as fractions 0–1; one that nothing in the data defines is absent.

    - `accuracy`: fraction of the images with the class scored best among their classes, of those that have a class.
    - `top5`: the same, any of the five classes scored best; only with more than five classes. Equal scores go by the
      order of the classes in both.
    - `error`: the error rate, 1 − `accuracy`.
    - `balanced_error`, single-label: 1 − mean recall, over the classes that occur. Multi-label: mean over the classes
      of (share of misses + share of false alarms) / 2, where a class is said to be there if its logit is above 0
      (its probability above 0.5); over the classes that some images have and others have not.
    - `auc`: area under the ROC curve of each class against the rest, equal scores counting half; mean over the
      classes that some images have and others have not. Images are ranked by the class's logit, or, single-label,
      by its softmax probability: there a logit means something only beside those of the other classes.
    - `map`: average precision Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores, without interpolation (scikit-learn's);
      mean over the same classes with the same ranking.

    Raises:
        ValueError: a score is NaN, and so ranks nowhere.
    """
    if np.isnan(scores).any():
        raise ValueError("scores are not a number")
    once = np.ones((len(scores), 1), np.float32)
    values = weighted_metrics(scores, targets, single_label, once, METRICS)
    return {name: float(value[0]) for name, value in values.items() if not np.isnan(value[0])}


def bootstrap(
    scores: Array,
    targets: Array,
    single_label: bool,
    draws: int,
    seed: int,
    names: Iterable[str] | None = None,
    groups: Array | None = None,
) -> dict[str, tuple[float, float]]:
    """95 % intervals of the measures over resampled images (N drawn from N with replacement): BCa or wider.

    With groups [N], whole numbers from 0 without a gap, whole groups are drawn: images of one patient, or objects of
    one picture, are no independent draws. A single group has no interval.

    A class that a resample leaves without images, or without others, is left out of that draw's mean. The same N,
    draws and seed give the same resamples: classifiers of the same images are compared on the same ones.
    """
    own = np.arange(len(scores)) if groups is None else groups
    if draws < 2 or len(np.unique(own)) < 2:
        return {}  # one picture, or one patient, says nothing about others
    asked = METRICS if names is None else tuple(names)

    def at(weights: Array) -> dict[str, Array]:
        return weighted_metrics(scores, targets, single_label, weights, asked)

    chunks = [at(weights) for weights in resamples(len(scores), draws, seed, groups)]
    whole, left_out, count = at(np.ones((len(scores), 1), np.float32)), at(without_each(own)), len(np.unique(own))
    found = {}
    for name in whole:
        drawn = np.concatenate([chunk[name] for chunk in chunks])
        if np.isfinite(drawn).sum() > 1 and np.isfinite(whole[name]).all():
            low, high = share_bounds(whole[name], drawn[:, None], left_out[name][:, None], count)[:, 0]
            found[name] = (float(low), float(high))
    return found


def resamples(images: int, draws: int, seed: int, groups: Array | None = None) -> Iterator[Array]:
    """Weights [images, up to draws] of bootstrap resamples, chunk by chunk; float32 counts are exact below 2²⁴."""
    generator = np.random.default_rng(seed)
    size, drawn = max(1, CHUNK_NUMBERS // images), images if groups is None else int(groups.max()) + 1
    for start in range(0, draws, size):
        picked = generator.integers(0, drawn, (min(size, draws - start), drawn))
        counts = np.stack([np.bincount(row, minlength=drawn) for row in picked])
        yield np.ascontiguousarray((counts if groups is None else counts[:, groups]).T, np.float32)


def weighted_metrics(
    scores: Array, targets: Array, single_label: bool, weights: Array, names: Iterable[str]
) -> dict[str, Array]:
    """Each measure of METRICS by name as [D], NaN in draws that do not define it."""
    scored = Scored(scores, targets > 0, weights, single_label)
    own = (METRICS[name] for name in METRICS if name in set(names))
    return {metric.name: metric.of(scored) for metric in own if scores.shape[1] >= metric.classes}


def top_share(scores: Array, held: Array, k: int, weights: Array) -> Array:
    """[D] fraction of the images with a class that have one of their k best-scored classes."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hit = np.take_along_axis(held, best, 1).any(1)
    return ratio(hit @ weights, held.any(1) @ weights)


def recall_error(scores: Array, held: Array, weights: Array) -> Array:
    """[D] 1 − mean recall of the best-scored class over the classes that occur."""
    chosen = np.arange(scores.shape[1]) == scores.argmax(1)[:, None]
    return 1 - mean_known(class_shares(chosen, held, weights))


def threshold_error(scores: Array, held: Array, weights: Array) -> Array:
    """[D] mean of the shares of misses and false alarms at logit 0 over the classes that vary."""
    said = scores > 0
    return mean_known((class_shares(~said, held, weights) + class_shares(said, ~held, weights)) / 2)


def class_shares(event: Array, among: Array, weights: Array) -> Array:
    """[C, D] fraction of the event [N, C] among the images of a kind [N, C]; NaN where a draw has none of the kind."""
    return ratio((event & among).T.astype(np.float32) @ weights, among.T.astype(np.float32) @ weights)


def ranking(scores: Array, held: Array, weights: Array) -> tuple[Array, Array]:
    """[D] macro AUC and [D] mean average precision over the classes that vary, in each draw."""
    varying = [label for label in range(held.shape[1]) if 0 < held[:, label].sum() < len(held)]
    if not varying:
        nothing = np.full(weights.shape[1], np.nan)
        return nothing, nothing
    both = [class_ranking(scores[:, label], held[:, label], weights) for label in varying]
    auc, precision = zip(*both, strict=True)
    return mean_known(np.stack(auc)), mean_known(np.stack(precision))


def class_ranking(scores: Array, held: Array, weights: Array) -> tuple[Array, Array]:
    """AUC [D] and average precision [D] of one class: scores [N], held [N]; NaN where a draw lacks one side.

    Only the G distinct scores of positives matter: the precision there, and how many negatives have a higher score
    (equal ones count half).
    """
    ranked = np.argsort(-scores, kind="stable")
    positives, negatives = ranked[held[ranked]], ranked[~held[ranked]]
    levels, first = np.unique(-scores[positives], return_index=True)
    own = segment_sums(positives, np.append(first, len(positives)), weights)  # [G, D]
    ends = [np.searchsorted(-scores[negatives], levels, side) for side in ("left", "right")]
    bounds = np.stack(ends, 1).ravel()  # of the negatives above each level, and at it
    running = segment_sums(negatives, np.append(0, bounds), weights).cumsum(0)
    above, reached = running[0::2], running[1::2]
    true, false = own.sum(0), weights[negatives].sum(0)
    both = np.where((true > 0) & (false > 0), true, np.nan)
    auc = (own * (1 - ratio(above + reached, 2 * false))).sum(0) / both
    precision = (own * np.nan_to_num(ratio(own.cumsum(0), own.cumsum(0) + reached))).sum(0) / both
    return auc, precision


def segment_sums(order: Array, bounds: Array, weights: Array) -> Array:
    """[S, D] sums of weights[order[bounds[s] : bounds[s + 1]]], exact in float64; segments may be empty."""
    order = order[: bounds[-1]]
    membership = csr_array((np.ones(len(order), np.float32), order, bounds), shape=(len(bounds) - 1, len(weights)))
    return (membership @ weights).astype(np.float64)


def ratio(part: Array, whole: Array) -> Array:
    """Part / whole in float64, NaN where there is no whole."""
    known = whole > 0
    return np.where(known, part, np.nan) / np.where(known, whole, 1).astype(np.float64)


def mean_known(values: Array) -> Array:
    """[D] means of values [C, D] over the classes that are no NaN; NaN where all are."""
    return ratio(np.nansum(values, axis=0), (~np.isnan(values)).sum(0))
