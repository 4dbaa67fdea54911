"""Mean and spread of metrics files of several seeds, as a Markdown table.

`python -m benchmarks.spread results/sample_seed*.json`
"""

import argparse
import json
from pathlib import Path

import numpy as np

from utils.errors import UserError, run_cli

KEYS = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "voc07_ap50", "miou")


def table(files: list[Path]) -> str:
    """One row a file, then mean and standard deviation (n − 1).

    Raises:
        UserError: a file is no metrics file of `val.py --map --json`.
    """
    rows = []
    for path in files:
        try:
            content = json.loads(path.read_text())
            rows.append([float("nan") if content[key] is None else content[key] for key in KEYS])
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"no metrics file ({error})", where=path, mend="make it with `python val.py --map --json FILE`"
            ) from error
    values = np.array(rows)
    lines = [f"| | {' | '.join(KEYS)} |", "|---|" + "---:|" * len(KEYS)]
    lines += [f"| {path.stem} | {cells(row)} |" for path, row in zip(files, values, strict=True)]
    lines += [f"| **mean** | {cells(values.mean(0))} |"]
    if len(files) > 1:
        lines += [f"| **sd** | {cells(values.std(0, ddof=1))} |"]
    return "\n".join(lines)


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
