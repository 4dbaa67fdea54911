"""Figures of a benchmark as a Markdown table: `python -m benchmarks.table results/cascade.json`."""

import json
import sys
from pathlib import Path


def table(lines: list[str]) -> str:
    """A row for each JSON line: the figure, its value, target and floor; a value over its target is set in bold."""
    rows = ["| figure | value | target | floor |", "|---|---:|---:|---:|"]
    for found in map(json.loads, lines):
        value = f"{found['value']:.3f}" if found["holds"] else f"**{found['value']:.3f}**"
        rows.append(f"| {found['figure']} | {value} | {found['target']:g} | {found['floor']:.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()))
