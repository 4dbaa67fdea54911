"""What reports on maps say to the paper's claims, beside each other, or how far their networks are apart.

`python -m studies.verdicts results/covid_maps/lungs results/covid_maps/pathology`
`python -m studies.verdicts --differences iou results/signs_maps/objects results/signs_maps/pictures`
"""

from pathlib import Path
from typing import Any

from maps.kinds import title_of
from maps.measures import MEASURES
from studies.claims import UNTESTED, counted, doubted
from utils.errors import UserError, run_cli
from utils.files import read_json
from utils.parser import Parser
from utils.text import NOTHING, as_markdown

CONTENT = "localise.json"


def verdict_table(folders: list[Path]) -> str:
    """A row a claim, a column a report: verdict, and what it rests on.

    Raises:
        UserError: a folder holds no report on maps.
    """
    reports = {folder: with_claims(folder) for folder in folders}
    heads = [head(folder, own) for folder, own in reports.items()]
    rows = [["figure", "claim", *heads]]
    columns = [judged_again(report) for report in reports.values()]
    for figure in dict.fromkeys(figure for column in columns for figure in column):
        found = [column.get(figure) for column in columns]
        claim = next(own["claim"] for own in found if own)
        cells = [f"**{own['verdict']}**: {own['found']}" if own else NOTHING for own in found]
        rows.append([figure, claim, *cells])
    return as_markdown(rows, "l")


def difference_table(folders: list[Path], measure: str) -> str:
    """A row a kind of map and two networks, a column a report: mean difference over judged cuts, with its interval."""
    reports = {folder: read_report(folder) for folder in folders}
    columns = [differences(report, measure) for report in reports.values()]
    rows = [["map", *(head(folder, own) for folder, own in reports.items())]]
    for pair in dict.fromkeys(pair for column in columns for pair in column) or ["all"]:
        rows.append(
            [
                pair,
                *(
                    why_not(own) or column.get(pair, NOTHING)
                    for own, column in zip(reports.values(), columns, strict=True)
                ),
            ]
        )
    return as_markdown(rows)


def why_not(report: dict[str, Any]) -> str | None:
    """Why no difference of a report counts, or None. One whose classifiers learnt nothing may have no pairs at all."""
    why = report.get("untaught", "its classifiers were never compared with chance") or doubted(report)
    return f"{UNTESTED}: {why}" if why else None


def differences(report: dict[str, Any], measure: str) -> dict[str, str]:
    """`Grad-CAM, cl3 minus e2e` → `mean [low, high]` of a report; the mean alone where there is no interval."""
    found = {}
    for pair in report["pairs"]:
        if (own := pair.get("overall", {}).get(measure)) and own["mean"] is not None:
            bounds = "" if own["low"] is None else f" [{own['low']:+.3f}, {own['high']:+.3f}]"
            found[f"{title_of(pair['map'])}, {pair['first']} minus {pair['second']}"] = f"{own['mean']:+.3f}{bounds}"
    return found


def head(folder: Path, report: dict[str, Any]) -> str:
    """What a column is of, as a link: name, data and cases of a report."""
    return f"[{folder.name}: {report['data'].removesuffix('.yaml')}, {report['cases']} cases](/{folder}.md)"


def judged_again(report: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Figure → claim, without verdicts that do not count."""
    return {own["figure"]: own | {"verdict": counted(report, own["verdict"])} for own in report["claims"]}


def read_report(folder: Path) -> dict[str, Any]:
    """The figures of a report.

    Raises:
        UserError: there are none.
    """
    hint = "give the folder that `val.py --localise` or a study has filled"
    content = read_json(folder / CONTENT, hint)
    if missing := [key for key in ("data", "cases", "lines") if key not in content]:
        raise UserError(f"no `{missing[0]}`: not the figures of a report on maps", where=folder / CONTENT, hint=hint)
    return content


def with_claims(folder: Path) -> dict[str, Any]:
    """The figures of a report that judges claims.

    Raises:
        UserError: it is none.
    """
    content = read_report(folder)
    if not content.get("claims"):
        hint = "make it with --claims, of a cascaded and an end-to-end network, or give --differences"
        raise UserError("judges no claims", where=folder / CONTENT, hint=hint)
    return content


def main() -> None:
    """Print the table."""
    parser = Parser(description="What reports on maps say to the paper's claims, as Markdown.")
    parser.add_argument("folders", nargs="+", type=Path, help="folders with a localise.json")
    parser.add_argument(
        "--differences", metavar="MEASURE", choices=tuple(MEASURES), help="between networks, in place of verdicts"
    )
    given = parser.parse_args()
    folders, measure = given.folders, given.differences
    print(difference_table(folders, measure) if measure else verdict_table(folders))


if __name__ == "__main__":
    run_cli(main)
