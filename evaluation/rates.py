"""ROC and precision over recall of a classifier, as means over its classes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from sklearn.metrics import precision_recall_curve, roc_curve

from evaluation.classification import Array
from utils.plots import canvas, write_figure

GRID = np.linspace(0, 1, 101)
KINDS = {
    "roc": ("false positive rate", "true positive rate", "auc"),
    "precision_recall": ("recall", "precision", "map"),
}  # curve → what its axes are, and the metric that is the area below it


def rate_curves(scores: Array, targets: Array, single_label: bool) -> dict[str, Array]:
    """Each of KINDS as [101] values over GRID, mean over the classes that some images have and others have not.

    Images are ranked as for the metrics `auc` and `map`: by the class's logit, or, single-label, by its softmax
    probability. The ROC is interpolated linearly: the area below it is that AUC but for the grid. Precision at a recall
    is that of the first images that reach it.

    Args:
        scores: [N, C] logits.
        targets: [N, C] 0 or 1.
    """
    ranks = log_softmax(scores.astype(np.float64), axis=1) if single_label else scores
    varying = [label for label in range(targets.shape[1]) if 0 < targets[:, label].sum() < len(targets)]
    if not varying:
        return {}
    pairs = [(targets[:, label] > 0, ranks[:, label]) for label in varying]
    return {
        "roc": np.mean([roc(*own) for own in pairs], axis=0),
        "precision_recall": np.mean([precision_recall(*own) for own in pairs], axis=0),
    }


def roc(held: Array, ranks: Array) -> Array:
    """[101] true positive rate over GRID of one class."""
    false, true, _ = roc_curve(held, ranks, drop_intermediate=False)
    return np.interp(GRID, false, true)


def precision_recall(held: Array, ranks: Array) -> Array:
    """[101] precision over GRID of one class."""
    precision, recall, _ = precision_recall_curve(held, ranks)
    precision, recall = precision[-2::-1], recall[-2::-1]  # without its end, from the best-ranked on
    return np.asarray(precision[np.searchsorted(recall, (GRID - 1e-9).clip(min=1e-9)).clip(max=len(recall) - 1)])


def save_rates(kind: str, panels: Mapping[str, Sequence[tuple[str, Sequence[Array]]]], path: Path) -> None:
    """One panel for each block, a colour for each line; of several seeds each has a curve.

    Args:
        kind: of KINDS.
        panels: title → lines, each with its label and its curves [101].
    """
    across, up, _ = KINDS[kind]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = canvas(rows, columns, (4.2 * columns, 4 * rows))
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (title, lines) in zip(axes.flat, panels.items(), strict=False):
        for number, (label, curves) in enumerate(lines):
            for place, curve in enumerate(curves):
                axis.plot(GRID, curve, color=f"C{number % 10}", linewidth=1.2, label=None if place else label)
        if kind == "roc":
            axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        axis.set(xlabel=across, ylabel=up, title=title, xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="lower right" if kind == "roc" else "lower left")
    write_figure(figure, path)
