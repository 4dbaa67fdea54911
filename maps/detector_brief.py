"""A report on detectors in one table: `python -m maps.detector_brief runs/val/exp/localise.json`."""

import json
from pathlib import Path
from typing import Any

from maps.kinds import title_of
from maps.localise import BASELINE
from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.text import NOTHING, as_markdown, as_number

MEASURES = {"pointing": "pointing game", "mass": "evidence inside"}


def brief_table(content: dict[str, Any]) -> list[list[str]]:
    """A row a kind of map and tap, and for each baseline; each measure of each line, seeds together."""
    lines = content["lines"]
    names = list(dict.fromkeys(own["line"] for own in lines if own["map"] != BASELINE))
    kinds = list(dict.fromkeys(own["map"] for own in lines if own["map"] != BASELINE))
    table = [["map", "no influence", *(f"{title}: {name}" for title in MEASURES.values() for name in names)]]
    for kind in kinds:
        own = {line["line"]: line for line in lines if line["map"] == kind}
        for cut in sorted({cut for line in own.values() for cut in line["cuts"]}):
            shares = [cell(own.get(name), "no_influence", cut, ".0%") for name in names]
            shares = shares[:1] if len(set(shares)) == 1 else shares
            cells = [cell(own.get(name), measure, cut) for measure in MEASURES for name in names]
            table.append([f"{title_of(kind)}, {f'b{cut}' if cut else 'image'}", ", ".join(shares), *cells])
    for line in lines:
        if line["map"] == BASELINE:
            cells = [cell(line, measure, line["cuts"][0]) for measure in MEASURES for _ in names]
            table.append([line["line"], NOTHING, *cells])
    return table


def cell(line: dict[str, Any] | None, measure: str, cut: int, form: str = ".3f") -> str:
    """The mean of a measure at one cut; `–` of a line, or at a cut, that has none."""
    if line is None or cut not in line["cuts"]:
        return NOTHING
    return as_number(line["measures"][measure]["mean"][line["cuts"].index(cut)], form)


def read_report(path: Path) -> dict[str, Any]:
    """What a report on detectors left.

    Raises:
        UserError: it is none.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return {"taps": content["taps"], "lines": content["lines"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("no report on detectors", where=path, hint="give localise.json of its folder") from error


def main() -> None:
    """Print the table."""
    parser = Parser(description="A report on detectors as one table in Markdown.")
    parser.add_argument("file", type=Path, help="localise.json of a report on detectors")
    print(as_markdown(brief_table(read_report(parser.parse_args().file))))


if __name__ == "__main__":
    run_cli(main)
