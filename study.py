"""A study from its recipe: every method with every seed, each a training run of its own, then one page."""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.plugins import add_import_flag
from utils.version import add_version_flag

if TYPE_CHECKING:
    from studies.recipe import Cell, Study


def parse() -> argparse.Namespace:
    """Flags."""
    parser = Parser(
        allow_abbrev=False,
        description=__doc__,
        epilog="Started again, it continues where it was: finished runs stay, interrupted ones resume.",
    )
    parser.add_argument("study", type=Path, help="study yaml, as in configs/studies")
    parser.add_argument(
        "--cells", type=share, default=(1, 1), metavar="I/N", help="one of N machines' parts of the runs"
    )
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="run these of its methods now; the others stay for later"
    )
    parser.add_argument(
        "--project", type=Path, default=Path("runs"), help="the study's folder is in studies/ there [runs]"
    )
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="copy the page, its tables, figures and logs into a folder there; runs that are there are not repeated",
    )
    now = parser.add_mutually_exclusive_group()
    about = "write these reports now, on the runs that are done, and stop"
    now.add_argument("--reports", nargs="+", metavar="NAME", help=about)
    now.add_argument("--as-is", action="store_true", help="run nothing: the page of what is done so far")
    parser.add_argument("--dry-run", action="store_true", help="print the runs with the hours they take here, and stop")
    add_import_flag(parser)
    add_version_flag(parser)
    return parser.parse_args()


def share(text: str) -> tuple[int, int]:
    """`3/8` → (3, 8)."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} is not of the form 3/8")
    return int(match[1]), int(match[2])


def main() -> None:
    """Run what is left, then write the page."""
    arguments = parse()
    from studies.recipe import read_study

    imports = [Path(own) for own in arguments.imports or ()]
    study = read_study(arguments.study, arguments.project, arguments.publish, imports)
    number, of = arguments.cells
    cells = study.share(number, of, arguments.methods)
    study.check_names("report", arguments.reports or (), study.settings.reports)
    from studies.page import check_kept
    from studies.runs import check_made

    for cell in study.cells:
        check_made(study, cell)
    check_kept(study)
    if arguments.dry_run:
        from studies.estimate import plan_table

        check_data(study)
        rehearse(study)
        print(plan_table(study, cells))
        return
    if arguments.reports:
        failed = write_reports(study, arguments.reports)
    else:
        failed = [] if arguments.as_is else run_all(study, cells)
    print(f"\n{write(study)}\nthis page: {study.folder / 'README.md'}")
    if failed:
        what, where = f"{len(failed)} failed: {', '.join(failed)}", study.folder / "logs"
        raise UserError(what, where=where, hint="read their logs, correct it, and start the study again")


def write(study: "Study") -> str:
    """Write the page of what is done so far, with a copy where the study is published, if it is; gives its text."""
    from studies.page import publish, write_page

    return publish(study) if study.results else write_page(study)


def run_all(study: "Study", cells: "list[Cell]") -> list[str]:
    """The cells, then the reports; gives the names of those that failed."""
    check_data(study)
    return [*run_cells(study, cells), *reports_on_all(study)]


def run_cells(study: "Study", cells: "list[Cell]") -> list[str]:
    """Train and judge what is left of the cells, and publish after each; gives the names of those that failed."""
    from studies.execute import run_cell
    from studies.page import BusyError
    from studies.runs import State, lacking, log_file, state

    failed = []
    for number, cell in enumerate(cells, start=1):
        title = f"{number}/{len(cells)} {cell.name}"
        if state(study, cell) is State.DONE:
            print(f"{title}: done before", flush=True)
            continue
        print(f"{title}: running, {log_file(study, cell)}", flush=True)
        if (source := lacking(study, cell)) is not None and not run_cell(study, source):
            print(f"{source.name}: failed", flush=True)
        if not run_cell(study, cell):
            failed.append(cell.name)
            print(f"{title}: failed", flush=True)
        if study.results:
            try:
                write(study)
            except BusyError as error:  # the page is written again at the end
                print(f"{title}: not published yet: {error}", flush=True)
    return failed


def reports_on_all(study: "Study") -> list[str]:
    """Write the reports on all runs, if no run is left to do; gives the names of those that failed."""
    from studies.runs import State, is_published, state

    study = study.as_published()  # what other machines did meanwhile
    states = [state(study, cell) for cell in study.cells]
    left = sum(own not in (State.DONE, State.FAILED) for own in states)
    if not study.settings.reports or State.DONE not in states:
        return []
    if left:
        print(f"reports: wait for {left} runs", flush=True)
        return []
    there = [name for name in study.settings.reports if is_published(study, name)]
    for name in there:
        print(f"report {name}: published before; not all networks of its runs are here", flush=True)
    return write_reports(study, [name for name in study.settings.reports if name not in there])


def write_reports(study: "Study", names: list[str]) -> list[str]:
    """Write reports on the runs that are done; gives the names of those that failed."""
    from studies.execute import write_report
    from studies.runs import report_weights

    failed = []
    for name in names:
        if not report_weights(study, name):
            print(f"report {name}: no network of its runs is here", flush=True)
            failed.append(name)
            continue
        print(f"report {name}: {study.folder / 'logs' / name}.txt", flush=True)
        if not write_report(study, name):
            failed.append(name)
            print(f"report {name}: failed", flush=True)
    return failed


def check_data(study: "Study") -> None:
    """Refuse before the first run what would stop a later one: data that are not there."""
    from data.description import load_description

    found: set[Path | None] = {
        study.yaml.parent / report.data for report in study.settings.reports.values() if report.data
    }
    for cell in study.cells:
        found |= {cell.recipe.data, *([cell.recipe.pretrain.data] if cell.recipe.pretrains else [])}
    for path in sorted(path for path in found if path):
        load_description(path)


def rehearse(study: "Study") -> None:
    """Read what the runs would read: the data, and the weights that are none of the study's own runs."""
    from training.start import Begun
    from training.start import rehearse as rehearsed

    seen = set()
    for cell in sorted(study.cells, key=lambda cell: not cell.recipe.pretrains):  # they read what the others read too
        own = cell.recipe
        read = own.data, own.task, own.init, own.weights
        learns = (own.pretrain.data, own.pretrain.source) if own.pretrains else None
        if cell.source is None and (*read, learns) not in seen:
            print(f"{cell.name}:")
            rehearsed(Begun(cell.recipe, None), download=False)
            seen |= {(*read, learns), (*read, None)}


if __name__ == "__main__":
    run_cli(main)
