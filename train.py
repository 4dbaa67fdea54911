"""Cascade pre-training of the backbone, then training of the detector: the main job."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.config import SAMPLE_RECIPE, Recipe, add_recipe_flags, load_recipe, save_recipe
from utils.errors import UserError, run_cli
from utils.files import make_folder, write_text
from utils.runs import FINISHED, new_run, newest_run

if TYPE_CHECKING:
    from models.cascade import SubModule
    from models.darknet import DarkNet

NEWEST = "newest"


def parse() -> tuple[argparse.Namespace, dict[str, Any]]:
    """Own flags, and the recipe's as a dict of those given."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Without arguments: the built-in data set with configs/sample.yaml."
    )
    parser.add_argument(
        "--recipe", type=Path, help="recipe yaml; flags go before it [configs/sample.yaml unless --data is given]"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    parser.add_argument(
        "--resume", nargs="?", const=NEWEST, metavar="RUN", help="go on with a run folder [newest unfinished]"
    )
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are made [runs]")
    parser.add_argument("--name", default="exp", help="name of the run folder; a number is added if taken [exp]")
    own = {action.dest for action in parser._actions}
    add_recipe_flags(parser)
    arguments = vars(parser.parse_args())
    flags = {key: value for key, value in arguments.items() if key not in own and value is not None}
    return argparse.Namespace(**{key: arguments[key] for key in own if key in arguments}), flags


def open_run(arguments: argparse.Namespace, flags: dict[str, Any]) -> tuple[Path | None, Recipe]:
    """The run to go on with, or None, and the recipe."""
    if arguments.resume is None:
        path = arguments.recipe or (None if "data" in flags else SAMPLE_RECIPE)
        return None, load_recipe(path, flags)
    if flags or arguments.recipe:
        raise UserError("a resumed run keeps its recipe", where="--resume", mend="leave the other flags away")
    run = newest_run(arguments.project, finished=False) if arguments.resume == NEWEST else Path(arguments.resume)
    if (run / FINISHED).exists():
        raise UserError("this run is finished", where=run, mend="start a new one without --resume")
    return run, load_recipe(run / "recipe.yaml", {})


def print_plan(backbone: "DarkNet", plan: "list[SubModule]", recipe: Recipe) -> None:
    """The sub-modules and their cost, as a table."""
    from rich.table import Table

    from engine.logs import console

    table = Table(title=f"CL_{len(plan)} of {recipe.backbone}, width {recipe.width:g}, {recipe.imgsz} px")
    for column in ("", "blocks", "convs", "parameters", "%", "MACs", "%", "activations %", "output"):
        table.add_column(column, justify="right")
    totals = [sum(getattr(part, key) for part in plan) for key in ("parameters", "macs", "activations")]
    for number, part in enumerate(plan, start=1):
        shares = [
            100 * value / total
            for value, total in zip((part.parameters, part.macs, part.activations), totals, strict=True)
        ]
        tap = " tap" if part.stop in backbone.taps else ""
        blocks = ("stem, " if part.start == 0 else "") + part.blocks
        cells = (
            number,
            blocks,
            part.convolutions,
            f"{part.parameters:,}",
            f"{shares[0]:.1f}",
            f"{part.macs:,}",
            f"{shares[1]:.1f}",
        )
        table.add_row(*map(str, cells), f"{shares[2]:.1f}", "×".join(map(str, part.shape)) + tap)
    console.print(table)


def build(fabric: Any, recipe: Recipe, run: Path, resumed: dict[str, Any], splits: tuple[Any, Any]) -> dict[str, float]:
    """Pre-train or load the backbone, then train the detector on it."""
    from engine.backbone import reuse_backbone
    from engine.cascade import pretrain
    from engine.detector import train_detector
    from models.backbones import make_backbone
    from models.yolov3 import YOLOv3
    from utils.seed import seed_process

    seed_process(recipe.seed, 0)
    backbone = make_backbone(recipe.backbone, recipe.width)
    pretrained = recipe.weights
    if pretrained is None and recipe.cl_splits:
        pretrained = pretrain(fabric, recipe, backbone, *splits, run, resumed)
    seed_process(recipe.seed, 999)
    model = YOLOv3(make_backbone(recipe.backbone, recipe.width), len(splits[0].description.names))
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe)
    return train_detector(fabric, recipe, model, *splits, run, resumed)


def main() -> None:
    """Parse, plan, read, train, finish."""
    arguments, flags = parse()
    run, recipe = open_run(arguments, flags)
    from engine import checkpoint
    from engine.logs import console
    from models.backbones import make_backbone
    from models.cascade import make_plan

    backbone = make_backbone(recipe.backbone, recipe.width)
    if recipe.weights is None and recipe.cl_splits != 0:
        print_plan(backbone, make_plan(backbone, recipe.cl_splits, recipe.imgsz), recipe)
    if arguments.dry_run:
        return
    from data.description import load_description
    from data.formats import read_split
    from engine.device import make_fabric

    description = load_description(recipe.data)
    splits = (
        read_split(description, "train", strict=recipe.strict),
        read_split(description, "val", strict=recipe.strict),
    )
    for split in splits:
        console.print(split.summary())
    fabric = make_fabric(recipe)
    last = run / "weights" / "last.pt" if run else None
    resumed = checkpoint.load(last, "training") if last and last.exists() else {}
    run = run or new_run(arguments.project, "train", arguments.name)
    make_folder(run / "weights")
    save_recipe(recipe, run / "recipe.yaml")
    console.print(f"run folder {run}, precision {fabric.strategy.precision.precision}")
    began = time.monotonic()
    metrics = build(fabric, recipe, run, resumed, splits)
    seconds = time.monotonic() - began
    write_text(run / FINISHED, json.dumps({"split": "val", **metrics, "seconds": seconds}, indent=2) + "\n")
    figures = f"val mAP {metrics['map']:.3f}, mAP50 {metrics['map50']:.3f}"
    console.print(f"finished in {seconds:.0f} s: {figures}; {run / 'weights' / 'best.pt'}")


if __name__ == "__main__":
    run_cli(main)
