"""The comparison to look at: shares of right boxes with intervals, and boxes on images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maps.overlay import FOUND, outlined, pixels_rgb
from utils.draw import save_page
from utils.files import written_whole
from wsol.compare import Comparison
from wsol.judge import Row

PICTURES, METHODS_SHOWN, SIDE = 6, 5, 256
SEED = 0  # of the choice of images


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """Fraction of right boxes of every method and network, with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 1.2 + 0.28 * len(rows)), layout="constrained")
    lines = list(dict.fromkeys(row.line for row in rows))
    for place, row in enumerate(rows):
        value = row.values["gt_known"]
        reach = [[max(0.0, value.mean - value.low)], [max(0.0, value.high - value.mean)]]
        axis.errorbar(
            value.mean, place, xerr=np.nan_to_num(reach), fmt="o", capsize=2, color=f"C{lines.index(row.line)}"
        )
    axis.set_yticks(range(len(rows)), [f"{row.method}, {row.line}" for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("fraction of boxes with an IoU of at least 0.5, class known")
    axis.grid(alpha=0.3)
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def save_boxes(comparison: Comparison, path: Path) -> None:
    """A row an image, a column a method on its first network: the true boxes and what was found (figure 3)."""
    first = {trial.method: trial for trial in reversed(comparison.trials)}
    shown = [own for name, own in first.items()][:METHODS_SHOWN]
    images = np.unique(comparison.cases[:, 0])
    chosen = np.random.default_rng(SEED).permutation(images)[:PICTURES]
    pictures = []
    plan = comparison.plan
    for image in chosen.tolist():
        cases = next(iter(plan.cases([plan.split.records[image]], "pictures", batch_size=1)))
        pixels = pixels_rgb(cases.images[0])
        place = int(np.flatnonzero((comparison.cases == [image, int(cases.labels[0])]).all(1))[0])
        for trial in shown:
            pictures.append(with_boxes(pixels, cases.boxes[0], trial.boxes[place]))
    save_page(pictures, path, [trial.method for trial in shown], columns=len(shown))


def with_boxes(pixels: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image, enlarged, with its true boxes in green and the one that was found, if one was, in red."""
    scale, (height, width) = max(1, round(SIDE / pixels.shape[0])), pixels.shape[:2]
    large, box = (
        outlined(pixels.repeat(scale, 0).repeat(scale, 1), true, height),
        found * [width, height, width, height],
    )
    return large if np.isnan(box).any() else outlined(large, box[None], height, FOUND)
