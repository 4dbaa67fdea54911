"""The page of compared runs: HTML with everything in it, the tables as Markdown and JSON, the curves as a picture."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from evaluation.comparison import save_plot
from studies.compared import Compared, Judged
from utils.files import json_text, write_text
from utils.pages import data_uri, filled
from utils.plots import canvas, write_figure
from utils.text import as_markdown

TEMPLATE = Path(__file__).with_name("compare.html.jinja")
PAGE, CURVES, DIFFERENCES = "compare.html", "curves.png", "differences.png"
LOSS = "training loss"
FEW = 30  # points of a curve that are marked
PANELS = {  # title of a panel → table, column; the loss is the sum of its terms
    "Classifiers: training loss": ("pretrain.csv", LOSS),
    "Classifiers: top-1 accuracy on validation": ("pretrain.csv", "val/accuracy"),
    "After pre-training: training loss": ("results.csv", LOSS),
    "Detector: mAP50 on validation": ("results.csv", "val/map50"),
    "Segmenter: mean IoU on validation": ("results.csv", "val/miou"),
}


@dataclass(frozen=True)
class Curve:
    """Values of a run over its epochs, counted through all stages; NaN where a new stage begins, and its epoch."""

    epochs: list[float]
    values: list[float]


def curve_of(path: Path, column: str) -> Curve | None:
    """A column of a run's table; None where there is no number in it."""
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    epochs: list[float] = []
    values: list[float] = []
    for epoch, (before, row) in enumerate(pairwise([{"task": ""}, *rows]), 1):
        if values and before["task"] != row["task"]:
            epochs, values = [*epochs, epoch], [*values, math.nan]
        if (value := read(row, column)) is not None:
            epochs, values = [*epochs, epoch], [*values, value]
    return Curve(epochs, values) if values else None


def read(row: Mapping[str, str], column: str) -> float | None:
    """A number of a row, the sum of the training terms for LOSS; None where it is blank."""
    if column != LOSS:
        return float(row[column]) if row.get(column) else None
    terms = [float(value) for key, value in row.items() if key.startswith("train/") and "accuracy" not in key and value]
    return sum(terms) if terms else None


def panels(runs: Sequence[Compared]) -> dict[str, dict[str, Curve]]:
    """Title → run → curve, of what any of the runs has; a detector's mean IoU is left out, its mAP50 is there."""
    found: dict[str, dict[str, Curve]] = {}
    for title, (file, column) in PANELS.items():
        own = {run.name: curve_of(run.folder / file, column) for run in runs if fits(run, title)}
        if curves := {name: curve for name, curve in own.items() if curve}:
            found[title] = curves
    return found


def fits(run: Compared, title: str) -> bool:
    """Whether a panel is for a run's task."""
    other = "Segmenter" if run.recipe.task == "detect" else "Detector"
    return not title.startswith(other)


def save_curves(runs: Sequence[Compared], path: Path) -> bool:
    """Draw the panels below each other, so that narrow screens show them; whether there was anything to draw."""
    found = panels(runs)
    if not found:
        return False
    from matplotlib.ticker import MaxNLocator

    figure, axes = canvas(len(found), size=(7, 2.9 * len(found)))
    for axis, (title, curves) in zip(axes.flat, found.items(), strict=True):
        for place, run in enumerate(runs):
            if curve := curves.get(run.name):
                style = {"color": f"C{place % 10}", "marker": "o" if len(curve.epochs) < FEW else ""}
                axis.plot(curve.epochs, curve.values, markersize=4, label=run.name, **style)
        axis.set_title(title, fontsize="medium", loc="left")
        axis.set_xlim(0.5, max(curve.epochs[-1] for curve in curves.values()) + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.set_xlabel("epoch, counted through all stages" if "Classifiers" in title else "epoch")
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small")
    write_figure(figure, path)
    return True


def uri(picture: np.ndarray | Path) -> str:
    """A picture that is in the page itself."""
    if isinstance(picture, Path):
        return data_uri(picture.read_bytes(), "png")
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="JPEG", quality=88)
    return data_uri(content.getvalue(), "jpeg")


def write_page(
    runs: Sequence[Compared],
    recipes: list[list[str]],
    ends: list[list[str]],
    judged: Judged | None,
    folder: Path,
) -> Path:
    """Write compare.html, compare.md, comparison.json, curves.png and differences.png; gives the first.

    Args:
        recipes, ends: tables, header first.
    """
    curves = uri(folder / CURVES) if save_curves(runs, folder / CURVES) else None
    differences = None
    if judged:
        save_plot(judged.lines, folder / DIFFERENCES)
        differences = uri(folder / DIFFERENCES)
        write_text(folder / "comparison.json", json_text(judged.content, 1))
    content = {
        "runs": [run.name for run in runs],
        "recipes": recipes,
        "ends": ends,
        "judged": judged,
        "curves": curves,
        "differences": differences,
        "pictures": [{title: uri(own) for title, own in row.items()} for row in judged.pictures] if judged else [],
    }
    write_text(folder / "compare.md", markdown(recipes, ends, judged))
    write_text(folder / PAGE, filled(TEMPLATE, content))
    return folder / PAGE


def markdown(recipes: list[list[str]], ends: list[list[str]], judged: Judged | None) -> str:
    """The tables."""
    parts = ["## What the recipes differ in", as_markdown(recipes) if recipes[1:] else "Nothing."]
    parts += ["## At the end of training, on the runs' own validation pictures", as_markdown(ends)]
    if judged:
        parts += [f"## Detectors on the same pictures\n\n{judged.note}", as_markdown(judged.rows)]
    return "\n\n".join(parts) + "\n"
