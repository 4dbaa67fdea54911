"""Accuracy and loss over the epochs as a picture: `python -m training.curves runs/train/exp runs/train/exp2`.

Left is what was learnt from, right what was validated on. A line is a network of a run; runs of several networks, or
stages of a cascade, have a line for each.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.parsing import read_table
from utils.draw import picture_file
from utils.errors import UserError, run_cli
from utils.flags import written_as
from utils.parser import Parser
from utils.plots import canvas, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TABLE = "pretrain.csv"  # of a run
FIGURES = ("accuracy", "loss")
SIDES = {"train": "training", "val": "validation"}
COLUMNS = [f"{side}/{figure}" for side in SIDES for figure in FIGURES]
Row = dict[str, str]


def read_run(folder: Path) -> dict[str, list[Row]]:
    """Rows of a run's table by what was trained, in the order of the epochs.

    Raises:
        UserError: no such table, or none that a run wrote; a row that is not of numbers.
    """
    path = folder / TABLE
    header, rows = read_table(path, "table of epochs", "give folders of runs that trained a backbone")
    if not rows or not {"task", "epoch"} <= set(header):
        raise UserError("no table of epochs", where=path, hint="give folders of training runs that have finished some")
    found: dict[str, list[Row]] = {}
    for where, row in rows:
        try:
            for column in COLUMNS:
                points([row], column)
        except ValueError as error:
            raise UserError(f"not a row of numbers ({error})", where=where, hint="delete the row") from error
        found.setdefault(row["task"], []).append(row)
    return found


def short_names(folders: Sequence[Path]) -> list[str]:
    """The last part of each path, or as many of the last parts as it takes for all of them to differ."""
    parts = [folder.resolve().parts for folder in folders]
    lengths = range(1, 1 + max(map(len, parts)))
    count = next(some for some in lengths if len({own[-some:] for own in parts}) == len(set(parts)))
    return ["/".join(own[-count:]) for own in parts]


def lines_of(folders: Sequence[Path]) -> dict[str, list[Row]]:
    """Label → rows: the run's name, and what was trained where a run trained several."""
    found = {}
    for folder, name in zip(folders, short_names(folders), strict=True):
        tasks = read_run(folder)
        for task, rows in tasks.items():
            found[name if len(tasks) == 1 else f"{name}, {task}"] = rows
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
                highest = max([highest, *filter(math.isfinite, values)])
            axis.set(title=f"{title}, {figure}", ylabel=figure, ylim=(0, 1.02 * highest))
            axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    drawn.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return drawn


def main() -> None:
    """Draw and say where."""
    parser = Parser(description="Accuracy and loss of training runs over the epochs, as a picture.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=written_as(".png"), help="the PNG [curves.png in the folder of the first run]")
    arguments = parser.parse_args()
    lines = lines_of(arguments.runs)
    out = picture_file(arguments.out or arguments.runs[0] / "curves.png")
    write_figure(draw(lines), out)
    print(f"curves: {out}")


if __name__ == "__main__":
    run_cli(main)
