"""The comparison to look at: shares of right boxes with intervals, and boxes on images."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maps.overlay import FOUND, outlined, pixels_rgb
from utils.draw import save_page
from utils.plots import canvas, write_figure
from wsol.compare import Comparison, Trial
from wsol.judge import Row

PICTURES, METHODS_SHOWN, SIDE = 6, 5, 256
EXAMPLES, ROWS = 3, 20  # pictures of a class, and classes, on a page
SEED = 0  # of the choice of images


def save_plot(rows: Sequence[Row], path: Path) -> None:
    """Fraction of right boxes of every method and network, with intervals."""
    figure, [[axis]] = canvas(size=(7, 1.2 + 0.28 * len(rows)))
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
    write_figure(figure, path)


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


def save_examples(comparison: Comparison, folder: Path) -> list[Path]:
    """A page for each method on its first network: three examples of each class, with true and found boxes (figure 3).

    They are drawn at random, the same for all methods; of many classes the first 20 are shown.
    """
    plan, labels = comparison.plan, comparison.cases[:, 1]
    draw = np.random.default_rng(SEED)
    chosen = [
        np.sort(draw.permutation(np.flatnonzero(labels == label))[:EXAMPLES]) for label in np.unique(labels)[:ROWS]
    ]
    known = {index: shown_case(comparison, index) for index in np.concatenate(chosen).tolist()}
    written = []
    for name, trial in {trial.method: trial for trial in reversed(comparison.trials) if not is_constant(trial)}.items():
        pictures, titles = [], []
        for rows in chosen:
            pictures += [with_boxes(*known[index], trial.boxes[index]) for index in rows.tolist()]
            pictures += [np.full_like(pictures[-1], 255)] * (EXAMPLES - len(rows))
            titles += [plan.names[int(labels[rows[0]])], *[""] * (EXAMPLES - 1)]
        path = folder / f"examples_{re.sub(r'[^A-Za-z0-9.]+', '_', name)}.jpg"
        save_page(pictures, path, titles, columns=EXAMPLES)
        written.append(path)
    return written


def is_constant(trial: Trial) -> bool:
    """Whether its boxes are the same everywhere."""
    return bool(np.array_equal(trial.boxes.min(0), trial.boxes.max(0)))


def shown_case(comparison: Comparison, index: int) -> tuple[np.ndarray, np.ndarray]:
    """[H, W, 3] uint8 and true boxes [n, 4] of a case."""
    image, label = comparison.cases[index].tolist()
    plan = comparison.plan
    parts = plan.cases([plan.split.records[image]], "examples", batch_size=1)
    cases = next(own for own in parts if int(own.labels[0]) == label)
    return (cases.images[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8), cases.boxes[0]


def with_boxes(pixels: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image, enlarged, with its true boxes in green and the one that was found, if one was, in red."""
    scale, (height, width) = max(1, round(SIDE / pixels.shape[0])), pixels.shape[:2]
    large, box = (
        outlined(pixels.repeat(scale, 0).repeat(scale, 1), true, height),
        found * [width, height, width, height],
    )
    return large if np.isnan(box).any() else outlined(large, box[None], height, FOUND)
