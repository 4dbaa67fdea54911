"""Linear SVMs on features, one for each class, with a penalty chosen by cross-validation (arXiv 1512.04150, §4)."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from utils.errors import UserError

C, FOLDS = 1.0, 5
PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
SEED = 0  # of the folds


@dataclass(frozen=True)
class LinearClasses:
    """One linear function of features for each class that was seen: weights [classes, D], bias [classes].

    Attributes:
        classes: [classes] their indices.
    """

    classes: np.ndarray
    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: np.ndarray) -> np.ndarray:
        """[N, classes] of features [N, D]."""
        return np.asarray(unit(features) @ self.weights.T + self.bias)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """[N] class indices."""
        return np.asarray(self.classes[self.scores(features).argmax(1)])


@dataclass(frozen=True)
class Validated:
    """What cross-validation found.

    Attributes:
        scores: penalty → accuracy where classes exclude each other, else mean average precision, on held-out folds.
        unsettled: fits that had not converged when scikit-learn gave up.
    """

    scores: dict[float, float]
    unsettled: int

    @property
    def penalty(self) -> float:
        """The best penalty; of equally good ones the smallest."""
        return max(sorted(self.scores), key=lambda own: self.scores[own])


def unit(features: np.ndarray) -> np.ndarray:
    """[N, D] each over its length."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def fit_svm(features: np.ndarray, labels: np.ndarray, penalty: float = C) -> LinearClasses:
    """A linear SVM for each class against the others, on features [N, D] of unit length.

    Raises:
        UserError: there is but one class.
    """
    classes = np.unique(labels)
    with counted_instead():
        own, _ = fit_tags(features, labels[:, None] == classes, penalty)
    return LinearClasses(classes, own.weights, own.bias)


@contextmanager
def counted_instead() -> Iterator[None]:
    """No warnings of fits that do not converge; around threads and not in them, since filters are of the process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def fit_tags(features: np.ndarray, truth: np.ndarray, penalty: float = C) -> tuple[LinearClasses, int]:
    """A linear SVM for each tag that some images have and some not, and how many of the fits did not converge.

    Args:
        features: [N, D], brought to unit length.
        truth: [N, tags] bool.

    Raises:
        UserError: there is no such tag.
    """
    known = np.flatnonzero(truth.any(0) & ~truth.all(0))
    if not len(known):
        what = "one class, or none" if len(truth) else "no images"
        raise UserError(what, where="SVM", hint="give images of two classes at least")
    rows, unsettled = unit(features), 0
    weights, bias = np.zeros((len(known), features.shape[1])), np.zeros(len(known))
    for place, tag in enumerate(known):
        svm = LinearSVC(C=penalty, random_state=SEED).fit(rows, truth[:, tag])
        unsettled += int(svm.n_iter_ >= svm.max_iter)
        weights[place], bias[place] = svm.coef_[0], svm.intercept_[0]
    return LinearClasses(known, weights, bias), unsettled


def validated(
    features: np.ndarray,
    truth: np.ndarray,
    *,
    exclusive: bool,
    groups: np.ndarray | None = None,
    penalties: Sequence[float] = PENALTIES,
    folds: int = FOLDS,
    workers: int | None = None,
) -> Validated:
    """Cross-validation of the penalty: each image is scored by SVMs that did not learn from it.

    Args:
        truth: [N, tags] bool.
        exclusive: exactly one tag an image.
        groups: [N] of whom an image is; images of one are in one fold. None: each by itself.
        workers: threads [one a core].

    Raises:
        UserError: fewer than two folds, or fewer images than folds.
    """
    check_folds(folds)
    _, first, group = np.unique(
        np.arange(len(features)) if groups is None else groups, return_index=True, return_inverse=True
    )
    if len(first) < folds:
        raise UserError(f"{len(first)} images, or groups", where="SVM", hint=f"give {folds}, one for each fold")
    fold = folds_of(truth[first], folds, exclusive=exclusive)[group]

    def scored(penalty: float, own: int) -> tuple[np.ndarray, int]:
        classes, unsettled = fit_tags(features[fold != own], truth[fold != own], penalty)
        found = np.full((int((fold == own).sum()), truth.shape[1]), -np.inf)
        found[:, classes.classes] = classes.scores(features[fold == own])
        return found, unsettled

    jobs = [(penalty, own) for penalty in penalties for own in range(folds)]
    parallel = Parallel(n_jobs=workers or os.cpu_count(), prefer="threads")  # liblinear releases the interpreter
    with counted_instead():
        found = dict(zip(jobs, parallel(delayed(scored)(*job) for job in jobs), strict=True))
    order = np.argsort(np.concatenate([np.flatnonzero(fold == own) for own in range(folds)]))
    scores = {
        penalty: quality(np.concatenate([found[penalty, own][0] for own in range(folds)])[order], truth, exclusive)
        for penalty in penalties
    }
    return Validated(scores, sum(unsettled for _, unsettled in found.values()))


def check_folds(folds: int) -> None:
    """Refuse a cross-validation that has nothing to learn from.

    Raises:
        UserError: fewer than two folds.
    """
    if folds < 2:
        raise UserError(f"{folds} folds leave nothing to learn from", where="--folds", hint="give 2 or more")


def folds_of(truth: np.ndarray, folds: int, *, exclusive: bool) -> np.ndarray:
    """[N] fold of each image, drawn at random, each class shared out evenly where classes exclude each other."""
    order = np.random.default_rng(SEED).permutation(len(truth))
    if exclusive:
        order = order[np.argsort(truth[order].argmax(1), kind="stable")]
    found = np.empty(len(truth), int)
    found[order] = np.arange(len(truth)) % folds
    return found


def quality(scores: np.ndarray, truth: np.ndarray, exclusive: bool) -> float:
    """Accuracy where classes exclude each other, else the mean average precision.

    The mean is over the tags that some images have and that were learned: others have no finite score.
    """
    if exclusive:
        return float(truth[np.arange(len(truth)), scores.argmax(1)].mean())
    there = truth.any(0) & np.isfinite(scores).any(0)
    least = np.where(np.isfinite(scores), scores, -1e9)  # of tags that a fold did not learn
    return float(average_precision_score(truth[:, there], least[:, there], average="macro"))
