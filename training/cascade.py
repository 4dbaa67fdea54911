"""Cascade pre-training: one stage after another, each with a fresh head and a fresh optimiser."""

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from evaluation.learnt import figures, groups_of, judged_by, verdict
from models.auxiliary import auxiliary_heads
from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.cascade import StageNet
from models.heads import make_head
from models.plan import SubModule, head_macs, make_plan, shapes_at
from training.backbone import block_number
from training.features import Feed, Feeder
from training.job import Job
from training.logs import Logs
from training.ranks import agree, interleaved
from utils import checkpoint
from utils.config import Pretrain
from utils.console import console, progress
from utils.device import keep_memory, return_memory
from utils.errors import Stopped, UserError
from utils.seed import seed_process
from utils.stop import Stop

Metrics = dict[str, float]


def classification_loss(logits: Tensor, present: Tensor, *, single_label: bool) -> Tensor:
    """Cross-entropy with the one class of each image, or binary cross-entropy, mean over images and classes."""
    if single_label:
        return cross_entropy(logits, present.argmax(1))
    return binary_cross_entropy_with_logits(logits, present)


@dataclass(frozen=True)
class StageTask:
    """Training of a sub-module, or of the whole network, as a classifier.

    Attributes:
        single_label, groups, border: what its figures depend on beside its answers.
        auxiliary: weight of the losses of classifiers inside the network.
    """

    name: str
    model: StageNet
    feed: Feed
    single_label: bool
    groups: np.ndarray
    border: float
    fabric: Any
    stop: Stop
    auxiliary: float = 0.0

    @property
    def fitness(self) -> str:
        """The figure that decides whether anything was learnt."""
        return judged_by(self.single_label)

    def inputs(self, batch: Any) -> Tensor:
        """Images, or the features in front of the sub-module."""
        found: Tensor = self.feed.inputs(batch)
        return found

    def loss(self, outputs: Tensor | tuple[Tensor, ...], batch: Any) -> dict[str, Tensor]:
        """The classification loss, and that of auxiliary classifiers, weighted."""
        first, *others = [outputs] if isinstance(outputs, Tensor) else outputs
        loss = partial(classification_loss, present=batch.present, single_label=self.single_label)
        beside = {"auxiliary": self.auxiliary * torch.stack(list(map(loss, others))).sum()} if others else {}
        return {"loss": loss(first), **beside}

    def watch(self, outputs: Tensor | tuple[Tensor, ...], batch: Any) -> dict[str, Tensor]:
        """Fraction of images with a class among theirs scored best."""
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        return {"accuracy": batch.present.gather(1, logits.argmax(1, keepdim=True)).mean()}

    def evaluate(self, model: nn.Module) -> Metrics:
        """Figures of evaluation.learnt, and the loss, on the validation images."""
        (logits,), present = predictions(self, model)
        return judged(logits, present, self)


@torch.no_grad()
def predictions(task: Any, model: nn.Module) -> tuple[list[Tensor], Tensor]:
    """Logits [N, classes] of each head of a model on all validation images of a task's feed, and their classes.

    Raises:
        Stopped: a signal came, here or on another rank.
    """
    model.eval()
    own: list[tuple[Any, ...]] = []
    for batch in progress(task.feed.val, f"{task.name} validation", len(task.feed.val)):
        if task.stop.asked:
            break
        batch = task.fabric.to_device(batch)
        with task.fabric.autocast():
            outputs = model(task.inputs(batch))
        heads = [outputs] if isinstance(outputs, Tensor) else outputs
        own += zip(*(part.float().cpu().numpy() for part in [*heads, batch.present]), strict=True)
    if number := agree(task.fabric, task.stop.asked):
        raise Stopped(number)
    *logits, present = (
        torch.stack([torch.from_numpy(row) for row in rows])
        for rows in zip(*interleaved(task.fabric, own), strict=True)
    )
    return logits, present


def judged(logits: Tensor, present: Tensor, task: Any) -> Metrics:
    """The figures of one head of a task, and its loss.

    Raises:
        UserError: the logits are not finite.
    """
    if not logits.isfinite().all():
        raise UserError("gives scores that are not finite", where=task.name, hint="give a lower --pretrain-lr")
    single = task.single_label
    loss = classification_loss(logits, present, single_label=single).item()
    return figures(logits.numpy(), present.numpy(), single, task.groups, task.border) | {"loss": loss}


@dataclass(frozen=True)
class Stage:
    """One thing to train for classification, with everything that decides the outcome.

    Attributes:
        name: of its rows; `key` of its file, weights/<key>.pt.
        number: from 1; the seed of the stage's head, order and augmentation counts on from it.
    """

    name: str
    key: str
    number: int
    part: SubModule
    phase: Pretrain


def pretrain(job: Job, backbone: Backbone) -> Path:
    """Train the backbone in place, stage by stage; stages that the run already holds are loaded.

    Returns:
        weights/backbone_cl<k>.pt of the run: the blocks, the head and the figures of each stage.
    """
    recipe, phase = job.recipe, job.recipe.stage
    if recipe.device == "cpu" and recipe.balance != "memory" and not recipe.recompute:
        keep_memory()
    k = recipe.cl_splits
    plan = make_plan(backbone, k, job.view.imgsz, recipe.balance, batch=phase.batch_size)
    feeder, logs = Feeder(job, backbone), Logs(job.folder, "pretrain.csv", job.services)
    heads, metrics = [], []
    for number, part in enumerate(plan, start=1):
        epochs = (phase.epochs or 0) + phase.epochs_step * (number - 1)
        stage = Stage(
            f"stage{number}", f"cl{k}_stage{number}", number, part, phase.model_copy(update={"epochs": epochs})
        )
        seed_process(recipe.seed, number)
        head = fresh_head(job, part)
        metrics.append(run_stage(job, backbone, stage, head, feeder, logs))
        heads.append(head.state_dict())
    feeder.close()
    return save_backbone(job, f"cl{k}", backbone, plan, heads, metrics)


def fresh_head(job: Job, part: SubModule) -> nn.Module:
    """The recipe's head for a sub-module's output."""
    phase = job.recipe.stage
    return make_head(phase.head, part.shape, len(job.lesson.names), convs=phase.head_convs)


def fresh_auxiliary(job: Job, backbone: Backbone, part: SubModule) -> nn.ModuleDict | None:
    """Auxiliary classifiers inside a sub-module; None where the recipe asks for none, or there is no place for one."""
    recipe = job.recipe
    inside = [block for block in BACKBONES.pick(recipe.backbone).auxiliary if part.start < block < part.stop]
    if not (recipe.pretrain.auxiliary and inside):
        return None
    side = job.view.imgsz
    shapes = shapes_at(backbone, (side, side))
    return auxiliary_heads({block: shapes[block - 1] for block in inside}, len(job.lesson.names))


def stage_macs(job: Job, part: SubModule) -> int:
    """Multiply-accumulates on one image of a sub-module with all classifiers that learn with it."""
    own = part.macs + head_macs(fresh_head(job, part), part.shape)
    if not job.recipe.pretrain.auxiliary:
        return own
    with torch.device("meta"):
        backbone = make_backbone(job.recipe.backbone, job.recipe.width)
        heads = fresh_auxiliary(job, backbone, part) or nn.ModuleDict()
    shapes = shapes_at(backbone, (job.view.imgsz, job.view.imgsz))
    return own + sum(head_macs(head, shapes[int(block) - 1]) for block, head in heads.items())


def run_stage(job: Job, backbone: Backbone, stage: Stage, head: nn.Module, feeder: Feeder, logs: Logs) -> Metrics:
    """Train one stage, or load it where it is finished; backbone and head take the averaged weights.

    Returns:
        The head's figures; among them the number of epochs, and `cached`, 1 where it read cached features.
    """
    recipe, phase, part = job.recipe, stage.phase, stage.part
    drifting = phase.bn_mode == "author"
    net = StageNet(
        backbone,
        part.start,
        part.stop,
        head,
        drifting=drifting,
        recompute=recipe.recompute and part.start == 0,
        auxiliary=fresh_auxiliary(job, backbone, part),
    )
    path = job.weights / f"{stage.key}.pt"
    if path.exists():
        content = checkpoint.load(path, "stage")
        checkpoint.load_state(net, content["model"], path)
        console.print(f"{stage.name}: loaded from {path}")
        return content["metrics"]
    seed = recipe.seed + stage.number
    return_memory()
    feed = feeder.stage(part, seed, drifting=drifting)
    task = StageTask(stage.name, net, feed, *judges(job), job.fabric, job.stop, recipe.pretrain.auxiliary)
    hold = begun(job, backbone, part)
    averaged, metrics = job.fit(task, phase, feed.train, logs, seed=seed, split=job.pretrain_splits[0], hold=hold)
    net.load_state_dict(averaged.state_dict())
    metrics |= at_detector_size(task, feeder, part.start, drifting=drifting)
    logs.amend(stage.name, metrics)
    console.print(f"{stage.name}: {verdict(metrics, task.single_label)}")
    metrics["cached"] = float(feed.cached)
    job.save(path, {"kind": "stage", "model": net.state_dict(), "metrics": metrics})
    job.fabric.barrier()
    return metrics


def judges(job: Job) -> tuple[bool, np.ndarray, float]:
    """What a classifier's figures depend on beside its answers: see evaluation.learnt.figures."""
    judged_on = job.pretrain_splits[1]
    return job.lesson.single_label, groups_of(judged_on.records), job.view.border(judged_on)


def begun(job: Job, backbone: Backbone, part: SubModule) -> list[nn.Module]:
    """The blocks of a sub-module that the run has given weights from elsewhere."""
    names = job.begins.content["model"] if job.begins else ()
    given = {block_number(name) for name in names}
    return [backbone.blocks[number - 1] for number in range(part.start + 1, part.stop + 1) if number in given]


def at_detector_size(task: Any, feeder: Feeder, start: int, *, drifting: bool) -> Metrics:
    """`accuracy` and `auc` of each head of a task with @ and the detector's side behind them.

    Nothing where a head cannot be asked at another size.
    """
    feed = feeder.at_detector_size(0 if drifting else start)
    if feed is None:
        return {}
    found: Metrics = replace(task, feed=feed).evaluate(task.model)
    shown = {name: value for name, value in found.items() if name.rpartition("/")[2] in ("accuracy", "auc")}
    return {f"{name}@{feeder.job.recipe.imgsz}": value for name, value in shown.items()}


def save_backbone(
    job: Job,
    method: str,
    backbone: Backbone,
    plan: list[SubModule],
    heads: list[dict[str, Tensor]],
    metrics: list[Metrics],
) -> Path:
    """Write weights/backbone_<method>.pt: the blocks, and at each cut of the plan a head and its figures."""
    recipe, phase = job.recipe, job.recipe.stage
    path = job.weights / f"backbone_{method}.pt"
    content = {
        "method": method,
        "splits": [[part.start, part.stop] for part in plan],
        "heads": heads,
        "head": {"name": phase.head, "convs": phase.head_convs},
        "shapes": [list(part.shape) for part in plan],
        "names": job.lesson.names,
        **job.lesson.levels_entry,
        "single_label": job.lesson.single_label,
        "view": asdict(job.view),
        "detector_imgsz": recipe.imgsz,
        "metrics": [{**own, "cut": float(part.stop)} for own, part in zip(metrics, plan, strict=True)],
    }
    job.save(path, {"kind": "backbone", **content, "model": backbone.state_dict()})
    job.fabric.barrier()
    return path
