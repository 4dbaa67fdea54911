"""Cascade pre-training of the backbone and its baselines, then training of the detector: the main job."""

import argparse
from pathlib import Path

from utils.config import PRESETS, SAMPLE_RECIPE, Recipe
from utils.errors import UserError, run_cli
from utils.flags import add_recipe_flags
from utils.plugins import from_arguments
from utils.recipes import load_recipe, refuse_differences
from utils.runs import FINISHED, newest_run

NEWEST = "newest"


def parse() -> tuple[argparse.Namespace, dict[str, str], dict[str, str]]:
    """Own flags; the recipe's as key to value for those given; and how each of those is spelt."""
    from_arguments()
    from training.check import NAMED

    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Without arguments: the built-in data set with configs/sample.yaml."
    )
    parser.add_argument(
        "--recipe", type=Path, help="recipe yaml; flags go before it [configs/sample.yaml unless --data is given]"
    )
    parser.add_argument("--preset", choices=PRESETS, help="how the papers' authors trained; recipe and flags go before")
    parser.add_argument("--download", action="store_true", help="fetch what the data yaml names and is not there yet")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--resume", nargs="?", const=NEWEST, metavar="RUN", help="go on with a run folder [newest unfinished]"
    )
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are made [runs]")
    parser.add_argument("--name", default="exp", help="name of the run folder; a number is added if taken [exp]")
    spelt = add_recipe_flags(parser, NAMED)
    arguments = parser.parse_args()
    given = {key: value for key in spelt if (value := getattr(arguments, key)) is not None}
    return arguments, given, spelt


def open_run() -> tuple[argparse.Namespace, Path | None, Recipe]:
    """Own flags, the run to go on with or None, and the recipe."""
    arguments, given, spelt = parse()
    if arguments.resume is None:
        path = arguments.recipe or (None if "data" in given or arguments.preset else SAMPLE_RECIPE)
        return arguments, None, load_recipe(path, given, spelt, PRESETS.get(arguments.preset))
    if arguments.recipe or arguments.preset:
        raise UserError("a resumed run keeps its recipe", where="--resume", mend="leave --recipe and --preset away")
    folder = newest_run(arguments.project, finished=False) if arguments.resume == NEWEST else Path(arguments.resume)
    if (folder / FINISHED).exists():
        raise UserError("this run is finished", where=folder, mend="start a new one without --resume")
    recipe = load_recipe(folder / "recipe.yaml", {})
    wanted = load_recipe(folder / "recipe.yaml", given, spelt)
    refuse_differences(recipe, wanted, folder / "recipe.yaml", "leave these flags away, or start a new run")
    return arguments, folder, recipe


def show_plan(recipe: Recipe) -> None:
    """Print what each sub-module will hold and cost; refuses a k that the backbone has not."""
    from models.backbones import make_backbone
    from models.plan import make_plan, plan_table
    from training.check import check_names
    from utils.console import console

    check_names(recipe)
    backbone = make_backbone(recipe.backbone, recipe.width)
    if recipe.pretrains:
        plan = make_plan(backbone, recipe.cl_splits, recipe.imgsz, recipe.balance, batch=recipe.stage.batch_size)
        console.print(f"CL_{recipe.cl_splits} of {recipe.backbone}, width {recipe.width:g}, {recipe.imgsz} px")
        console.print(plan_table(plan, backbone.taps))
        stage, what = recipe.stage, {"auto": "objects or pictures"}.get(recipe.pretrain.source, recipe.pretrain.source)
        side = "" if recipe.pretrain.source == "auto" else f", {stage.imgsz} px"
        console.print(f"backbone: {what} of {(stage.data or recipe.data).name}{side}, epochs a stage {stage.epochs}")
        if backbone.taps and not recipe.pretrain_only:
            console.print(f"detector: {recipe.data.name}, {recipe.imgsz} px, epochs {recipe.train.epochs}")


def main() -> None:
    """Parse, plan, launch, train."""
    arguments, folder, recipe = open_run()
    from training.fabric import first_speaks, make_fabric, settle
    from training.ranks import watched
    from training.run import train
    from utils.stop import Stop

    first_speaks(recipe)
    show_plan(recipe)
    if arguments.dry_run:
        return
    recipe = settle(recipe)
    fabric = make_fabric(recipe)
    with Stop().listening() as stop, watched(fabric, stop):
        train(
            recipe,
            fabric,
            stop,
            project=arguments.project,
            name=arguments.name,
            folder=folder,
            download=arguments.download,
        )


if __name__ == "__main__":
    run_cli(main)
