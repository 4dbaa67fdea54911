"""Cascade pre-training of the backbone and its baselines, then training of the detector: the main job."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.config import PRESETS, SAMPLE_RECIPE, Recipe, build, differences, load_recipe, save_recipe
from utils.errors import UserError, run_cli
from utils.files import make_folder, write_text
from utils.flags import add_recipe_flags
from utils.runs import FINISHED, new_run, newest_run

if TYPE_CHECKING:
    from data.records import Split
    from engine.job import Job
    from engine.stop import Stop

NEWEST = "newest"
DETECTOR_SEED = 1000  # apart from those of the stages and baselines


def parse() -> tuple[argparse.Namespace, dict[str, str], dict[str, str]]:
    """Own flags; the recipe's as key to value for those given; and how each of those is spelt."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Without arguments: the built-in data set with configs/sample.yaml."
    )
    parser.add_argument(
        "--recipe", type=Path, help="recipe yaml; flags go before it [configs/sample.yaml unless --data is given]"
    )
    parser.add_argument("--preset", choices=PRESETS, help="how the papers' authors trained; recipe and flags go before")
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


def refuse_differences(recipe: Recipe, other: Recipe, where: Path, mend: str) -> None:
    """Refuse to go on with a run under another recipe; names each field and both values."""
    if fields := differences(recipe, other):
        raise UserError("; ".join(fields), where=where, mend=mend)


def read_resumed(folder: Path | None, recipe: Recipe) -> dict[str, Any]:
    """The checkpoint to go on from, or nothing where a run has none yet."""
    from engine import checkpoint

    last = folder / "weights" / "last.pt" if folder else None
    if last is None or not last.exists():
        return {}
    resumed = checkpoint.load(last, "training")
    made = build(Recipe, resumed["recipe"], last).model_copy(
        update={"devices": recipe.devices, "num_nodes": recipe.num_nodes}
    )
    refuse_differences(made, recipe, last, "restore recipe.yaml, or start a new run")
    return resumed


def read_data(recipe: Recipe) -> "tuple[Split, Split]":
    """Training and validation split; the latter held out of the former where the data set has none."""
    from data.description import load_description
    from data.formats import read_split
    from data.holdout import HOLDOUT_SHARE, hold_out

    description = load_description(recipe.data)
    train = read_split(description, "train", strict=recipe.strict)
    if "val" in description.splits:
        return train, read_split(description, "val", strict=recipe.strict)
    return hold_out(train, recipe.pretrain.holdout or HOLDOUT_SHARE)


def why_no_detector(job: "Job", taps: tuple[int, ...]) -> str | None:
    """The reason to stop after pre-training, if there is one."""
    if job.recipe.pretrain_only:
        return "--pretrain-only"
    if not taps:
        return f"{job.recipe.backbone} has no features at strides 8, 16 and 32"
    boxed = job.train.description.boxed and any(len(record.labels) for record in job.train.records)
    return None if boxed else "the training images have no boxes"


def run(job: "Job") -> dict[str, Any]:
    """Pre-train or load the backbone, train its baselines, then the detector; the figures on the validation split."""
    from engine.backbone import reuse_backbone
    from engine.baselines import train_baselines
    from engine.cascade import pretrain
    from engine.detector import train_detector
    from engine.logs import console
    from models.backbones import make_backbone
    from models.yolov3 import YOLOv3
    from utils.seed import seed_process

    recipe = job.recipe
    seed_process(recipe.seed, 0)
    backbone, pretrained, stages = make_backbone(recipe.backbone, recipe.width), recipe.weights, {}
    if pretrained is None and recipe.cl_splits:
        pretrained = pretrain(job, backbone)
        train_baselines(job, backbone)
        stages = stage_figures(job)
    if (reason := why_no_detector(job, backbone.taps)) is not None:
        console.print(f"no detector: {reason}")
        return {"pretrain": stages}
    seed_process(recipe.seed, DETECTOR_SEED)
    model = YOLOv3(make_backbone(recipe.backbone, recipe.width), len(job.names))
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe)
    return {**train_detector(job, model), "pretrain": stages}


def stage_figures(job: "Job") -> dict[str, list[dict[str, float]]]:
    """Validation figures at each cut of every backbone file of the run, by method."""
    from engine import checkpoint

    found = (checkpoint.load(path, "backbone") for path in sorted(job.weights.glob("backbone_*.pt")))
    return {content["method"]: content["metrics"] for content in found}


def finish(job: "Job", metrics: dict[str, Any], seconds: float) -> None:
    """Write metrics.json, which marks the run as finished, and say where things are."""
    from engine.logs import console

    write_text(job.folder / FINISHED, json.dumps({"split": "val", **metrics, "seconds": seconds}, indent=2) + "\n")
    figures, file = f"finished in {seconds:.0f} s", job.weights / "best.pt"
    if "map" in metrics:
        console.print(f"{figures}: val mAP {metrics['map']:.3f}, mAP50 {metrics['map50']:.3f}; {file}")
        return
    for method, stages in metrics["pretrain"].items():
        console.print(f"{method}: val accuracy " + " ".join(f"{stage['accuracy']:.3f}" for stage in stages))
    console.print(f"{figures}: {job.weights}/backbone_*.pt; figures with `python val.py --accuracy`")


def show_plan(recipe: Recipe) -> None:
    """Print what each sub-module will hold and cost; refuses a k that the backbone has not."""
    from engine.logs import console
    from models.backbones import make_backbone
    from models.cascade import make_plan, plan_table

    backbone = make_backbone(recipe.backbone, recipe.width)
    if recipe.weights is None and recipe.cl_splits != 0:
        plan = make_plan(backbone, recipe.cl_splits, recipe.imgsz, recipe.balance)
        console.print(f"CL_{recipe.cl_splits} of {recipe.backbone}, width {recipe.width:g}, {recipe.imgsz} px")
        console.print(plan_table(plan, backbone.taps))


def train(arguments: argparse.Namespace, folder: Path | None, recipe: Recipe, fabric: Any, stop: "Stop") -> None:
    """Read, train, finish, on every rank of a launched Fabric."""
    from engine.backbone import load_backbone
    from engine.job import Job
    from engine.logs import console

    if recipe.weights is not None:
        load_backbone(recipe.weights, recipe)
    with fabric.rank_zero_first(local=True):  # the first one makes or unpacks what is missing
        splits = read_data(recipe)
    for split in splits:
        console.print(split.summary())
    resumed = read_resumed(folder, recipe)
    folder = fabric.broadcast(
        folder or (new_run(arguments.project, "train", arguments.name) if fabric.is_global_zero else None)
    )
    assert folder is not None
    if fabric.is_global_zero:
        make_folder(folder / "weights")
        save_recipe(recipe, folder / "recipe.yaml")
    console.print(f"run folder {folder}, {recipe.device}, {recipe.precision}")
    began = time.monotonic()
    job = Job(fabric, recipe, *splits, folder, resumed, stop)
    metrics = run(job)
    if fabric.is_global_zero:
        finish(job, metrics, time.monotonic() - began)


def main() -> None:
    """Parse, plan, launch, train."""
    arguments, folder, recipe = open_run()
    from engine.device import make_fabric, settle
    from engine.ranks import watched
    from engine.stop import Stop

    show_plan(recipe)
    if arguments.dry_run:
        return
    recipe = settle(recipe)
    fabric = make_fabric(recipe)
    with watched(fabric), Stop().listening() as stop:
        train(arguments, folder, recipe, fabric, stop)


if __name__ == "__main__":
    run_cli(main)
