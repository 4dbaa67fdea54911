"""The one training loop: for a cascade stage, probes and the detector alike."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.loader import EpochSampler
from training.held import Held
from training.logs import Logs
from training.lost import Lost, blamed
from training.ranks import agree, mean_over_ranks
from training.schedule import exhausted, learning_rate, set_rate
from training.task import Hooks, Task
from training.update import Average, clip_gradients, make_optimizer
from utils.config import Phase
from utils.console import console, progress
from utils.errors import Stopped, UserError
from utils.seed import mixed_seed, seed_draws
from utils.stop import Stop

SAVE_EVERY_S = 60  # a resumable checkpoint of a large network takes seconds: not after every short epoch
BROKEN = 256  # a vote that outbids every signal number: this rank's loss or gradients are not finite


@dataclass
class Position:
    """How far a task has come.

    Attributes:
        epoch: epochs done.
        batch: batches done of the next one.
        unaveraged: updates of the weights that their average has not taken in.
        totals: sums of the terms over these, each the mean over the ranks.
        lost: pictures that could not be read for these, on all ranks.
        history: fitness at each validation.
        metrics: all figures of the last one.
        over: nothing is left to train.
    """

    epoch: int = 0
    batch: int = 0
    unaveraged: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    lost: int = 0
    history: list[float] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    over: bool = False


class Loop:
    """Training of one task; `fit` runs it.

    Args:
        fabric: a launched Fabric; moves, casts, clips and joins the ranks.
        phase: epochs, optimiser, rates.
        loader: training batches, over an EpochSampler.
        seed: of what the network itself draws, in dropout.
        state: a former `save` of the same task to continue from, or empty.
        held: what is fixed at first.
    """

    def __init__(
        self,
        fabric: Any,
        task: Task,
        phase: Phase,
        loader: DataLoader[Any],
        logs: Logs,
        hooks: Hooks,
        stop: Stop,
        *,
        seed: int,
        state: dict[str, Any],
        held: Held | None = None,
    ) -> None:
        self.held = held
        self.fabric, self.task, self.phase, self.loader = fabric, task, phase, loader
        self.logs, self.hooks, self.stop, self.seed = logs, hooks, stop, seed
        self.position = Position(**state["position"]["within"]) if state else Position()
        task.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(task.model, phase.ema_decay, phase.ema_every) if phase.ema_decay else None
        scaled = getattr(fabric.strategy.precision, "scaler", None) is not None
        self.model, self.optimizer = fabric.setup(task.model, make_optimizer(task.model, phase, scaled=scaled))
        if self.average:
            self.average.to(fabric.device)
        if state:
            self._restore(state)
        self.saved = time.monotonic()
        self.verdict = 0
        self.whole, self.lost = True, Lost()  # whole: no update is half done
        if loader.drop_last:
            console.print(
                f"{task.name}: one image, another in every epoch, is left out: it would be a batch of its own"
            )

    @property
    def averaged(self) -> nn.Module:
        """The network with averaged weights, or as it is where none are averaged."""
        return self.average.module if self.average else self.task.model

    def fit(self) -> tuple[nn.Module, dict[str, float]]:
        """Train to the end.

        Returns:
            The network with averaged weights, in evaluation mode; its last validation figures, and `epochs`.

        Raises:
            UserError: the loss is not finite; says where, and on which images.
            Stopped: by a signal, after saving.
        """
        self.logs.forget(self.task.name, self.position.epoch)
        with self.stop.deferred():
            self._run()
        return self.averaged.eval(), self.position.metrics | {"epochs": self.position.epoch}

    def _run(self) -> None:
        """Epoch after epoch; saves where it is stopped, which is only ever between two steps.

        Raises:
            UserError, Stopped: as in fit.
        """
        try:
            with self.stop.readers(self.task.name):
                while not self.position.over:
                    self._end_epoch(self._train_epoch())
        except Stopped:
            if self.whole:  # else the end of a process that reads images has cut a step in two
                self.save()
            raise

    def save(self) -> None:
        """Hand over all that the task needs to continue as if never stopped."""
        self.hooks.save(self._snapshot())
        self.saved = time.monotonic()

    @contextmanager
    def _in_one_piece(self) -> Iterator[None]:
        """What an error leaves half done inside is not saved: a dying worker raises one anywhere."""
        self.whole = False
        yield
        self.whole = True

    def _end_epoch(self, values: dict[str, float]) -> None:
        """Validate where it is due, judge whether to continue, note the epoch.

        The position moves on after the validation only: stopped inside it, the run comes back to it.
        """
        at, phase = self.position, self.phase
        wanted = getattr(phase, "stop_accuracy", None)
        learnt = wanted is not None and values["train/accuracy"] >= wanted
        last = at.epoch + 1 == phase.epochs or learnt
        metrics = self._validate() if last or (at.epoch + 1) % phase.val_every == 0 else {}
        with self._in_one_piece():
            if metrics:
                self._judge(metrics)
            at.epoch, at.batch, at.totals, at.lost = at.epoch + 1, 0, {}, 0
            at.over = last or exhausted(phase, at.history)
        values |= {f"val/{name}": value for name, value in metrics.items()}
        self.logs.epoch(self.task.name, at.epoch, phase.epochs, values)

    def _validate(self) -> dict[str, float]:
        """Figures of the network with averaged weights."""
        with self._in_one_piece():
            self._bring_up_average()
        return self.task.evaluate(self.averaged)

    def _judge(self, metrics: dict[str, float]) -> None:
        """Note the figures, and hand the network over where it is the best so far."""
        at, fitness = self.position, metrics[self.task.fitness]
        best = max(at.history, default=-math.inf)
        if fitness > best or fitness == best <= 0:  # as long as nothing is found, the last epoch is the best
            self.hooks.improved(self.averaged, metrics)
        at.history.append(fitness)
        at.metrics = metrics

    def _train_epoch(self) -> dict[str, float]:
        """The rest of an epoch: mean of each term, last rate, seconds, seconds spent waiting for images."""
        assert isinstance(self.loader.sampler, EpochSampler)
        at, count = self.position, len(self.loader)
        self.loader.sampler.epoch = at.epoch
        self.loader.sampler.skip = at.batch * (self.loader.batch_size or 1)
        self.model.train()
        if self.held:
            self.held.begin(at.epoch)
        began = asked = time.monotonic()
        waited = 0.0
        for batch in progress(self.loader, f"{self.task.name} {at.epoch + 1}", count, done=at.batch):
            waited += time.monotonic() - asked
            lost = self.lost.note(batch)
            set_rate(self.optimizer, self._rate(at.batch))
            self._step(batch, lost)
            asked = time.monotonic()
        means = {f"train/{name}": total / at.batch for name, total in at.totals.items()}
        means |= {"lost": at.lost} if at.lost else {}
        return means | {"lr": self._rate(count - 1), "seconds": time.monotonic() - began, "data_seconds": waited}

    def _rate(self, batch: int) -> float:
        """Learning rate of a step of this epoch."""
        at, count = self.position, len(self.loader)
        return learning_rate(self.phase, at.epoch * count + batch, self.phase.epochs * count, at.history)

    def _step(self, batch: Any, lost: int) -> None:
        """Forward, backward, perhaps an update; then whatever a signal, the clock or a broken loss asks for.

        Gradients of several batches may go into one update: a run is saved and left only after one.
        """
        at = self.position
        together, last = self._group()
        self.whole = False
        batch = self.fabric.to_device(batch)
        with self.fabric.no_backward_sync(self.model, enabled=not last):
            with blamed(batch):
                outputs = self.model(self._inputs(batch))
            terms = self.task.loss(outputs, batch)
            self.fabric.backward(torch.stack(list(terms.values())).sum() / together)
        norm = self._update() if last else None
        figures = {name: term.item() for name, term in (terms | self.task.watch(outputs, batch)).items()}
        self._vote(batch, {name: figures[name] for name in terms}, norm)
        at.batch += 1
        # Shared, so that what the first rank saves is true of all.
        shared = mean_over_ranks(self.fabric, figures | {"lost": lost})
        at.lost += round(shared.pop("lost") * self.fabric.world_size)
        at.totals = {name: at.totals.get(name, 0.0) + value for name, value in shared.items()}
        if last:
            self.whole = True
            self._leave_or_save()

    def _inputs(self, batch: Any) -> Any:
        """What the network is given; from here on, each rank draws numbers of its own.

        What is drawn for the batch, as its size is, is the same on every rank: BatchNorm counts on equal shares.
        """
        at, rank = self.position, self.fabric.global_rank
        seed_draws(mixed_seed(self.seed, at.epoch, at.batch, 0), self.fabric.device)
        found = self.task.inputs(batch)
        if rank:
            seed_draws(mixed_seed(self.seed, at.epoch, at.batch, rank), self.fabric.device)
        return found

    def _group(self) -> tuple[int, bool]:
        """How many batches go into the update that the next one belongs to, and whether it is the last of them."""
        count, at = len(self.loader), self.position.batch
        size = self.phase.batches
        end = min(count, (at // size + 1) * size)
        return end - at // size * size, at + 1 == end

    def _update(self) -> Tensor | None:
        """Clip, step, average; gives the norm of the gradients, if it is asked for and nothing scales them."""
        norm = None
        if self.held:
            self.held.before_update(self.position.epoch)
        self.fabric.strategy.precision.unscale_gradients(self.optimizer.optimizer)
        if math.isfinite(self.phase.clip):
            norm = clip_gradients(self.optimizer.optimizer, self.phase.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.position.unaveraged += 1
        if self.average and self.average.due(self.position.unaveraged):
            self._bring_up_average()
        return None if getattr(self.fabric.strategy.precision, "scaler", None) else norm  # a scaler leaves steps out

    def _bring_up_average(self) -> None:
        """Let the average take in the updates since it last did."""
        at = self.position
        if self.average and at.unaveraged:
            self.average.take_in(self.task.model, at.unaveraged)
        at.unaveraged = 0

    def _vote(self, batch: Any, terms: dict[str, float], norm: Tensor | None) -> None:
        """Stop every rank where one rank's loss, or the norm of all gradients, is not finite: the last save stays."""
        finite = math.isfinite(sum(terms.values()))
        broken = not finite or (norm is not None and not math.isfinite(norm))
        self.verdict = agree(self.fabric, BROKEN if broken else self.stop.asked)
        if self.verdict == BROKEN:
            at = self.position
            where = f"{self.task.name}, epoch {at.epoch + 1}, batch {at.batch + 1}"
            what = f"loss is {terms} on {self.hooks.describe(batch)}" if broken else "another rank's loss is not finite"
            what = f"gradients are not finite, {what}" if broken and finite else what
            raise UserError(what, where=where, hint="lower --lr, or use --precision fp32; --resume starts before it")

    def _leave_or_save(self) -> None:
        if self.verdict:
            raise Stopped(self.verdict)
        if time.monotonic() - self.saved > SAVE_EVERY_S:
            self.save()

    def _snapshot(self) -> dict[str, Any]:
        return {
            "position": {"task": self.task.name, "within": vars(self.position)},
            "model": self.task.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def _restore(self, state: dict[str, Any]) -> None:
        try:
            self.task.model.load_state_dict(state["model"])
            if self.average:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.fabric.strategy.precision.load_state_dict(state["precision"])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"its last save is of another network ({str(error).splitlines()[0][:200]})"
            raise UserError(what, where=self.task.name, hint="restore last.pt, or start a new run") from error
