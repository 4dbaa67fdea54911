"""Cascade pre-training of the backbone, then training of the detector: the main job."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from utils.config import SAMPLE_RECIPE, Recipe, load_recipe, save_recipe
from utils.errors import UserError, run_cli
from utils.files import make_folder, write_text
from utils.flags import add_recipe_flags
from utils.runs import FINISHED, new_run, newest_run

if TYPE_CHECKING:
    from engine.job import Job

NEWEST = "newest"
DETECTOR_SEED = 1000  # apart from those of the stages, 1 to 23


def parse() -> tuple[argparse.Namespace, dict[str, str], dict[str, str]]:
    """Own flags; the recipe's as key to value for those given; and how each of those is spelt."""
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
    spelt = add_recipe_flags(parser)
    arguments = parser.parse_args()
    given = {key: value for key in spelt if (value := getattr(arguments, key)) is not None}
    return arguments, given, spelt


def open_run() -> tuple[argparse.Namespace, Path | None, Recipe]:
    """Own flags, the run to go on with or None, and the recipe."""
    arguments, given, spelt = parse()
    if arguments.resume is None:
        path = arguments.recipe or (None if "data" in given else SAMPLE_RECIPE)
        return arguments, None, load_recipe(path, given, spelt)
    if given or arguments.recipe:
        raise UserError("a resumed run keeps its recipe", where="--resume", mend="leave the other flags away")
    folder = newest_run(arguments.project, finished=False) if arguments.resume == NEWEST else Path(arguments.resume)
    if (folder / FINISHED).exists():
        raise UserError("this run is finished", where=folder, mend="start a new one without --resume")
    return arguments, folder, load_recipe(folder / "recipe.yaml", {})


def run(job: "Job") -> dict[str, float]:
    """Pre-train or load the backbone, then train the detector on it; its figures on the validation split."""
    from engine.backbone import reuse_backbone
    from engine.cascade import pretrain
    from engine.detector import train_detector
    from models.backbones import make_backbone
    from models.yolov3 import YOLOv3
    from utils.seed import seed_process

    recipe = job.recipe
    seed_process(recipe.seed, 0)
    pretrained = recipe.weights
    if pretrained is None and recipe.cl_splits:
        pretrained = pretrain(job, make_backbone(recipe.backbone, recipe.width))
    seed_process(recipe.seed, DETECTOR_SEED)
    model = YOLOv3(make_backbone(recipe.backbone, recipe.width), len(job.names))
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe)
    return train_detector(job, model)


def main() -> None:
    """Parse, plan, read, train, finish."""
    arguments, folder, recipe = open_run()
    from engine import checkpoint
    from engine.backbone import load_backbone
    from engine.logs import console
    from models.backbones import make_backbone
    from models.cascade import make_plan, plan_table

    backbone = make_backbone(recipe.backbone, recipe.width)
    if recipe.weights is None and recipe.cl_splits != 0:
        print(f"CL_{recipe.cl_splits} of {recipe.backbone}, width {recipe.width:g}, {recipe.imgsz} px")
        print(plan_table(make_plan(backbone, recipe.cl_splits, recipe.imgsz), backbone.taps))
    if arguments.dry_run:
        return
    from data.description import load_description
    from data.formats import read_split
    from engine.device import make_fabric, settle
    from engine.job import Job

    if recipe.weights is not None:
        load_backbone(recipe.weights, recipe)
    description = load_description(recipe.data)
    splits = (
        read_split(description, "train", strict=recipe.strict),
        read_split(description, "val", strict=recipe.strict),
    )
    for split in splits:
        console.print(split.summary())
    recipe = settle(recipe)
    fabric = make_fabric(recipe)
    last = folder / "weights" / "last.pt" if folder else None
    resumed = checkpoint.load(last, "training") if last and last.exists() else {}
    folder = folder or new_run(arguments.project, "train", arguments.name)
    make_folder(folder / "weights")
    save_recipe(recipe, folder / "recipe.yaml")
    console.print(f"run folder {folder}, {recipe.device}, {recipe.precision}")
    began = time.monotonic()
    metrics = run(Job(fabric, recipe, *splits, folder, resumed))
    seconds = time.monotonic() - began
    write_text(folder / FINISHED, json.dumps({"split": "val", **metrics, "seconds": seconds}, indent=2) + "\n")
    figures = f"val mAP {metrics['map']:.3f}, mAP50 {metrics['map50']:.3f}"
    console.print(f"finished in {seconds:.0f} s: {figures}; {folder / 'weights' / 'best.pt'}")


if __name__ == "__main__":
    run_cli(main)
