"""Mean and spread of metrics files of several seeds, as a Markdown table.

`python -m benchmarks.spread results/sample_seed*.json`
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from utils.errors import UserError, run_cli

KEYS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "voc07_ap50", "miou")
FEW = 5  # classes that still have a column each


def table(files: list[Path]) -> str:
    """One row a file, then mean and standard deviation (n − 1); of several kinds of files one row a kind, with both.

    A kind is what a name holds before `_seed` and a number.

    Raises:
        UserError: a file is no metrics file of `val.py --map --json`.
    """
    contents = {path.stem: read_metrics(path) for path in files}
    kinds: dict[str, list[list[float]]] = {}
    for stem, content in contents.items():
        kinds.setdefault(re.sub(r"_?seed\d+$", "", stem), []).append(numbers(content))
    columns = [*KEYS, *(f"{name} map50" for name in classes(contents))]
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    if len(kinds) > 1:
        return "\n".join([*lines, *(kind_row(kind, np.array(rows)) for kind, rows in kinds.items())])
    values = np.array([numbers(content) for content in contents.values()])
    lines += [f"| {stem} | {cells(row)} |" for stem, row in zip(contents, values, strict=True)]
    lines += [f"| **mean** | {cells(values.mean(0))} |"]
    if len(files) > 1:
        lines += [f"| **sd** | {cells(values.std(0, ddof=1))} |"]
    return "\n".join(lines)


def read_metrics(path: Path) -> dict[str, Any]:
    """The content of a metrics file.

    Raises:
        UserError: it is none.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        numbers(content)
    except (OSError, ValueError, KeyError, TypeError) as error:
        mend = "make it with `python val.py --map --json FILE`"
        raise UserError(f"no metrics file ({error})", where=path, mend=mend) from error
    return content


def classes(contents: dict[str, dict[str, Any]]) -> list[str]:
    """Names of the classes, where they are few enough for a column each."""
    names = list(next(iter(contents.values()))["per_class"])
    return names if len(names) <= FEW else []


def numbers(content: dict[str, Any]) -> list[float]:
    """The columns of a row; NaN where there is no value."""
    own = content["per_class"].values() if len(content["per_class"]) <= FEW else []
    values = [*(content[key] for key in KEYS), *(row["map50"] for row in own)]
    return [float("nan") if value is None else value for value in values]


def kind_row(kind: str, values: np.ndarray) -> str:
    """Mean and standard deviation of a kind's files, and how many they are."""
    if len(values) == 1:
        return f"| {kind} | {cells(values[0])} |"
    pairs = zip(values.mean(0), values.std(0, ddof=1), strict=True)
    return f"| {kind}, {len(values)} seeds | " + " | ".join(f"{mean:.3f} ± {sd:.3f}" for mean, sd in pairs) + " |"


def cells(row: np.ndarray) -> str:
    """Numbers with three decimals, between bars."""
    return " | ".join(f"{value:.3f}" for value in row)


def main() -> None:
    """Print the table and the command that made it."""
    parser = argparse.ArgumentParser(description="Mean and spread of metrics files, as a Markdown table.")
    parser.add_argument("files", nargs="+", type=Path, help="metrics files of val.py --map --json")
    files = parser.parse_args().files
    print(f"Made by `python -m benchmarks.spread {' '.join(map(str, files))}`.\n\n{table(files)}")


if __name__ == "__main__":
    run_cli(main)
