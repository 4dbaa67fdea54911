"""Figures of a benchmark as a Markdown table: `python -m benchmarks.table results/cascade.json`."""

import json
from pathlib import Path

from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.text import NOTHING, as_markdown

COUNTS = ("trials", "disturbances", "mutations")  # how much a figure is of, where its line says so


def table(lines: list[str]) -> str:
    """A row for each JSON line: the figure, its value, target and floor; in bold a value that misses its target.

    A note below it names the figures that do not say on what processor they were measured.
    """
    rows = [["figure", "value", "target", "floor"]]
    every = [json.loads(line) for line in lines]
    for found in every:
        number = shown(found.get("exactly", found["value"]))  # values are rounded to four decimals
        value = number if found["holds"] else f"**{number}**"
        floor = NOTHING if found["floor"] is None else shown(found["floor"])
        of = "".join(f", {found[count]:,} {count}" for count in COUNTS if count in found)
        rows.append([f"{found['figure']}{of}", value, f"{found['target']:g}", floor])
    unknown = [found["figure"] for found in every if "processor" not in found]
    text = as_markdown(rows)
    if not unknown:
        return text
    which = f": {'; '.join(unknown)}" if len(unknown) < len(every) else ""
    return f"{text}\n\nProcessor not recorded{which}."


def shown(value: float) -> str:
    """Three decimals, or two digits of what these would hide."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.1e}"


def main() -> None:
    """Print the table."""
    parser = Parser(description="Figures of a benchmark as a Markdown table.")
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
