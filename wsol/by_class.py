"""What boxes are worth for each class by itself, however many there are, and as detections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.curves import Ranking
from wsol.compare import NO_NETWORK, Comparison, Trial

CORLOC = 0.5


@dataclass(frozen=True)
class ClassValue:
    """A class: its cases, the fraction of them whose box has an IoU above 0.5 (CorLoc), and their mean IoU."""

    cases: int
    corloc: float
    iou: float


def class_values(comparison: Comparison, own: Sequence[Trial]) -> dict[str, ClassValue]:
    """Class → its values, means over the seeds; of the classes that there are cases of."""
    labels, names = comparison.cases[:, 1], comparison.plan.names
    ious = np.array([trial.ious for trial in own])
    found = {}
    for label in np.unique(labels).tolist():
        part = ious[:, labels == label]
        found[names[label]] = ClassValue(part.shape[1], float((part > CORLOC).mean()), float(part.mean()))
    return found


def known_class_map(comparison: Comparison, own: Sequence[Trial]) -> float | None:
    """Mean average precision at IoU 0.5 of one box for each case, mean over classes and seeds; None without scores.

    VOC's area under precision over recall. Boxes are ranked by the probability of their class, as the trained network
    has it (the first one for what looks at none); without classes in common, by that of the likeliest class. It is no
    detector's mAP: boxes are in images of their class only, and of several objects all but one are missed.
    """
    line = own[0].line
    networks = [network for network in comparison.networks if line in (network.line, NO_NETWORK)]
    found = []
    for trial, network in zip(own, networks, strict=False):
        if network.scores is None:
            return None
        found.append(class_precision(trial.ious, network.scores, comparison.cases[:, 1], comparison.true_boxes))
    return float(np.mean(found)) if found else None


def class_precision(ious: np.ndarray, scores: np.ndarray, labels: np.ndarray, true_boxes: np.ndarray) -> float:
    """Mean over classes of the average precision of [cases] boxes, one a case.

    Args:
        true_boxes: [cases] boxes of the class in the image.
    """
    values = []
    for label in np.unique(labels):
        cases = np.flatnonzero(labels == label)
        order = cases[np.argsort(-scores[cases], kind="stable")]
        values.append(Ranking(scores[order], ious[order] > CORLOC, int(true_boxes[cases].sum())).area_ap())
    return float(np.mean([value for value in values if value is not None]))
