"""The figure beside a study's table."""

from pathlib import Path

import numpy as np

from studies.recipe import Study
from studies.runs import State
from studies.sections import Table
from studies.table import Result, judged_methods
from utils.plots import canvas, write_figure
from utils.text import NOTHING


def save_figure(study: Study, table: Table, found: list[Result], path: Path) -> None:
    """A panel for each measure, on a scale of its own: every run as a point, mean and deviation over them."""
    methods = judged_methods(study)
    size = (1.2 + 2.6 * len(table.measures), 1.6 + 0.38 * len(methods))
    figure, axes = canvas(columns=len(table.measures), size=size, sharey=True)
    for axis, measure in zip(axes[0], table.measures, strict=True):
        for row, method in enumerate(methods):
            runs = [result for result in found if result.cell.method == method]
            own = [result.values[measure] for result in runs if measure in result.values]
            axis.plot(own, [row] * len(own), "o", color="C0", alpha=0.35, markersize=4)
            if own:
                spread = float(np.std(own, ddof=1)) if len(own) > 1 else 0.0
                axis.errorbar(np.mean(own), row, xerr=spread, fmt="s", color="C0", markersize=4, capsize=3)
            else:
                how = {"transform": axis.get_yaxis_transform(), "ha": "center", "va": "center", "color": "0.5"}
                axis.text(0.5, row, why_none(runs), **how)
        axis.set(title=measure)
        axis.locator_params("x", nbins=5)  # numbers of three digits side by side
        axis.grid(alpha=0.3)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].set_ylim(len(methods) - 0.5, -0.5)  # a row without runs has no point that would make room for it
    write_figure(figure, path)


def why_none(runs: list[Result]) -> str:
    """What a figure shows in place of a method's points: a dash where its runs are done, else how far they are."""
    states = dict.fromkeys(str(result.state) for result in runs)
    return NOTHING if State.DONE in states else ", ".join(states)
