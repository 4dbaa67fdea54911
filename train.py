"""Cascade pre-training of the backbone and its baselines, then training of the detector: the main job."""

import argparse
from pathlib import Path

from utils.config import PRESETS
from utils.errors import UserError, run_cli
from utils.flags import add_name, add_recipe_flags, spelling, with_changed
from utils.limits import CHECKPOINT, PICTURE, UNPACKED, add_limit_flags
from utils.parser import Parser
from utils.plugins import from_arguments
from utils.version import add_version_flag


def parse() -> tuple[argparse.Namespace, dict[str, str]]:
    """Own flags; and the recipe's as key to value, for those given."""
    from_arguments()
    parser = Parser(
        allow_abbrev=False,
        description=__doc__,
        epilog="Without arguments: the built-in data set with configs/sample.yaml.",
    )
    parser.add_argument(
        "--recipe", type=Path, help="recipe yaml; flags override it [configs/sample.yaml unless --data is given]"
    )
    parser.add_argument(
        "--preset", choices=PRESETS, help="settings of a paper's authors; recipe and flags override them"
    )
    parser.add_argument("--download", action="store_true", help="fetch what the data yaml names and is not there yet")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, check data and weights, and stop")
    parser.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=False,
        metavar="RUN",
        help="continue with a run folder [newest unfinished]",
    )
    parser.add_argument(
        "--accept-changed-data", action="store_true", help="with --resume: continue though the data have changed"
    )
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are made [runs]")
    add_name(parser)
    add_limit_flags(parser, PICTURE, UNPACKED, CHECKPOINT)
    add_recipe_flags(parser)
    add_version_flag(parser)
    arguments = with_changed(parser)
    return arguments, {key: value for key in spelling() if (value := getattr(arguments, key)) is not None}


def main() -> None:
    """Parse, then train, with all that is said kept for the run folder."""
    arguments, given = parse()
    from training.console_log import noted

    with noted():
        carry_out(arguments, given)


def carry_out(arguments: argparse.Namespace, given: dict[str, str]) -> None:
    """Plan, launch, train.

    Raises:
        UserError: a run to continue with and a name for a new one, or as in training.start.
    """
    from training.fabric import first_speaks
    from training.start import begin, choose, rehearse, show_plan

    if arguments.resume and "name" in arguments.changed:
        raise UserError("a resumed run keeps its folder", where="--name", hint="leave it out, or --resume")
    begun = choose(
        arguments.recipe,
        given,
        preset=arguments.preset,
        resume=arguments.resume,
        accept_changed=arguments.accept_changed_data,
        project=arguments.project,
    )
    first_speaks(begun.recipe)
    show_plan(begun.recipe)
    if arguments.dry_run:
        rehearse(begun, download=arguments.download)
    else:
        begin(begun, project=arguments.project, name=arguments.name, download=arguments.download)


if __name__ == "__main__":
    run_cli(main)
