"""What cascade learning is compared with: the same network, head and schedule, trained end to end."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from evaluation.accuracy import PROBED
from evaluation.learnt import judged_by, verdict
from models.backbone import Backbone
from models.backbones import make_backbone
from models.cascade import Probes, Taps
from models.plan import SubModule, joined, make_plan
from training.cascade import (
    Stage,
    at_detector_size,
    classification_loss,
    fresh_head,
    judged,
    judges,
    predictions,
    run_stage,
    save_backbone,
    stage_macs,
)
from training.features import Feed, Feeder, FixedPass
from training.init import fresh_backbone
from training.job import Job
from training.logs import Logs
from utils import checkpoint
from utils.config import INIT, Baseline
from utils.console import console
from utils.seed import seed_process
from utils.stop import Stop
from utils.text import counted

# The first seed of each baseline: no stage and no other baseline has it.
NUMBERS: dict[Baseline, int] = {"e2e": 100, "e2e_compute": 200, "finetuned": 300, "probed": 400}
UNEQUAL = 0.05  # a fraction of the FLOPs by which whole epochs may miss those of the cascade before it is said


@dataclass(frozen=True)
class ProbeTask:
    """Training of a head at each of several cuts of a fixed network, all in one pass; none sees another."""

    name: str
    model: Probes
    cuts: tuple[int, ...]
    taps: FixedPass
    feed: Feed
    single_label: bool
    groups: np.ndarray
    border: float
    fabric: Any
    stop: Stop
    fitness: str = "fitness"

    def inputs(self, batch: Any) -> list[Tensor]:
        """Features at the cuts, or what is pooled of them."""
        found = self.feed.inputs(batch)
        return found if self.feed.cached else self.taps(found)  # type: ignore[no-any-return]

    def loss(self, outputs: list[Tensor], batch: Any) -> dict[str, Tensor]:
        """The classification loss of each head."""
        single = self.single_label
        return {
            f"b{cut}": classification_loss(logits, batch.present, single_label=single)
            for cut, logits in zip(self.cuts, outputs, strict=True)
        }

    def watch(self, outputs: list[Tensor], batch: Any) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """`b<cut>/<figure>` of each head; `fitness` is the mean over the heads of what a stage is judged by."""
        logits, present = predictions(self, model)
        figures = [judged(own, present, self) for own in logits]
        key = judged_by(self.single_label)
        found = {
            f"b{cut}/{name}": value for cut, own in zip(self.cuts, figures, strict=True) for name, value in own.items()
        }
        return found | {self.fitness: sum(own[key] for own in figures) / len(figures)}


def train_baselines(job: Job, cascade: Backbone) -> None:
    """Train what the recipe asks for beside the cascade; each leaves weights/backbone_<method>.pt.

    `e2e`: from weights of its own draw, or from those that the cascade was given, as many epochs as the longest stage.
    `e2e_compute`: as many as cost the arithmetic that the cascade took. `finetuned`: the cascaded network continues end
    to end, with its last head, as long as `e2e`. `probed`: each of the others and the cascade once more, with heads
    that were trained after everything else: heads of a cascade learn together with their stage, and the last one end to
    end together with the network. Two files of fresh heads differ in their features alone.

    Args:
        cascade: the backbone after cascade pre-training; fine-tuning changes it.
    """
    recipe = job.recipe
    plan = make_plan(cascade, recipe.cl_splits, job.view.imgsz, recipe.balance, batch=recipe.stage.batch_size)
    logs = Logs(job.folder, "pretrain.csv", job.services)
    for name in recipe.baselines:
        if name != "probed":
            train_baseline(job, cascade, name, plan, logs)
    if "probed" in recipe.baselines:
        probe_cascade(job, plan, logs)


def train_baseline(job: Job, cascade: Backbone, name: Baseline, plan: list[SubModule], logs: Logs) -> None:
    """Train one baseline with its own head, then, if the recipe says so, a head at each cut of the cascade."""
    recipe, whole = job.recipe, joined(plan)
    seed_process(recipe.seed, NUMBERS[name])
    finetuned = name == "finetuned"
    method = f"cl{recipe.cl_splits}_finetuned" if finetuned else name
    backbone = cascade if finetuned else fresh_backbone(job)
    head = fresh_head(job, whole)
    if finetuned:
        last = checkpoint.load(job.weights / f"backbone_cl{recipe.cl_splits}.pt", "backbone")
        head.load_state_dict(last["heads"][-1])
    epochs = recipe.longest if name != "e2e_compute" else equal_compute(job, plan)
    stage = Stage(method, method, NUMBERS[name], whole, recipe.stage.model_copy(update={"epochs": epochs}))
    figures = run_stage(job, backbone, stage, head, Feeder(job, backbone), logs)
    if name == "e2e_compute" and figures["epochs"] < epochs:
        console.print(f"{name}: stopped after {figures['epochs']:.0f} of {epochs} epochs, below the cascade's FLOPs")
    if recipe.baseline_heads == "last":
        save_backbone(job, method, backbone, [whole], [head.state_dict()], [figures])
        return
    probed = "probed" in recipe.baselines
    probes, metrics = run_probes(job, backbone, plan if probed else plan[:-1], method, logs)
    own = [*probes[: len(plan) - 1], head.state_dict()]
    save_backbone(job, method, backbone, plan, own, [*metrics[: len(plan) - 1], figures])
    if probed:
        save_backbone(job, method + PROBED, backbone, plan, probes, metrics)


def probe_cascade(job: Job, plan: list[SubModule], logs: Logs) -> None:
    """Write the cascade's file again with fresh heads at all of its cuts, trained on the fixed network."""
    method = f"cl{job.recipe.cl_splits}"
    path = job.weights / f"backbone_{method}.pt"
    backbone = make_backbone(job.recipe.backbone, job.recipe.width, job.channels)
    checkpoint.load_state(backbone, checkpoint.load(path, "backbone")["model"], path)
    save_backbone(job, method + PROBED, backbone, plan, *run_probes(job, backbone, plan, method, logs))


def probe_beginning(job: Job, backbone: Backbone) -> Path:
    """Train a head at each cut of a backbone whose weights are from elsewhere and stay; writes backbone_init.pt."""
    recipe = job.recipe
    plan = make_plan(backbone, recipe.cl_splits, job.view.imgsz, recipe.balance, batch=recipe.stage.batch_size)
    return save_backbone(
        job,
        INIT,
        backbone,
        plan,
        *run_probes(job, backbone, plan, INIT, Logs(job.folder, "pretrain.csv", job.services)),
    )


def equal_compute(job: Job, plan: list[SubModule]) -> int:
    """Epochs end to end that cost as many multiply-accumulates as the cascade did.

    A backward pass counts as two forward ones; what is computed again to save memory does not count. The blocks before
    a sub-module run forward in every epoch; where the stage read cached features, those since the last cached ones did
    so once for each view. Stages count the epochs that they took, early stopping or not.
    """
    recipe = job.recipe
    content = checkpoint.load(job.weights / f"backbone_cl{recipe.cl_splits}.pt", "backbone")
    total = before = kept = 0.0
    for part, figures in zip(plan, content["metrics"], strict=True):
        total += 3 * figures["epochs"] * stage_macs(job, part)
        if figures["cached"]:
            total += recipe.views * (before - kept)
            kept = before
        else:
            total += figures["epochs"] * before
        before += part.macs
    exact = total / (3 * stage_macs(job, joined(plan)))
    epochs = max(1, round(exact))
    doubt = "" if abs(epochs / exact - 1) <= UNEQUAL else ": not equal; more epochs a stage come closer"
    line = (
        f"e2e_compute: {counted(epochs, 'epochs')}, {epochs / exact:.2f} of the FLOPs of CL_{recipe.cl_splits}{doubt}"
    )
    console.print(line)
    return epochs


def run_probes(
    job: Job, backbone: Backbone, cuts: list[SubModule], method: str, logs: Logs
) -> tuple[list[dict[str, Tensor]], list[dict[str, float]]]:
    """Train a fresh head at each cut of a trained network, which stays as it is, or load them where that is done.

    They start alike and see the images in the same order, whatever the network.

    Returns:
        The heads' weights, and the figures of each.
    """
    if not cuts:
        return [], []
    seed_process(job.recipe.seed, NUMBERS["probed"])
    probes = Probes([fresh_head(job, part) for part in cuts])
    path, numbers = job.weights / f"{method}_probes.pt", tuple(part.stop for part in cuts)
    if path.exists():
        content = checkpoint.load(path, "stage")
        checkpoint.load_state(probes, content["model"], path)
        console.print(f"{method}: probes loaded from {path}")
        figures = content["metrics"]
    else:
        figures = fit_probes(job, backbone, probes, numbers, path.stem, logs)
        job.save(path, {"kind": "stage", "model": probes.state_dict(), "metrics": figures})
        job.fabric.barrier()
    return [probe.state_dict() for probe in probes.heads], [figures_at(cut, figures) for cut in numbers]


def fit_probes(
    job: Job, backbone: Backbone, probes: Probes, cuts: tuple[int, ...], name: str, logs: Logs
) -> dict[str, float]:
    """Train heads behind so many blocks each, all in one pass; says of each whether it learnt anything.

    Returns:
        `b<cut>/<figure>` of each head, and what they are judged by together.
    """
    seed, feeder = job.recipe.seed + NUMBERS["probed"], Feeder(job, backbone)
    feed, taps = (
        feeder.probes(name, cuts, list(probes.heads), seed),
        FixedPass(Taps(backbone, cuts), feeder.rows, job.fabric),
    )
    task = ProbeTask(name, probes, cuts, taps, feed, *judges(job), job.fabric, job.stop)
    # The heads share no weight: clipping their common gradient would let one of them slow the others down, and ending
    # with the first that is accurate would cut the others short.
    phase = job.recipe.stage.model_copy(update={"clip": float("inf"), "stop_accuracy": None})
    averaged, figures = job.fit(task, phase, feed.train, logs, seed=seed, split=job.pretrain_splits[0])
    probes.load_state_dict(averaged.state_dict())
    larger = at_detector_size(task, feeder, 0, drifting=False)
    feeder.close()
    logs.amend(name, larger)
    figures |= larger
    for cut in cuts:
        console.print(f"{name} b{cut}: {verdict(figures_at(cut, figures), task.single_label)}")
    return figures


def figures_at(cut: int, figures: dict[str, float]) -> dict[str, float]:
    """Those of the head behind so many blocks."""
    start = f"b{cut}/"
    return {name.removeprefix(start): value for name, value in figures.items() if name.startswith(start)}
