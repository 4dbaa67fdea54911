"""What reports on maps say to the paper's claims, beside each other.

`python -m studies.verdicts results/covid_maps/lungs results/covid_maps/pathology`
"""

from pathlib import Path
from typing import Any

from studies.claims import counted
from utils.errors import UserError, run_cli
from utils.files import read_json
from utils.parser import Parser

CONTENT = "localise.json"


def verdict_table(folders: list[Path]) -> str:
    """A row a claim, a column a report: verdict, and what it rests on.

    Raises:
        UserError: a folder holds no report on maps.
    """
    reports = {folder: read_report(folder) for folder in folders}
    heads = [
        f"[{own['data'].removesuffix('.yaml')}, {own['cases']} cases](/{folder}.md)" for folder, own in reports.items()
    ]
    lines = [f"| figure | claim | {' | '.join(heads)} |", "|---|---|" + "---|" * len(heads)]
    columns = [judged_again(report) for report in reports.values()]
    for figure, claim in columns[0].items():
        cells = [f"**{own['verdict']}**: {own['found']}" for own in (column[figure] for column in columns)]
        lines.append(f"| {figure} | {claim['claim']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def judged_again(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Figure → claim, without verdicts that do not count."""
    return {own["figure"]: own | {"verdict": counted(report, own["verdict"])} for own in report["claims"]}


def read_report(folder: Path) -> dict[str, Any]:
    """The figures of a report.

    Raises:
        UserError: there are none, or they have no claims.
    """
    content = read_json(folder / CONTENT, "give the folder that `val.py --localise` or a study has filled")
    if not content.get("claims"):
        hint = "make it with --claims, of a cascaded and an end-to-end network"
        raise UserError("judges no claims", where=folder / CONTENT, hint=hint)
    return content


def main() -> None:
    """Print the table."""
    parser = Parser(description="What reports on maps say to the paper's claims, as Markdown.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders with a localise.json")
    print(verdict_table(parser.parse_args().folders))


if __name__ == "__main__":
    run_cli(main)
