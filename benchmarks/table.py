"""Figures of a benchmark as a Markdown table: `python -m benchmarks.table results/cascade.json`."""

import argparse
import json
from pathlib import Path

from utils.errors import UserError, run_cli


def table(lines: list[str]) -> str:
    """A row for each JSON line: the figure, its value, target and floor; in bold a value that misses its target."""
    rows = ["| figure | value | target | floor |", "|---|---:|---:|---:|"]
    for found in map(json.loads, lines):
        value = f"{found['value']:.3f}" if found["holds"] else f"**{found['value']:.3f}**"
        floor = "–" if found["floor"] is None else f"{found['floor']:.3f}"
        rows.append(f"| {found['figure']} | {value} | {found['target']:g} | {floor} |")
    return "\n".join(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Figures of a benchmark as a Markdown table.")
    parser.add_argument("file", type=Path, help="JSON lines of a benchmark, as in results/cascade.json")
    path = parser.parse_args().file
    try:
        text = table(path.read_text().splitlines())
    except (OSError, ValueError, KeyError, TypeError) as error:
        hint = "give a file that a benchmark wrote, one JSON line for each figure"
        raise UserError("has no figures of a benchmark", where=path, hint=hint) from error
    print(text)


if __name__ == "__main__":
    run_cli(main)
