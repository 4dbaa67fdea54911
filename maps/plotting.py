"""What all plots of maps have in common: a chart with its numbers, and its files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maps.localise import Row
from utils.files import csv_text, write_text
from utils.plots import canvas, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = "osD^vP"
DASHES = ("--", "-.", (0, (6, 2)), (0, (3, 2, 1, 2, 1, 2)), (0, (1, 1)))  # a pattern for each baseline
FONTS = ["DejaVu Sans", "Verdana"]  # of an SVG; each of its texts names them all


@dataclass(frozen=True)
class Chart:
    """A plot: the name of its files, what is under it, its numbers."""

    name: str
    caption: str
    figure: Figure
    rows: list[Row]


def line_chart(name: str, caption: str, draw: Callable[[Axes], list[Row]]) -> Chart:
    """A chart of one plot with a grid and a legend."""
    figure, axes = canvas(size=(5.6, 4.8))
    rows = draw(axes[0, 0])
    axes[0, 0].grid(alpha=0.3)
    # Below the axes, where it hides nothing and is as wide as the plot.
    figure.legend(loc="outside lower center", ncols=2, fontsize=10, frameon=False)
    return Chart(name, caption, figure, rows)


def ticks(axis: Axes, cuts: Sequence[int]) -> None:
    """Blocks below the axis."""
    axis.set_xticks(list(cuts), [f"b{cut}" for cut in cuts])
    axis.set_xlabel("features after block")


def deviation(values: Sequence[float]) -> float:
    """Standard deviation (n − 1), 0 of one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def save(chart: Chart, folder: Path) -> str:
    """Write name.png, name.svg and name.csv; gives the SVG as text."""
    from matplotlib import rc_context

    write_figure(chart.figure, folder / f"{chart.name}.png")
    chart.figure.set_layout_engine("none")  # everything has found its place; to find it takes as long as to draw
    text = io.StringIO()
    # Neither dates nor random ids: the same numbers give the same file.
    with rc_context({"svg.hashsalt": chart.name, "svg.fonttype": "none", "font.sans-serif": FONTS}):
        chart.figure.savefig(text, format="svg", metadata={"Date": None})
    write_text(folder / f"{chart.name}.svg", text.getvalue())
    write_text(folder / f"{chart.name}.csv", as_csv(chart.rows))
    return text.getvalue()


def as_csv(rows: Sequence[Row]) -> str:
    """Rows under a header of all their keys."""
    return csv_text([{key: rounded(value) for key, value in row.items()} for row in rows])


def rounded(value: str | int | float) -> str | int:
    """Six digits are more than any of these numbers has."""
    return f"{value:.6g}" if isinstance(value, float) else value
