"""How long a study will take on this machine: a few training steps are timed, the rest is arithmetic."""

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data.views import View, settled
from models.backbone import Backbone
from models.backbones import make_backbone
from models.detectors import DETECTORS, Settings
from models.fcn import FCN, FCNS
from models.heads import make_head
from models.plan import SubModule, joined, make_plan
from models.yolov3 import scaled_anchors
from studies.recipe import Cell, Study
from studies.runs import State, lacking, state
from training.check import follows
from training.fabric import make_fabric, settle
from training.features import kept_pools
from training.reading import Pair, lessons, parted, read_pair
from utils.boxes import Truth
from utils.config import Baseline, Recipe
from utils.device import keep_memory

HOUR = 3600
START = 30  # seconds that a run spends on starting, reading and judging
CLASSES, BOXES = 20, 4  # of the step that is timed
STEPS, LONG = 6, 4  # how many are timed, if they take less than so many seconds: others' work makes some of them long


def plan_table(study: Study, cells: list[Cell]) -> str:
    """A line a run: how far it is and the hours it takes; their sum over what is left to train.

    Runs whose weights others need are trained first, where they are neither here nor asked for.
    """
    open_ones = [cell for cell in cells if state(study, cell) not in (State.DONE, State.TRAINED)]
    needed = {own.name: own for cell in open_ones if (own := lacking(study, cell)) and own not in open_ones}
    lines, left = [], 0.0
    for cell in [*needed.values(), *(cell for cell in cells if cell.name not in needed)]:
        now, hours = state(study, cell), seconds_of(cell.recipe) / HOUR
        left += hours if cell in open_ones or cell.name in needed else 0
        again = ", its weights are not here" if cell.name in needed and now is State.DONE else ""
        lines.append(f"{cell.name:<32} {now:<12} {hours:6.2f} h{again}")
    return "\n".join([*lines, f"{len(lines)} runs, about {left:.1f} hours left on this machine, reports not counted"])


def seconds_of(recipe: Recipe) -> float:
    """A run from its first to its last epoch."""
    backbone, seconds = make_backbone(recipe.backbone, recipe.width), float(START)
    if kind := follows(recipe, backbone.taps):
        step = timed(
            recipe, recipe.imgsz, recipe.train.batch_size, recipe.fcn if kind == "segmenter" else recipe.detector
        )
        seconds += len(pair_of(recipe.data)[0].records) * recipe.train.epochs * step
    if recipe.pretrains:
        recipe, pictures = settled_on_data(recipe)
        imgsz = View.of(recipe.stage).imgsz
        batch = recipe.stage.batch_size
        plan = make_plan(backbone, recipe.cl_splits, imgsz, recipe.balance, batch=batch)
        step = timed(recipe, imgsz, batch)
        seconds += pictures * step * pretraining_macs(recipe, plan) / (3 * joined(plan).macs)
    return seconds


@cache
def pair_of(data: Path) -> Pair:
    """Training and validation split of a data set."""
    return read_pair(data, Recipe(), download=False)


def settled_on_data(recipe: Recipe) -> tuple[Recipe, int]:
    """The recipe with the source of pre-training that suits its data, and how many pictures that gives."""
    pair = pair_of(recipe.pretrain.data or recipe.data)
    recipe, _ = settled(recipe, parted(recipe, pair))
    (train, _), _ = lessons(recipe, pair)
    return recipe, len(train.records)


def timed(recipe: Recipe, imgsz: int, batch: int, trained: str | None = None) -> float:
    """Seconds of a training step on one image of its batch; of the backbone alone where nothing on it is named."""
    step = partial(step_seconds, recipe.backbone, recipe.width, recipe.device, recipe.precision)
    return step(imgsz, batch, trained) / batch


def pretraining_macs(recipe: Recipe, plan: list[SubModule]) -> float:
    """Multiply-accumulates on one image of all stages, baselines and the heads that are put on them afterwards.

    A backward pass counts as two forward ones. Heads cost next to nothing beside the network in front of them.
    """
    epochs, before, last, total = recipe.stage.epochs or 0, 0, 0, 0.0
    passes = 1 if reads_pooled(recipe, plan[-1]) else epochs
    if recipe.init_freeze:
        return float(passes * joined(plan).macs)
    for number, part in enumerate(plan):
        own = epochs + number * recipe.stage.epochs_step
        total += 3 * own * part.macs + (recipe.views * last if recipe.caches else own * before)
        before, last = before + part.macs, part.macs
    cascade = total
    longest = 3 * before * (epochs + (len(plan) - 1) * recipe.stage.epochs_step)
    extra: dict[Baseline, float] = {"e2e": longest, "e2e_compute": cascade, "finetuned": longest}
    baselines = sum(extra.get(name, 0.0) for name in recipe.baselines)
    return cascade + baselines + passes * probed_macs(recipe, before, before - last)


def reads_pooled(recipe: Recipe, part: SubModule) -> bool:
    """Whether heads on a fixed network read pooled features from a cache."""
    head = make_head(recipe.stage.head, part.shape, CLASSES, convs=recipe.stage.head_convs)
    return bool(kept_pools(recipe, [head]))


def probed_macs(recipe: Recipe, whole: int, inner: int) -> int:
    """Multiply-accumulates on one image of an epoch of all heads on fixed networks.

    Args:
        whole, inner: of a forward pass through all sub-modules, and through all but the last one.
    """
    others = [name for name in recipe.baselines if name != "probed"]
    if "probed" in recipe.baselines:
        return whole * (len(others) + 1)  # the cascade's too
    return inner * len(others) if recipe.baseline_heads == "all" else 0


@cache
def step_seconds(
    name: str, width: float, device: str, precision: str, imgsz: int, batch: int, trained: str | None
) -> float:
    """The shortest of some training steps of a detector or a segmenter, or of the backbone alone, after a first one."""
    keep_memory()
    fabric = make_fabric(settle(Recipe.model_validate({"device": device, "precision": precision})))
    made, loss = network_and_loss(make_backbone(name, width), trained, imgsz, batch)
    model = fabric.to_device(made.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
    images = fabric.to_device(torch.rand(batch, 3, imgsz, imgsz))
    taken: list[float] = []
    while len(taken) < 2 or (len(taken) < STEPS and sum(taken) < LONG):
        began = time.perf_counter()
        with fabric.autocast():
            found = model(images)
        loss(found).backward()
        taken.append(time.perf_counter() - began)
    return min(taken[1:])


def network_and_loss(
    backbone: Backbone, trained: str | None, imgsz: int, batch: int
) -> tuple[nn.Module, Callable[[Any], Tensor]]:
    """What is trained, a detector or a segmenter by name, and a loss like its own; of a backbone alone the mean."""
    if trained is None:
        return nn.Sequential(*backbone.blocks), torch.mean
    if trained not in DETECTORS:
        return FCN(backbone, CLASSES + 1, FCNS.choose(trained)), torch.mean
    settings = Settings(CLASSES, imgsz, tuple(scaled_anchors(imgsz)))
    return DETECTORS[trained].network(backbone, settings), detection_loss(trained, settings, batch)


def detection_loss(detector: str, settings: Settings, batch: int) -> Callable[[Any], Tensor]:
    """The detector's loss against boxes drawn at random."""
    entry = DETECTORS[detector]
    criterion = entry.criterion(entry.decoder(settings), settings)
    corners = torch.rand(BOXES * batch, 2) * settings.imgsz / 2
    sample = torch.arange(batch).repeat(BOXES)
    truth = Truth(torch.cat([corners, corners + settings.imgsz / 4], 1), torch.zeros_like(sample), sample)
    return lambda found: torch.stack(list(criterion(found, truth).values())).sum()
