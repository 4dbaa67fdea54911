"""Precision, recall and F1 over confidence, and VOC's average precision, from the matches that pycocotools made."""

from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCES = np.linspace(0, 1, 1001)
EVERY_SIZE = 0  # index of the area range that holds all boxes
IOU_50 = 0  # index of IoU 0.50


@dataclass(frozen=True)
class Ranking:
    """Detections of one class, surest first.

    Attributes:
        scores: [n].
        hits: [n] bool: whether each found a box that was still free, at IoU 0.5.
        demanded: how many boxes were to be found.
    """

    scores: np.ndarray
    hits: np.ndarray
    demanded: int

    def area_ap(self) -> float | None:
        """Area under precision over recall, precision made to fall: VOC's measure since 2010. None without boxes."""
        if not self.demanded:
            return None
        found = self.hits.cumsum()
        precision = np.maximum.accumulate((found / np.arange(1, len(found) + 1))[::-1])[::-1]
        return float(precision[self.hits].sum() / self.demanded)

    def at_confidences(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall [1001] of the detections of at least each confidence; precision 1 where that is none."""
        kept = len(self.scores) - np.searchsorted(self.scores[::-1], CONFIDENCES)
        found = np.concatenate([[0], self.hits.cumsum()])[kept]
        return np.where(kept, found / np.maximum(kept, 1), 1.0), found / max(self.demanded, 1)


def rank(evaluation: Any, label: int) -> Ranking:
    """What pycocotools matched of one class; ties of scores in the order that it takes them in."""
    images, areas = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    start = (label * areas + EVERY_SIZE) * images
    own = [item for item in evaluation.evalImgs[start : start + images] if item is not None]
    scores = np.concatenate([item["dtScores"] for item in own]) if own else np.zeros(0)
    order = np.argsort(-scores, kind="mergesort")
    matched, ignored = (
        np.concatenate([item[key][IOU_50] for item in own])[order].astype(bool) if own else np.zeros(0, bool)
        for key in ("dtMatches", "dtIgnore")
    )
    demanded = sum(int((np.asarray(item["gtIgnore"]) == 0).sum()) for item in own)
    return Ranking(scores[order][~ignored], matched[~ignored], demanded)


def f1_curves(rankings: list[Ranking]) -> np.ndarray:
    """F1 [classes, 1001] over confidence, of the classes that have boxes."""
    pairs = [ranking.at_confidences() for ranking in rankings if ranking.demanded]
    precision, recall = (np.array([pair[side] for pair in pairs]).reshape(-1, len(CONFIDENCES)) for side in (0, 1))
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def best_point(rankings: list[Ranking]) -> dict[str, float | None]:
    """The confidence of best mean F1, and mean precision, recall and F1 there; None where no class has boxes."""
    curves = f1_curves(rankings)
    if not len(curves):
        return {"best_confidence": None, "precision": None, "recall": None, "f1": None}
    mean = curves.mean(0)
    best = np.flatnonzero(mean >= mean.max() - 1e-9)
    at = best[(len(best) - 1) // 2]  # the middle one, where several are as good
    points = np.array([[side[at] for side in own.at_confidences()] for own in rankings if own.demanded])
    precision, recall = points.mean(0).tolist()
    return {
        "best_confidence": float(CONFIDENCES[at]),
        "precision": precision,
        "recall": recall,
        "f1": float(curves[:, at].mean()),
    }
