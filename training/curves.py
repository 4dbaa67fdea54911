"""Accuracy and loss over the epochs as a picture: `python -m training.curves runs/train/exp runs/train/exp2`.

Left is what was learnt from, right what was validated on. A line is a network of a run; runs of several networks, or
stages of a cascade, have a line for each.
"""

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from utils.draw import picture_file
from utils.errors import UserError, run_cli
from utils.plots import canvas, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "pretrain.csv"  # of a run
FIGURES = ("accuracy", "loss")
SIDES = {"train": "training", "val": "validation"}
Row = dict[str, str]


def read_run(folder: Path) -> dict[str, list[Row]]:
    """Rows of a run's table by what was trained, in the order of the epochs.

    Raises:
        UserError: no such table, or none that a run wrote.
    """
    path = folder / TABLE
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, hint="give folders of runs that trained a backbone") from error
    if not rows or not {"task", "epoch"} <= rows[0].keys():
        raise UserError("no table of epochs", where=path, hint="give folders of training runs that have finished some")
    return {task: [row for row in rows if row["task"] == task] for task in dict.fromkeys(row["task"] for row in rows)}


def lines_of(folders: Sequence[Path]) -> dict[str, list[Row]]:
    """Label → rows: the run's name, and what was trained where a run trained several."""
    found = {}
    for folder in folders:
        tasks = read_run(folder)
        for task, rows in tasks.items():
            found[folder.name if len(tasks) == 1 else f"{folder.name}, {task}"] = rows
    return found


def points(rows: Sequence[Row], key: str) -> tuple[list[int], list[float]]:
    """Epochs and values of a column, of the rows that have it."""
    own = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key)]
    return [epoch for epoch, _ in own], [value for _, value in own]


def draw(lines: Mapping[str, list[Row]]) -> "Figure":
    """The four plots."""
    drawn, axes = canvas(2, 2, (10, 7), sharex=True)
    for own, figure in zip(axes, FIGURES, strict=True):
        for axis, (side, title) in zip(own, SIDES.items(), strict=True):
            highest = 1.0
            for number, (label, rows) in enumerate(lines.items()):
                epochs, values = points(rows, f"{side}/{figure}")
                axis.plot(epochs, values, marker=".", color=f"C{number % 10}", label=label)
                highest = max([highest, *values])
            axis.set(title=f"{title}, {figure}", ylabel=figure, ylim=(0, 1.02 * highest))
            axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return drawn


def main() -> None:
    """Draw and say where."""
    parser = argparse.ArgumentParser(description="Accuracy and loss of training runs over the epochs, as a picture.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=Path, help="the PNG [curves.png in the folder of the first run]")
    arguments = parser.parse_args()
    drawn, out = draw(lines_of(arguments.runs)), arguments.out or arguments.runs[0] / "curves.png"
    write_figure(drawn, picture_file(out))
    print(f"curves: {out}")


if __name__ == "__main__":
    run_cli(main)
