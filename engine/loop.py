"""The one training loop: for a cascade stage and for the detector alike."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from data.loader import Batch, EpochSampler
from engine.logs import Logs, progress
from utils.config import Phase
from utils.errors import UserError

SAVE_EVERY_S = 60  # a resumable checkpoint of a large network takes seconds: not after every short epoch


class Task(Protocol):
    """What is trained: a network, its loss and its measure."""

    @property
    def name(self) -> str:
        """Short name, the key of its rows and of its checkpoints."""

    @property
    def model(self) -> nn.Module:
        """The network."""

    @property
    def fitness(self) -> str:
        """Name of the figure that tells the best epoch."""

    def loss(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Named terms whose sum is minimised."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the validation split; `fitness` is among them, higher is better."""


@dataclass
class Progress:
    """Where a task stands: epochs done, best fitness, and the state to go on from."""

    epoch: int = 0
    best: float = -math.inf
    state: dict[str, Any] = field(default_factory=dict)


@dataclass
class Hooks:
    """What the caller does with the states and networks that the loop hands over."""

    save: Callable[[dict[str, Any]], None]
    improved: Callable[[nn.Module, dict[str, float]], None] = lambda model, metrics: None


def fit(
    fabric: Any,
    task: Task,
    phase: Phase,
    epochs: int,
    loader: DataLoader[Batch],
    logs: Logs,
    hooks: Hooks,
    start: Progress,
) -> nn.Module:
    """Train to the end and return the network with averaged weights, in evaluation mode.

    Raises:
        UserError: the loss is not finite; says where.
    """
    optimizer = make_optimizer(task.model, phase)
    average = make_average(task.model, phase.ema_decay)
    model, optimizer = fabric.setup(task.model.to(memory_format=torch.channels_last), optimizer)
    average.to(fabric.device)
    restore(start, task, average, optimizer, fabric)
    logs.table.forget(task.name, start.epoch)
    steps, saved = epochs * len(loader), time.monotonic()
    progressed = Progress(start.epoch, start.best)
    for epoch in range(start.epoch, epochs):
        values = run_epoch(fabric, task, model, optimizer, average, phase, loader, epoch, steps)
        if (epoch + 1) % phase.val_every == 0 or epoch + 1 == epochs:
            metrics = task.evaluate(average.module)
            values |= {f"val/{name}": value for name, value in metrics.items()}
            if metrics[task.fitness] > progressed.best:
                progressed.best = metrics[task.fitness]
                hooks.improved(average.module, metrics)
        logs.epoch(task.name, epoch, epochs, values)
        progressed.epoch = epoch + 1
        if time.monotonic() - saved > SAVE_EVERY_S:
            hooks.save(snapshot(progressed, task, average, optimizer, fabric))
            saved = time.monotonic()
    return average.module.eval()


def run_epoch(
    fabric: Any,
    task: Task,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel,
    phase: Phase,
    loader: DataLoader[Batch],
    epoch: int,
    steps: int,
) -> dict[str, float]:
    """One pass over the training images; mean of each loss term, rate and times."""
    sampler = loader.sampler
    assert isinstance(sampler, EpochSampler)
    sampler.epoch = epoch
    model.train()
    totals: dict[str, float] = {}
    began, waited, asked = time.monotonic(), 0.0, time.monotonic()
    for number, batch in enumerate(progress(loader, f"{task.name} {epoch + 1}", len(loader))):
        waited += time.monotonic() - asked
        rate = set_rate(optimizer, phase, epoch * len(loader) + number, steps)
        terms = train_step(fabric, task, model, optimizer, fabric.to_device(batch), phase.clip)
        average.update_parameters(task.model)
        for name, value in terms.items():
            totals[name] = totals.get(name, 0.0) + value
        if not math.isfinite(sum(terms.values())):
            where = f"{task.name}, epoch {epoch + 1}, batch {number + 1}"
            raise UserError(
                f"the loss is not finite: {terms}", where=where, mend="try a lower --lr or --precision fp32"
            )
        asked = time.monotonic()
    seconds = time.monotonic() - began
    means = {f"train/{name}": total / len(loader) for name, total in totals.items()}
    return means | {"lr": rate, "seconds": seconds, "data_seconds": waited}


def train_step(
    fabric: Any, task: Task, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, clip: float
) -> dict[str, float]:
    """Forward, backward, clip, step."""
    terms = task.loss(model(batch.images.contiguous(memory_format=torch.channels_last)), batch)
    fabric.backward(torch.stack(list(terms.values())).sum())
    fabric.clip_gradients(model, optimizer, max_norm=clip, error_if_nonfinite=False)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {name: term.item() for name, term in terms.items()}


def make_optimizer(model: nn.Module, phase: Phase) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum or AdamW over the trainable parameters; weight decay on matrices only."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": phase.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if phase.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum, nesterov=phase.momentum > 0, fused=True)
    return torch.optim.AdamW(groups, lr=phase.lr, betas=(phase.momentum, 0.999), fused=True)


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """Exponential moving average of weights and BatchNorm statistics; the first steps count for more."""

    @torch.no_grad()
    def blend(averaged: Any, current: Any, count: Any) -> None:
        keep = min(decay, (1 + int(count)) / (10 + int(count))) if decay else 0.0
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, 1 - keep)
        else:
            torch._foreach_copy_(averaged, current)

    return AveragedModel(model, multi_avg_fn=blend, use_buffers=True)


def set_rate(optimizer: torch.optim.Optimizer, phase: Phase, step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to lr · lr_final; a function of the step, so nothing to resume."""
    warm = phase.warmup * steps
    if step < warm:
        share = (step + 1) / (warm + 1)
    else:
        done = (step - warm) / max(1.0, steps - warm)
        share = phase.lr_final + (1 - phase.lr_final) * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = phase.lr * share
    return phase.lr * share


def snapshot(
    progressed: Progress, task: Task, average: AveragedModel, optimizer: torch.optim.Optimizer, fabric: Any
) -> dict[str, Any]:
    """All that the task needs to go on as if never stopped, at the end of an epoch."""
    return {
        "position": {"task": task.name, "epoch": progressed.epoch, "batch": 0},
        "best": progressed.best,
        "model": task.model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "precision": fabric.strategy.precision.state_dict(),
        "rng": {"torch": torch.get_rng_state()},
    }


def restore(start: Progress, task: Task, average: AveragedModel, optimizer: torch.optim.Optimizer, fabric: Any) -> None:
    """Load a snapshot, if there is one."""
    if not start.state:
        return
    task.model.load_state_dict(start.state["model"])
    average.load_state_dict(start.state["average"])
    optimizer.load_state_dict(start.state["optimizer"])
    fabric.strategy.precision.load_state_dict(start.state["precision"])
    torch.set_rng_state(start.state["rng"]["torch"])
