"""Accuracy and loss over the epochs as a picture: `python -m training.curves runs/train/exp runs/train/exp2`.

Left is what was learnt from, right what was validated on. A line is a network of a run; runs of several networks, or
stages of a cascade, have a line for each.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from utils.draw import picture_file
from utils.errors import UserError, run_cli
from utils.files import written_whole

TABLES = {"pretrain.csv": "accuracy", "results.csv": "map"}  # of a run → what is above the loss
CURVES = "curves.png"
Row = dict[str, str]


def read_run(folder: Path, table: str) -> dict[str, list[Row]]:
    """Rows of a run's table by what was trained, in the order of the epochs.

    Raises:
        UserError: no such table, or none that a run wrote.
    """
    path = folder / table
    try:
        rows = list(csv.DictReader(path.read_text().splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, hint="give folders of training runs") from error
    if not rows or not {"task", "epoch"} <= rows[0].keys():
        raise UserError("no table of epochs", where=path, hint="give folders of training runs that have finished some")
    return {task: [row for row in rows if row["task"] == task] for task in dict.fromkeys(row["task"] for row in rows)}


def lines_of(folders: Sequence[Path], table: str) -> dict[str, list[Row]]:
    """Label → rows: the run's name, and what was trained where a run trained several."""
    found = {}
    for folder in folders:
        tasks = read_run(folder, table)
        for task, rows in tasks.items():
            found[folder.name if len(tasks) == 1 else f"{folder.name}, {task}"] = rows
    return found


def points(rows: Sequence[Row], key: str) -> tuple[list[int], list[float]]:
    """Epochs and values of a column, of the rows that have it."""
    own = [(int(row["epoch"]), float(row[key])) for row in rows if row.get(key)]
    return [epoch for epoch, _ in own], [value for _, value in own]


def draw(lines: dict[str, list[Row]], figure: str) -> Any:
    """The four plots; of a detector, what is above the loss is known of the validation only."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(2, 2, figsize=(10, 7), sharex=True, layout="constrained")
    sides = {"train": "training", "val": "validation"}
    for row, (key, name) in enumerate({figure: figure.replace("map", "mAP"), "loss": "loss"}.items()):
        for axis, (side, title) in zip(axes[row], sides.items(), strict=True):
            for number, (label, rows) in enumerate(lines.items()):
                epochs, values = points(rows, f"{side}/{key}")
                axis.plot(epochs, values, marker=".", color=f"C{number % 10}", label=label)
            axis.set(title=f"{title}, {name}", ylabel=name)
            axis.set_ylim(0, 1.02 if key != "loss" else 1.05 * axis.dataLim.y1 or None)
            axis.grid(alpha=0.3)
    for axis in axes[1]:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
    return drawn


def save_curves(folders: Sequence[Path], path: Path, table: str = "pretrain.csv") -> None:
    """Draw the curves of some runs into one PNG.

    Raises:
        UserError: a run has no such table, or the file cannot be written.
    """
    from matplotlib import pyplot

    lines = lines_of(folders, table)
    target = picture_file(path, (".png",))
    drawn = draw(lines, TABLES[table])
    with written_whole(target) as temporary:
        drawn.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(drawn)


def main() -> None:
    """Draw and say where."""
    parser = argparse.ArgumentParser(description="Accuracy and loss of training runs over the epochs, as a picture.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--out", type=Path, help="the PNG [curves.png in the folder of the first run]")
    parser.add_argument("--detector", action="store_true", help="the detector's epochs, not those of the backbone")
    arguments = parser.parse_args()
    out = arguments.out or arguments.runs[0] / CURVES
    save_curves(arguments.runs, out, "results.csv" if arguments.detector else "pretrain.csv")
    print(f"curves: {out}")


if __name__ == "__main__":
    run_cli(main)
