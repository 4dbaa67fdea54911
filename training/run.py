"""A training run from the data to its figures: pre-training, baselines, detector, on every rank alike."""

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from evaluation.learnt import judged_by, lesson_in
from models.backbones import make_backbone
from models.detectors import DETECTORS, Settings
from training.backbone import begin_detector, load_backbone, reuse_backbone
from training.baselines import probe_beginning, train_baselines
from training.cascade import pretrain
from training.check import check_processes, follows
from training.console_log import note_in
from training.detector import train_detector
from training.init import fresh_backbone
from training.inputs import NO_BOXES, Inputs, gather, has_boxes, read_resumed
from training.job import Job
from training.loggers import opened
from training.reading import CACHE, IMAGES, Pair, lessons, with_pixels
from training.segmenter import train_segmenter
from utils import checkpoint
from utils.claim import claimed
from utils.config import Recipe
from utils.console import console
from utils.errors import UserError
from utils.files import json_text, make_folder, remove_unfinished, write_text
from utils.recipes import save_recipe
from utils.runs import FINISHED, new_run
from utils.seed import seed_process
from utils.stop import Stop

DETECTOR_SEED = 1000  # no stage and no baseline has it
LOCK = "lock"  # in a run folder, as long as a process trains there


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
        folder: the run to continue with, or None for a new one.
        download: fetch the archives of the data set that are missing.
        accept_changed: continue though the data are not what the run began with.

    Returns:
        The run folder.

    Raises:
        UserError: the data, the weights or the run to continue with are not what the recipe asks for.
        Stopped: by a signal.
    """
    check_processes(recipe, fabric.world_size)
    found = gather(recipe, download=download, one_by_one=fabric.rank_zero_first(local=True))
    with ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(new_run(project, "train", name)) if fabric.is_global_zero else None
            own = fabric.broadcast(made)
        else:
            own = folder
        stack.enter_context(alone(fabric, own))
        data = {} if accept_changed else found.data_identity
        resumed = read_resumed(own, found, data) if folder else {}
        train_in(own, found, resumed, fabric, stop)
    return Path(own)


def clear_finished(folder: Path) -> None:
    """Remove what a process has left behind that was killed when its run was finished already."""
    if (folder / LOCK).exists():
        with claimed(folder / LOCK) as holder:
            if not holder:
                remove_unfinished(folder)


@contextmanager
def alone(fabric: Any, folder: Path) -> Iterator[None]:
    """Keep other processes off a run as long as it trains, and remove what a killed one has left half written.

    Raises:
        UserError: another process trains it; says which.
    """
    with ExitStack() as held:
        holder = held.enter_context(claimed(folder / LOCK)) if fabric.is_global_zero else ""
        if holder := fabric.broadcast(holder):
            raise UserError(f"{holder} trains this run", where=folder, hint="wait for it, or start another run")
        if fabric.is_global_zero:
            remove_unfinished(folder)
        yield


def train_in(folder: Path, found: Inputs, resumed: dict[str, Any], fabric: Any, stop: Stop) -> None:
    """Train with what was read; everything goes into the folder."""
    recipe, lesson, detector = found.recipe, found.lesson, found.pairs[0]
    if fabric.is_global_zero:
        make_folder(folder / "weights")
        save_recipe(recipe, folder / "recipe.yaml")
        note_in(folder)
    console.print(f"run folder {folder}, {recipe.device}, {recipe.precision}")
    began = time.monotonic()
    if recipe.cache_images != "off":
        detector, lesson = kept_pairs(recipe, found.pairs, fabric, folder / IMAGES)
    with opened(recipe, folder) as services:
        job = Job(
            fabric,
            recipe,
            *detector,
            folder,
            resumed,
            stop,
            lesson,
            begins=found.begins,
            data_identity=found.data_identity,
            reused=found.reused,
            learnt=found.learnt,
            services=services,
            began=began,
        )
        metrics = run(job)
    fabric.barrier()
    if fabric.local_rank == 0:
        shutil.rmtree(folder / CACHE, ignore_errors=True)
    if fabric.is_global_zero:
        finish(job, metrics)


def kept_pairs(recipe: Recipe, pairs: tuple[Pair, Pair], fabric: Any, folder: Path) -> tuple[Pair, Pair]:
    """What the detector and what the backbone learns from, with pixels at hand: once where the data are the same."""
    detector = with_pixels(pairs[0], fabric, recipe, folder)
    if not recipe.pretrains:
        return detector, detector
    backbone = detector if pairs[1] is pairs[0] else with_pixels(pairs[1], fabric, recipe, folder / "pretrain")
    return detector, lessons(recipe, backbone)[0]


def why_no_detector(job: Job, taps: tuple[int, ...]) -> str | None:
    """The reason to stop after pre-training, if there is one."""
    if job.recipe.pretrain_only:
        return "--pretrain-only"
    if follows(job.recipe, taps) is None:
        return f"{job.recipe.backbone} has no features at strides 8, 16 and 32"
    return None if has_boxes(job.train) else NO_BOXES


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
    given = load_backbone(pretrained, recipe) if pretrained else job.begins.content if job.begins else {}
    if lesson := lesson_in(given, recipe.reuse_upto):
        taught["lesson"] = lesson
    if follows(recipe) == "segmenter":
        seed_process(recipe.seed, DETECTOR_SEED)
        return {**train_segmenter(job, pretrained, lesson), **taught}
    if (reason := why_no_detector(job, backbone.taps)) is not None:
        console.print(f"no detector: {reason}")
        return taught
    seed_process(recipe.seed, DETECTOR_SEED)
    settings = Settings(len(job.names), recipe.imgsz)
    model = DETECTORS[recipe.detector].network(make_backbone(recipe.backbone, recipe.width, job.channels), settings)
    if pretrained is not None:
        reuse_backbone(model.backbone, pretrained, recipe, given)
    elif job.begins is not None:
        begin_detector(model, job.begins.path, recipe, job.begins.content, job.names)
    return {**train_detector(job, model, lesson), **taught}


def stage_figures(job: Job) -> dict[str, list[dict[str, float]]]:
    """Validation figures at each cut of every backbone file of the run, by method."""
    found = (checkpoint.load(path, "backbone") for path in sorted(job.weights.glob("backbone_*.pt")))
    return {content["method"]: content["metrics"] for content in found}


def finish(job: Job, metrics: dict[str, Any]) -> None:
    """Write metrics.json, which marks the run as finished, and say where things are.

    What a run continues from is of no use any more, unless it is the detector or segmenter as it ended.
    """
    seconds = job.seconds
    summary = {"split": "val", **job.train.description.levels_entry, **metrics, **job.reused_entry, "seconds": seconds}
    if "map" not in metrics and metrics.get("task") != "segment":
        job.last.unlink(missing_ok=True)
    write_text(job.folder / FINISHED, json_text(summary, 2))
    figures, file = f"finished in {seconds:.0f} s", job.weights / "best.pt"
    if "map" in metrics:
        known = metrics["map"] is not None
        shown = (
            f"val mAP {metrics['map']:.3f}, mAP50 {metrics['map50']:.3f}" if known else "`val` has no boxes to judge by"
        )
        console.print(f"{figures}: {shown}; {file}")
        return
    if metrics.get("task") == "segment":
        shown = f"val mean IoU {metrics['miou']:.3f}, pixel accuracy {metrics['accuracy']:.3f}"
        console.print(f"{figures}: {shown}; {file}")
        return
    for method, stages in metrics["pretrain"].items():
        console.print(f"{method}: val accuracy " + " ".join(f"{stage['accuracy']:.3f}" for stage in stages))
    console.print(f"{figures}: {job.weights}/backbone_*.pt; figures with `python val.py --accuracy`")
