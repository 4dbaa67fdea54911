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

    @classmethod
    def of(cls, checkpoint: dict[str, Any], task: str) -> "Progress":
        """The progress in a training checkpoint if it is of this task, else the start."""
        if checkpoint.get("position", {}).get("task") != task:
            return cls()
        return cls(checkpoint["position"]["epoch"], checkpoint["best"], checkpoint)


@dataclass(frozen=True)
class Hooks:
    """What the caller does with the states and networks that the loop hands over."""

    save: Callable[[dict[str, Any]], None]
    improved: Callable[[nn.Module, dict[str, float]], None] = lambda model, metrics: None


class Loop:
    """Training of one task; `fit` runs it.

    Args:
        fabric: a launched Fabric; moves, casts and clips.
        phase: epochs, optimiser, rates.
        loader: training batches, over an EpochSampler.
        start: where to go on.
    """

    def __init__(
        self,
        fabric: Any,
        task: Task,
        phase: Phase,
        loader: DataLoader[Batch],
        logs: Logs,
        hooks: Hooks,
        start: Progress,
    ) -> None:
        self.fabric, self.task, self.phase, self.loader = fabric, task, phase, loader
        self.logs, self.hooks = logs, hooks
        self.epoch, self.best = start.epoch, start.best
        task.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = make_average(task.model, phase.ema_decay)
        self.model, self.optimizer = fabric.setup(task.model, make_optimizer(task.model, phase))
        self.average.to(fabric.device)
        if start.state:
            self._restore(start.state)

    def fit(self) -> nn.Module:
        """Train to the end and return the network with averaged weights, in evaluation mode.

        Raises:
            UserError: the loss is not finite; says where.
        """
        self.logs.table.forget(self.task.name, self.epoch)
        saved = time.monotonic()
        while self.epoch < self.phase.epochs:
            values = self._train_epoch()
            self.epoch += 1
            last = self.epoch == self.phase.epochs
            if last or self.epoch % self.phase.val_every == 0:
                values |= self._validate()
            self.logs.epoch(self.task.name, self.epoch, self.phase.epochs, values)
            if last or time.monotonic() - saved > SAVE_EVERY_S:
                self.hooks.save(self._snapshot())
                saved = time.monotonic()
        return self.average.module.eval()

    def _validate(self) -> dict[str, float]:
        metrics = self.task.evaluate(self.average.module)
        if metrics[self.task.fitness] > self.best:
            self.best = metrics[self.task.fitness]
            self.hooks.improved(self.average.module, metrics)
        return {f"val/{name}": value for name, value in metrics.items()}

    def _train_epoch(self) -> dict[str, float]:
        """One pass over the training images: mean of each loss term, last rate, seconds, seconds spent waiting."""
        assert isinstance(self.loader.sampler, EpochSampler)
        self.loader.sampler.epoch = self.epoch
        self.model.train()
        count = len(self.loader)
        totals: dict[str, float] = {}
        began = asked = time.monotonic()
        waited = 0.0
        for number, batch in enumerate(progress(self.loader, f"{self.task.name} {self.epoch + 1}", count)):
            waited += time.monotonic() - asked
            rate = set_rate(self.optimizer, self.phase, self.epoch * count + number, self.phase.epochs * count)
            terms = self._step(self.fabric.to_device(batch))
            if not math.isfinite(sum(terms.values())):
                where = f"{self.task.name}, epoch {self.epoch + 1}, batch {number + 1}"
                raise UserError(f"loss is {terms}", where=where, mend="lower --lr, or use --precision fp32")
            totals = {name: totals.get(name, 0.0) + value for name, value in terms.items()}
            asked = time.monotonic()
        means = {f"train/{name}": total / count for name, total in totals.items()}
        return means | {"lr": rate, "seconds": time.monotonic() - began, "data_seconds": waited}

    def _step(self, batch: Batch) -> dict[str, float]:
        """Forward, backward, clip, step, average."""
        terms = self.task.loss(self.model(batch.images.contiguous(memory_format=torch.channels_last)), batch)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.phase.clip, error_if_nonfinite=False)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update_parameters(self.task.model)
        return {name: term.item() for name, term in terms.items()}

    def _snapshot(self) -> dict[str, Any]:
        """All that the task needs to go on as if never stopped, at the end of an epoch."""
        return {
            "position": {"task": self.task.name, "epoch": self.epoch, "batch": 0},
            "best": self.best,
            "model": self.task.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "rng": {"torch": torch.get_rng_state()},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        self.task.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        torch.set_rng_state(state["rng"]["torch"])


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
