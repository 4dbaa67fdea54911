"""Cost of cascade pre-training over that of the same network end to end, in one run. Prints JSON lines.

`python -m benchmarks.cascade`: full-width DarkNet-53 on scenes of the built-in kind, each measurement in a process
of its own. Time and memory are measured apart: many small images for the one, few large ones for the other.
"""

import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import torch

from benchmarks.figures import show
from benchmarks.workload import write_scenes
from data.description import load_description
from data.formats import read_split
from models.backbones import make_backbone
from models.plan import SubModule, block_costs, joined, make_plan, training_bytes
from training.cascade import pretrain
from training.fabric import make_fabric, settle
from training.job import Job
from utils.config import ROOT, Recipe
from utils.console import console
from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.stop import Stop

# No augmentation, so that the features can be cached; a head without convolution, which costs nothing to speak of.
BASE = {
    "pretrain": {"source": "pictures", "crop": 1, "head_convs": 0},
    "augment": {"fliplr": 0, "photometric": 0},
    "workers": 0,
}
TIME_TARGET, LOST_TARGET = 1.15, 1.05
Measured = dict[str, float]


def measure(data: Path, changes: dict[str, Any], results: Any) -> None:
    """Pre-train in this process; puts the seconds, and the bytes at the peak above the process before training."""
    console.quiet = True  # standard output is for the figures
    values = {**BASE, "data": data, **changes}
    values["pretrain"] = BASE["pretrain"] | changes.get("pretrain", {})
    recipe = settle(Recipe.model_validate(values))
    description = load_description(data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "weights").mkdir()
        splits = read_split(description, "train"), read_split(description, "val")
        job = Job(make_fabric(recipe), recipe, *splits, Path(folder), {}, Stop(), splits)
        idle, began = psutil.Process().memory_info().rss, time.monotonic()
        pretrain(job, make_backbone(recipe.backbone, recipe.width))
        seconds = time.monotonic() - began
    if recipe.device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - idle
    results.put({"seconds": seconds, "peak": peak})


def measured(data: Path, **changes: Any) -> Measured:
    """`measure` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=measure, args=(data, changes, results))
    process.start()
    found: Measured = results.get()
    process.join()
    return found


def line(figure: str, value: float, target: float, floor: float, **more: Any) -> None:
    """Print one figure, at most its target."""
    against = "CL_1, the same network end to end"
    show(figure, value, target, against, least=False, floor=round(floor, 3), **more)


def time_figures(data: Path, splits: list[int], imgsz: int, batch: int, epochs: int, width: float) -> None:
    """Wall time of CL_k over E2E, equal epochs a stage, with caching, validation and checkpoints."""
    changes = {"width": width, "imgsz": imgsz, "pretrain": {"epochs": epochs, "batch_size": batch, "val_every": epochs}}
    first = measured(data, cl_splits=1, **changes)["seconds"]
    cascades = [measured(data, cl_splits=k, **changes)["seconds"] for k in splits]
    whole = (first + measured(data, cl_splits=1, **changes)["seconds"]) / 2  # a machine's speed drifts
    backbone = make_backbone("darknet53", width)
    for k, own in zip(splits, cascades, strict=True):
        plan = make_plan(backbone, k, imgsz)
        # Beside as much training as end to end, all blocks but the last sub-module's run forward once.
        floor = 1 + (1 - plan[-1].macs / sum(part.macs for part in plan)) / (3 * epochs)
        at = f"{imgsz} px, batch {batch}, {epochs} epochs a stage"
        line(f"wall time of CL_{k} with cache over E2E, {at}", own / whole, TIME_TARGET, floor, seconds=round(own, 1),
             end_to_end=[round(first, 1), round(2 * whole - first, 1)], width=width)  # fmt: skip


def memory_figures(data: Path, imgsz: int, batch: int, width: float) -> None:
    """Peak of the worst stage over E2E: resident bytes above the idle process, or the allocator's on a GPU.

    Where memory is to be saved, a process on a CPU returns what it frees, and so does the E2E that it is compared with.
    """
    changes = {"imgsz": imgsz, "precision": "fp32", "pretrain": {"epochs": 1, "batch_size": batch}, "cache": "disk"}
    changes["width"] = width
    backbone = make_backbone("darknet53", width)
    whole = {own: measured(data, cl_splits=1, balance=own, **changes)["peak"] for own in ("stage", "memory")}
    cases: list[tuple[str, float, dict[str, Any]]] = [
        ("CL_3", 0.87, {"cl_splits": 3}),
        ("CL_7", 0.45, {"cl_splits": 7}),
        ("CL_23", 0.45, {"cl_splits": 23}),
        ("CL_3, balance memory", 0.45, {"cl_splits": 3, "balance": "memory"}),
        ("CL_7, first sub-module recomputed", 0.25, {"cl_splits": 7, "recompute": True}),
    ]
    for name, target, own in cases:
        peak = measured(data, **own, **changes)["peak"]
        end_to_end = whole["memory" if own.keys() & {"balance", "recompute"} else "stage"]
        plan = make_plan(backbone, own["cl_splits"], imgsz, own.get("balance", "stage"), batch=batch)
        whole_costs = joined(block_costs(backbone, imgsz))
        if "recompute" in own:
            plan = [replace(plan[0], activations=round(32 * width) * imgsz**2), *plan[1:]]
        activations, floor = memory_floors(plan, whole_costs, batch)
        at, gib = f"{imgsz} px, batch {batch}, fp32", round(peak / 2**30, 2)
        line(f"peak memory of {name} over E2E, {at}", peak / end_to_end, target, floor, activations=activations,
             gib=gib, width=width)  # fmt: skip


def memory_floors(plan: list[SubModule], whole: SubModule, batch: int) -> tuple[float, float]:
    """The worst sub-module over the whole network: by activations alone, and with what its weights need.

    The weights themselves are there in either case. Recomputed, the first sub-module holds at least what its largest
    convolution, the stem's, puts out.
    """
    weights = 4 * whole.parameters
    worst = max(training_bytes(part, batch) for part in plan)
    activations = max(part.activations for part in plan) / whole.activations
    return round(activations, 3), (weights + worst) / (weights + training_bytes(whole, batch))


def resume_figure(data: Path, folder: Path, kills: int, after: float, epochs: int, width: float) -> None:
    """Time lost to SIGKILL and --resume over the time since the last save; processes, start-up and all."""
    flags = ["--data", data, "--project", folder, "--cl-splits", 1, "--imgsz", 96, "--pretrain-only", "--width", width]
    flags += ["--epochs", epochs]
    flags += ["--pretrain-crop", 1, "--augment-fliplr", 0, "--augment-photometric", 0, "--pretrain-head-convs", 0]
    start = [sys.executable, "train.py", *map(str, flags)]
    whole = timed([*start, "--name", "whole"])
    last, command = folder / "train" / "cut" / "weights" / "last.pt", [*start, "--name", "cut"]
    began, since = time.time(), 0.0
    for _ in range(kills):
        since += killed(command, last, after)
        command = [sys.executable, "train.py", "--resume", str(folder / "train" / "cut")]
    timed(command)
    lost = time.time() - began - whole
    begin = statistics.median(timed([*start[:6], "--dry-run"]) for _ in range(3))
    line("time lost to a kill and resume over the time since the last save", lost / since, LOST_TARGET,
         1 + kills * begin / since, kills=kills, lost=round(lost, 1), since_save=round(since, 1),
         start_up=round(begin, 1))  # fmt: skip


def timed(command: list[str]) -> float:
    """Seconds that a process takes."""
    began = time.time()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.time() - began


def killed(command: list[str], last: Path, after: float) -> float:
    """Start a process and kill it so many seconds after it wrote a checkpoint; returns the time since then.

    Raises:
        UserError: it ended before.
    """
    process, began = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL), time.time()
    while not last.exists() or last.stat().st_mtime < began or time.time() - last.stat().st_mtime < after:
        if process.poll() is not None:
            hint = "give more --resume-epochs, or less --after"
            raise UserError(f"it ended before it was killed, with code {process.returncode}", where=last, hint=hint)
        time.sleep(0.1)
    saved = last.stat().st_mtime
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return time.time() - saved


def main() -> None:
    """Make the scenes, measure, print."""
    parser = Parser(description="Time and memory of cascade pre-training over end to end.")
    parser.add_argument("--only", choices=("time", "memory", "resume"), help="one group of figures [all]")
    parser.add_argument("--splits", type=int, nargs="+", default=[3, 7, 23], help="k of the timed CL_k [3 7 23]")
    parser.add_argument("--images", type=int, default=256, help="training images of the timed runs [256]")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of a timed stage [6]")
    parser.add_argument("--imgsz", type=int, default=96, help="side of the timed images [96]")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--memory-batches", type=int, nargs="+", default=[16, 32], help="as memory is for [16 32]")
    parser.add_argument("--memory-imgsz", type=int, default=256, help="side of the images that memory is for [256]")
    parser.add_argument("--width", type=float, default=1.0, help="factor on all channel counts [1]")
    parser.add_argument("--kills", type=int, default=3, help="kills of the resumed run [3]")
    parser.add_argument("--after", type=float, default=50, help="seconds from a save to a kill [50]")
    parser.add_argument("--resume-epochs", type=int, default=32, help="epochs of the resumed run [32]")
    given = parser.parse_args()
    batch, width = given.batch_size, given.width
    with tempfile.TemporaryDirectory() as folder:
        many = write_scenes(Path(folder) / "many", given.images, batch, 1)
        few = write_scenes(Path(folder) / "few", 2 * max(given.memory_batches), batch, 1)
        if given.only in (None, "time"):
            time_figures(many, given.splits, given.imgsz, batch, given.epochs, width)
        if given.only in (None, "memory"):
            for images in given.memory_batches:
                memory_figures(few, given.memory_imgsz, images, width)
        if given.only in (None, "resume"):
            resume_figure(many, Path(folder), given.kills, given.after, given.resume_epochs, width)


if __name__ == "__main__":
    run_cli(main)
