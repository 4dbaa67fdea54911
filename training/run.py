"""A training run from the data to its figures: pre-training, baselines, detector, on every rank alike."""

import shutil
import time
from pathlib import Path
from typing import Any

from data.records import Split
from evaluation.learnt import judged_by
from models.backbones import make_backbone
from models.detectors import DETECTORS, Settings
from models.weights_files import Beginning
from training.backbone import begin_detector, load_backbone, reuse_backbone
from training.baselines import probe_beginning, train_baselines
from training.cascade import pretrain
from training.check import check_sizes
from training.detector import train_detector
from training.init import beginning, fresh_backbone
from training.job import Job
from training.reading import IMAGES, Pair, kept, lessons, read_pairs, settle_source, tell
from training.same_data import Identity, identity, refuse_changed
from utils import checkpoint
from utils.config import Recipe
from utils.console import console
from utils.errors import UserError
from utils.files import json_text, make_folder, write_text
from utils.recipes import build, refuse_differences, save_recipe
from utils.runs import FINISHED, new_run
from utils.seed import seed_process
from utils.stop import Stop

DETECTOR_SEED = 1000  # apart from those of the stages and baselines


def carry_out(
    recipe: Recipe,
    fabric: Any,
    stop: Stop,
    *,
    project: Path,
    name: str,
    folder: Path | None,
    download: bool,
    accept_changed: bool = False,
) -> Path:
    """Read, train, finish.

    Args:
        recipe: settled on this machine's device.
        project, name: where a new run folder is made.
        folder: the run to go on with, or None for a new one.
        download: fetch the archives of the data set that are missing.
        accept_changed: go on though the data are not what the run began with.

    Returns:
        The run folder.

    Raises:
        UserError: the data, the weights or the run to go on with are not what the recipe asks for.
        Stopped: by a signal.
    """
    if recipe.weights is not None:
        load_backbone(recipe.weights, recipe)
    with fabric.rank_zero_first(local=True):  # the first one makes or unpacks what is missing
        begins = beginning(recipe, download=download)
        pairs = read_pairs(recipe, download=download)
    tell(pairs)
    recipe = settle_source(recipe, pairs)
    check_sizes(recipe)
    lesson, lines = lessons(recipe, pairs[1]) if recipe.pretrains else (pairs[0], [])
    for line in lines:
        console.print(line)
    refuse_nothing(recipe, pairs[0][0])
    own_data = identity(named_splits(recipe, pairs))
    resumed = read_resumed(folder, recipe, begins, {} if accept_changed else own_data) if folder else {}
    if folder is None:
        folder = fabric.broadcast(new_run(project, "train", name) if fabric.is_global_zero else None)
    assert folder is not None
    if fabric.is_global_zero:
        make_folder(folder / "weights")
        save_recipe(recipe, folder / "recipe.yaml")
    console.print(f"run folder {folder}, {recipe.device}, {recipe.precision}")
    began = time.monotonic()
    detector = pairs[0]
    if recipe.cache_images != "off":
        detector, lesson = kept_pairs(recipe, pairs, fabric, folder / IMAGES)
    job = Job(fabric, recipe, *detector, folder, resumed, stop, lesson, begins, own_data)
    metrics = run(job)
    if fabric.is_global_zero:
        shutil.rmtree(folder / IMAGES, ignore_errors=True)
        finish(job, metrics, time.monotonic() - began)
    return folder


def named_splits(recipe: Recipe, pairs: tuple[Pair, Pair]) -> dict[str, Split]:
    """What the run reads, by name."""
    found = dict(zip(("train", "val"), pairs[0], strict=True))
    return found | ({"pretrain train": pairs[1][0]} if recipe.pretrains and pairs[1] is not pairs[0] else {})


def refuse_nothing(recipe: Recipe, train: Split) -> None:
    """Refuse a run that would train neither a backbone nor a detector.

    Raises:
        UserError: it would.
    """
    if not recipe.pretrains and (recipe.pretrain_only or not has_boxes(train)):
        what = "--pretrain-only" if recipe.pretrain_only else f"the images of `{train.name}` have no boxes"
        mend = "give --cl-splits 1 or more to train a backbone" + ("" if recipe.pretrain_only else ", or add boxes")
        raise UserError(f"nothing to train: {what}, and no backbone is to be trained", where=recipe.data, mend=mend)


def has_boxes(train: Split) -> bool:
    """Whether a detector has something to learn from."""
    return train.description.boxed and any(record.asked.any() for record in train.records)


def kept_pairs(recipe: Recipe, pairs: tuple[Pair, Pair], fabric: Any, folder: Path) -> tuple[Pair, Pair]:
    """What the detector and what the backbone learns from, with pixels at hand: once where the data are the same."""
    detector = kept(pairs[0], fabric, recipe, folder)
    if not recipe.pretrains:
        return detector, detector
    backbone = detector if pairs[1] is pairs[0] else kept(pairs[1], fabric, recipe, folder / "pretrain")
    return detector, lessons(recipe, backbone)[0]


def read_resumed(folder: Path, recipe: Recipe, begins: Beginning | None, data: Identity) -> dict[str, Any]:
    """The checkpoint to go on from, or nothing where a run has none yet.

    Raises:
        UserError: it was made under another recipe; says which fields, and both values. Or it began with other weights,
            or other data.
    """
    last = folder / "weights" / "last.pt"
    if not last.exists():
        return {}
    resumed = checkpoint.load(last, "training")
    # Another number of processes goes on just as well, and so does another place of the same data.
    kept = {"devices": recipe.devices, "num_nodes": recipe.num_nodes, "data": recipe.data}
    made = build(Recipe, resumed["recipe"], last)
    kept["pretrain"] = made.pretrain.model_copy(update={"data": recipe.pretrain.data})
    made = made.model_copy(update=kept)
    refuse_differences(made, recipe, last, "restore recipe.yaml, or start a new run")
    if begins and begins.identity != resumed.get("init"):
        raise UserError("is not what the run began with", where=begins.path, mend="restore it, or start a new run")
    refuse_changed(data, resumed.get("data_identity", {}), last)
    return resumed


def why_no_detector(job: Job, taps: tuple[int, ...]) -> str | None:
    """The reason to stop after pre-training, if there is one."""
    if job.recipe.pretrain_only:
        return "--pretrain-only"
    if not taps and DETECTORS[job.recipe.detector].tapped:
        return f"{job.recipe.backbone} has no features at strides 8, 16 and 32"
    return None if has_boxes(job.train) else "the training images have no boxes"


def run(job: Job) -> dict[str, Any]:
    """Pre-train or load the backbone, train its baselines, then the detector; the figures on the validation split."""
    recipe = job.recipe
    seed_process(recipe.seed, 0)
    backbone, pretrained = fresh_backbone(job), recipe.weights
    taught: dict[str, Any] = {"pretrain": {}}
    if recipe.pretrains:
        pretrained = probe_beginning(job, backbone) if recipe.init_freeze else pretrain(job, backbone)
        train_baselines(job, backbone)
        taught = {"judged_by": judged_by(job.lesson.single_label), "pretrain": stage_figures(job)}
    if (reason := why_no_detector(job, backbone.taps)) is not None:
        console.print(f"no detector: {reason}")
        return taught
    seed_process(recipe.seed, DETECTOR_SEED)
    settings = Settings(len(job.names), recipe.imgsz)
    model = DETECTORS[recipe.detector].network(make_backbone(recipe.backbone, recipe.width), settings)
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe)
    elif job.begins is not None:
        begin_detector(model, job.begins.path, recipe, job.begins.content)
    return {**train_detector(job, model), **taught}


def stage_figures(job: Job) -> dict[str, list[dict[str, float]]]:
    """Validation figures at each cut of every backbone file of the run, by method."""
    found = (checkpoint.load(path, "backbone") for path in sorted(job.weights.glob("backbone_*.pt")))
    return {content["method"]: content["metrics"] for content in found}


def finish(job: Job, metrics: dict[str, Any], seconds: float) -> None:
    """Write metrics.json, which marks the run as finished, and say where things are."""
    told = {"split": "val", **job.train.description.told_levels, **metrics, "seconds": seconds}
    write_text(job.folder / FINISHED, json_text(told, 2))
    figures, file = f"finished in {seconds:.0f} s", job.weights / "best.pt"
    if "map" in metrics:
        known = metrics["map"] is not None
        shown = (
            f"val mAP {metrics['map']:.3f}, mAP50 {metrics['map50']:.3f}" if known else "`val` has no boxes to judge by"
        )
        console.print(f"{figures}: {shown}; {file}")
        return
    for method, stages in metrics["pretrain"].items():
        console.print(f"{method}: val accuracy " + " ".join(f"{stage['accuracy']:.3f}" for stage in stages))
    console.print(f"{figures}: {job.weights}/backbone_*.pt; figures with `python val.py --accuracy`")
