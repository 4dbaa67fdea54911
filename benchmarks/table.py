"""Figures of a benchmark as a Markdown table: `python -m benchmarks.table results/cascade.json`."""

import json
import sys
from pathlib import Path


def table(lines: list[str]) -> str:
    """A row for each JSON line: the figure, its value, target and floor; in bold a value that misses its target."""
    rows = ["| figure | value | target | floor |", "|---|---:|---:|---:|"]
    for found in map(json.loads, lines):
        value = f"{found['value']:.3f}" if found["holds"] else f"**{found['value']:.3f}**"
        floor = "–" if found["floor"] is None else f"{found['floor']:.3f}"
        rows.append(f"| {found['figure']} | {value} | {found['target']:g} | {floor} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table(Path(sys.argv[1]).read_text().splitlines()))
