"""Average precision of resampled images, from the matches that pycocotools made once.

An image that is drawn twice counts twice. What comes out is what pycocotools would give for the resampled images, to
the last digits where no two scores are equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from evaluation.curves import EVERY_SIZE
from evaluation.evaluate import Evaluation

CHUNK_NUMBERS = 2**22  # numbers in a table of draws and detections that are held at once


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
        images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
        start = (label * areas + EVERY_SIZE) * images
        items = evaluation.evalImgs[start : start + images]
        most, steps = evaluation.params.maxDets[-1], len(evaluation.params.iouThrs)
        own = [(place, item) for place, item in enumerate(items) if item is not None]
        scores = np.concatenate([[], *(item["dtScores"][:most] for _, item in own)])
        image = np.concatenate([np.zeros(0, int), *(np.full(len(item["dtScores"][:most]), at) for at, item in own)])
        matched, ignored = (
            np.concatenate([np.zeros((steps, 0), bool), *(item[key][:, :most] > 0 for _, item in own)], 1)
            for key in ("dtMatches", "dtIgnore")
        )
        demanded = np.zeros(images)
        for place, item in own:
            demanded[place] = np.count_nonzero(np.asarray(item["gtIgnore"]) == 0)
        order = np.argsort(-scores, kind="mergesort")
        counted = ~ignored[:, order]
        return cls(matched[:, order] & counted, ~matched[:, order] & counted, image[order].astype(int), demanded)

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


def left_out(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Weights [images] without one group each."""
    for group in range(int(groups.max()) + 1):
        yield (groups != group).astype(float)
