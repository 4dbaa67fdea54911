"""One training run: what all its phases share."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from data.loader import DetectionSet, EpochSampler, make_loader
from data.records import Description, Split
from data.views import View
from models.batchnorm import globalise
from models.weights_files import Beginning
from training.held import Held
from training.loggers import Services
from training.logs import Logs
from training.loop import Loop
from training.same_data import Identity
from training.task import Hooks, Task
from utils import checkpoint
from utils.checkpoint import TRAINED_ON
from utils.config import Phase, Recipe
from utils.console import console
from utils.stop import Stop

SHOWN = 8  # images of a batch that an error names


@dataclass(frozen=True)
class Job:
    """A run in its folder.

    Attributes:
        train, val: what the detector learns from and is judged on.
        resumed: the training checkpoint to continue from, or empty.
        stop: whether this process was asked to leave.
        pretrain_splits: the same for the backbone's classifiers.
        begins: weights from elsewhere that its networks begin with; None for random ones.
        data_identity: of what it reads.
        reused: of the file whose weights the detector's backbone takes; empty for none.
        learnt: kind of checkpoint → numbers of the pictures that it has learnt from (data/seen.py).
        services: loggers that are open, on the first rank.
        began: when this process began, by time.monotonic.
    """

    fabric: Any
    recipe: Recipe
    train: Split
    val: Split
    folder: Path
    resumed: dict[str, Any]
    stop: Stop
    pretrain_splits: tuple[Split, Split]
    begins: Beginning | None = None
    data_identity: Identity = field(default_factory=dict)
    reused: dict[str, str] = field(default_factory=dict)
    learnt: dict[str, Tensor] = field(default_factory=dict)
    services: Services = ()
    began: float = field(default_factory=time.monotonic)

    @property
    def names(self) -> list[str]:
        """The classes of the detector."""
        return self.train.description.names

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.train.description.format.channels

    @property
    def weights(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.folder / "weights"

    @property
    def last(self) -> Path:
        """The checkpoint to continue from; when the detector is trained, its weights of the last epoch and no more."""
        return self.weights / "last.pt"

    @property
    def trained(self) -> bool:
        """Whether the detector or segmenter was trained before this process began."""
        return self.resumed.get("kind") in ("detector", "segmenter")

    @property
    def seconds(self) -> float:
        """How long the run has trained, with the processes that it continues, up to what each of them saved."""
        return self.resumed.get("seconds", 0.0) + time.monotonic() - self.began

    @property
    def lesson(self) -> Description:
        """The data set that the backbone learns from, as it sees it: its classes, and whether one excludes another."""
        return self.pretrain_splits[0].description

    @cached_property
    def view(self) -> View:
        """What the classifiers of the backbone are shown."""
        return View.of(self.recipe.stage)

    def rank_batch(self, phase: Phase) -> int:
        """Images per step of each rank."""
        return int(phase.batch_size // self.fabric.world_size)

    def order(self, images: int, seed: int, views: int = 0) -> EpochSampler:
        """This rank's fraction of a random order of so many images."""
        return EpochSampler(images, seed, rank=self.fabric.global_rank, ranks=self.fabric.world_size, views=views)

    def images(self, dataset: DetectionSet, phase: Phase, seed: int, views: int = 0) -> DataLoader[Any]:
        """Training batches of a data set, in an order drawn from the seed."""
        order = self.order(len(dataset), seed, views)
        return make_loader(dataset, order, self.rank_batch(phase), self.recipe.workers, leave_out=True)

    def identity(self) -> dict[str, Any]:
        """What every checkpoint of the run says of itself."""
        recipe = self.recipe
        return {
            "backbone": recipe.backbone,
            "width": recipe.width,
            "names": self.names,
            "recipe": recipe.model_dump(mode="json"),
            **self.train.description.channels_entry,
            **self.train.description.levels_entry,
            **({"init": self.begins.identity} if self.begins else {}),
            "data_identity": self.data_identity,
            **self.reused_entry,
        }

    @property
    def reused_entry(self) -> dict[str, Any]:
        """What checkpoints and figures say of the file whose weights the detector's backbone took."""
        return {"reused": self.reused} if self.reused else {}

    def save(self, path: Path, content: dict[str, Any]) -> None:
        """Write a checkpoint of this run, on the first rank."""
        if self.fabric.is_global_zero:
            learnt = self.learnt.get(content["kind"])
            seen = {} if learnt is None else {TRAINED_ON: learnt}
            checkpoint.save(path, {**self.identity(), **seen, **content})

    def fit(
        self,
        task: Task,
        phase: Phase,
        loader: DataLoader[Any],
        logs: Logs,
        *,
        seed: int,
        split: Split | None = None,
        extra: dict[str, Any] | None = None,
        improved: Callable[[nn.Module, dict[str, float]], None] = lambda model, metrics: None,
        hold: Sequence[nn.Module] = (),
    ) -> tuple[nn.Module, dict[str, float]]:
        """Run the training loop, or the rest of it; last.pt is the resumable checkpoint.

        Args:
            loader: training batches.
            split: the images that the batches' indices count [the training split].
            extra: goes into last.pt.
            improved: called whenever the validation figure is the best so far.
            hold: modules that are fixed for as many epochs as the phase says.

        Returns:
            The averaged network and its last validation figures.
        """
        records = (split or self.train).records

        def describe(batch: Any) -> str:
            names = [records[index].image.name for index in batch.index.tolist()]
            return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")

        if self.fabric.world_size > 1:
            globalise(task.model)

        def save(state: dict[str, Any]) -> None:
            self.save(self.last, {"kind": "training", "seconds": self.seconds, **(extra or {}), **state})

        hooks = Hooks(save, improved, describe)
        state = self.resumed if self.resumed.get("position", {}).get("task") == task.name else {}
        held = Held.of(hold, phase, several=self.fabric.world_size > 1)
        if held:
            console.print(f"{task.name}: {len(hold)} blocks are fixed for {held.until} of {phase.epochs} epochs")
        loop = Loop(self.fabric, task, phase, loader, logs, hooks, self.stop, seed=seed, state=state, held=held)
        return loop.fit()
