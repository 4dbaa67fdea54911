"""Several training runs beside each other, on one page that opens offline: `python -m studies.compare RUN RUN …`.

What their recipes differ in, how they trained, what their detectors reach on the same pictures, and what they find.
"""

import argparse
from functools import partial
from pathlib import Path

from studies.compared import Compared, end_table, judge, recipe_table
from utils.errors import UserError, run_cli
from utils.flags import DRAWS, add_name, add_threshold_flags, from_zero, positive, resamples
from utils.limits import PICTURE, UNPACKED, add_limit_flags
from utils.parser import Parser
from utils.plugins import add_import_flag, from_arguments
from utils.runs import new_run

PICTURES = 6


def parse() -> argparse.Namespace:
    """Flags."""
    from_arguments()
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run folder, as runs/train/exp")
    parser.add_argument("--data", type=Path, help="data yaml to judge the detectors on [the first run's]")
    parser.add_argument(
        "--task",
        choices=("train", "val", "test"),
        help="split [test, else val, else the tenth of train that training holds out by default]",
    )
    parser.add_argument(
        "--images",
        type=partial(from_zero, "--images"),
        default=PICTURES,
        metavar="N",
        help=f"pictures side by side [{PICTURES}]",
    )
    parser.add_argument("--bootstrap", type=resamples, default=DRAWS, metavar="N", help=f"resamples [{DRAWS}]")
    parser.add_argument("--batch-size", type=positive, default=16, help="images per step [16]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps [auto]")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_name(parser)
    add_threshold_flags(parser, 0.25, 0.45, "in the pictures: ")
    add_limit_flags(parser, PICTURE, UNPACKED)
    add_import_flag(parser)
    return parser.parse_args()


def read_runs(folders: list[Path]) -> list[Compared]:
    """The runs, of distinct names.

    Raises:
        UserError: a folder is none of a run; there is one alone; two have one name.
    """
    runs = [Compared.read(folder) for folder in folders]
    names = [run.name for run in runs]
    if len(names) < 2:
        raise UserError("only one run was given", where=names[0], hint="give two or more run folders")
    for run in runs:
        if names.count(run.name) > 1:
            hint = "give each run once, and rename a folder where two runs have one name"
            raise UserError(f"{names.count(run.name)} runs are called {run.name}", where=run.folder, hint=hint)
    return runs


def main() -> None:
    """Read, judge, write the page."""
    arguments = parse()
    runs = read_runs(arguments.runs)
    from studies.compare_page import write_page

    with new_run(arguments.project, "compare", arguments.name) as folder:
        judged = judge(runs, arguments)
        if judged is None:
            lacking = ", ".join(run.name for run in runs if not run.detects)
            print(f"no detector in {lacking}: no figures on common pictures, which two detectors are needed for")
        page = write_page(runs, recipe_table(runs), end_table(runs), judged, folder)
    print(f"open {page}; its figures and tables are beside it")


if __name__ == "__main__":
    run_cli(main)
