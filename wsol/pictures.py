"""The comparison to look at: shares of right boxes with intervals, and boxes on images."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from maps.overlay import FOUND, outlined, pixels_rgb
from maps.sheet import HEAD, beside
from utils.draw import save_image, save_page
from utils.fonts import drawing_font, shown
from utils.plots import canvas, write_figure
from wsol.compare import Comparison, Trial
from wsol.judge import Row

PICTURES, METHODS_SHOWN, SIDE = 6, 5, 256
EXAMPLES, ROWS, TILE = 3, 20, 168  # pictures of a class, and classes, on a page; longer side of a picture
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
    columns = [own for name, own in first.items()][:METHODS_SHOWN]
    images = np.unique(comparison.cases[:, 0])
    chosen = np.random.default_rng(SEED).permutation(images)[:PICTURES]
    pictures = []
    plan = comparison.plan
    for image in chosen.tolist():
        cases = next(iter(plan.cases([plan.split.records[image]], "pictures", batch_size=1)))
        pixels = pixels_rgb(cases.images[0])
        place = int(np.flatnonzero((comparison.cases == [image, int(cases.labels[0])]).all(1))[0])
        for trial in columns:
            pictures.append(with_boxes(pixels, cases.boxes[0], trial.boxes[place]))
    save_page(pictures, path, [trial.method for trial in columns], columns=len(columns))


def save_examples(comparison: Comparison, folder: Path) -> list[Path]:
    """A page for each method on its first network: three examples of each class, with true and found boxes (figure 3).

    They are drawn at random, the same for all methods; of many classes the first 20 are shown.
    """
    names, labels = comparison.plan.names, comparison.cases[:, 1]
    draw = np.random.default_rng(SEED)
    chosen = {
        int(label): np.sort(draw.permutation(np.flatnonzero(labels == label))[:EXAMPLES]).tolist()
        for label in np.unique(labels)[:ROWS]
    }
    known = shown_cases(comparison, [index for own in chosen.values() for index in own])
    written = []
    for name, trial in {trial.method: trial for trial in reversed(comparison.trials) if not is_constant(trial)}.items():
        rows = [
            row_of(shown(names[label], label), [with_boxes(*known[index], trial.boxes[index]) for index in own])
            for label, own in chosen.items()
        ]
        written.append(folder / f"examples_{re.sub(r'[^A-Za-z0-9.]+', '_', name)}.jpg")
        save_image(np.concatenate(rows), written[-1])
    return written


def row_of(title: str, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """[H, W, 3] a few pictures of one size side by side, with room for as many as any row has, under a title."""
    height, width = (round(TILE * side / max(pictures[0].shape[:2])) for side in pictures[0].shape[:2])
    tiles = [np.asarray(Image.fromarray(own).resize((width, height), Image.Resampling.BOX)) for own in pictures]
    row = beside([*tiles, *[np.full_like(tiles[0], 255)] * (EXAMPLES - len(tiles))])
    head = Image.new("RGB", (row.shape[1], HEAD), "white")
    ImageDraw.Draw(head).text((2, 4), title, fill=(40, 40, 40), font=drawing_font(title, HEAD - 8))
    return np.concatenate([np.asarray(head), row])


def is_constant(trial: Trial) -> bool:
    """Whether its boxes are the same everywhere."""
    return bool(np.array_equal(trial.boxes.min(0), trial.boxes.max(0)))


def shown_cases(comparison: Comparison, indices: Sequence[int]) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Case → [H, W, 3] uint8 and true boxes [n, 4]."""
    pairs, plan = comparison.cases, comparison.plan
    images = np.unique(pairs[list(indices), 0]).tolist()
    places = {tuple(pair): index for index, pair in enumerate(pairs.tolist())}
    found = {}
    for cases in plan.cases([plan.split.records[image] for image in images], "examples"):
        for record, label, image, boxes in zip(cases.record, cases.labels, cases.images, cases.boxes, strict=True):
            if (index := places[images[int(record)], int(label)]) in indices:
                found[index] = (pixels_rgb(image), boxes)
    return found


def with_boxes(pixels: np.ndarray, true: np.ndarray, found: np.ndarray) -> np.ndarray:
    """An image, enlarged, with its true boxes in green and the one that was found, if one was, in red."""
    scale, (height, width) = max(1, round(SIDE / pixels.shape[0])), pixels.shape[:2]
    large, box = (
        outlined(pixels.repeat(scale, 0).repeat(scale, 1), true, height),
        found * [width, height, width, height],
    )
    return large if np.isnan(box).any() else outlined(large, box[None], height, FOUND)
