"""A study from its recipe: every method with every seed, each a training run of its own, then one table."""

import argparse
import re
from pathlib import Path

from studies.recipe import Study, read_study
from utils.errors import UserError, run_cli


def parse() -> argparse.Namespace:
    """Flags."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Started again, it goes on where it was: finished runs stay, interrupted ones resume.",
    )
    parser.add_argument("study", type=Path, help="study yaml, as in configs/studies")
    parser.add_argument(
        "--cells", type=share, default=(1, 1), metavar="I/N", help="one of N machines' parts of the runs"
    )
    parser.add_argument(
        "--project", type=Path, default=Path("runs"), help="the study's folder is in studies/ there [runs]"
    )
    parser.add_argument("--report", type=Path, help="write the table to this Markdown file too, the rest beside it")
    parser.add_argument("--dry-run", action="store_true", help="print the runs with the hours they take here, and stop")
    return parser.parse_args()


def share(text: str) -> tuple[int, int]:
    """`3/8` → (3, 8)."""
    match = re.fullmatch(r"([1-9]\d*)/([1-9]\d*)", text)
    if match is None or int(match[1]) > int(match[2]):
        raise argparse.ArgumentTypeError(f"{text} is no share such as 3/8")
    return int(match[1]), int(match[2])


def main() -> None:
    """Run what is left, then write the table."""
    arguments = parse()
    study = read_study(arguments.study, arguments.project)
    cells = study.share(*arguments.cells)
    from studies.runs import State, check_made, run_cell, state

    for cell in study.cells:
        check_made(study, cell)
    if arguments.dry_run:
        from studies.estimate import plan_table

        print(plan_table(study, cells))
        return
    check_data(study)
    failed = []
    for number, cell in enumerate(cells, start=1):
        title = f"{number}/{len(cells)} {cell.name}"
        if state(study, cell) is State.DONE:
            print(f"{title}: done before", flush=True)
            continue
        print(f"{title}: running, {study.folder / 'logs' / cell.name}.txt", flush=True)
        if not run_cell(study, cell):
            failed.append(cell.name)
            print(f"{title}: failed", flush=True)
    from studies.table import write_results

    print(write_results(study, arguments.report), end="")
    if failed:
        what, where = f"{len(failed)} runs failed: {', '.join(failed)}", study.folder / "logs"
        raise UserError(what, where=where, mend="read their logs, mend it, and start the study again")


def check_data(study: Study) -> None:
    """Refuse before the first run what would stop a later one: data that are not there."""
    from data.description import load_description

    for path in sorted({cell.recipe.data for cell in study.cells}):
        load_description(path)


if __name__ == "__main__":
    run_cli(main)
