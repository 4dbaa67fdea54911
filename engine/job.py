"""One training run: what both of its phases share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from data.loader import DetectionSet, EpochSampler, make_loader
from data.records import Split
from engine import checkpoint
from engine.logs import Logs
from engine.loop import Hooks, Loop, Progress, Task
from utils.config import Phase, Recipe


@dataclass(frozen=True)
class Job:
    """A run in its folder.

    Attributes:
        resumed: the training checkpoint to go on from, or empty.
    """

    fabric: Any
    recipe: Recipe
    train: Split
    val: Split
    folder: Path
    resumed: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The classes."""
        return self.train.description.names

    @property
    def weights(self) -> Path:
        """Where the run's checkpoints lie."""
        return self.folder / "weights"

    def identity(self) -> dict[str, Any]:
        """What every checkpoint of the run says of itself."""
        recipe = self.recipe
        return {
            "backbone": recipe.backbone,
            "width": recipe.width,
            "names": self.names,
            "recipe": recipe.model_dump(mode="json"),
        }

    def fit(
        self,
        task: Task,
        phase: Phase,
        transform: nn.Module,
        logs: Logs,
        *,
        seed: int,
        extra: dict[str, Any] | None = None,
        improved: Callable[[nn.Module, dict[str, float]], None] = lambda model, metrics: None,
    ) -> nn.Module:
        """Run the training loop on the training split; last.pt is the resumable checkpoint.

        Args:
            seed: of the order and the augmentation.
            extra: goes into last.pt.
            improved: told whenever the validation figure is the best so far.

        Returns:
            The averaged network.
        """
        dataset = DetectionSet(self.train.records, transform, seed)
        loader = make_loader(dataset, EpochSampler(len(dataset), seed), phase.batch_size, self.recipe.workers)
        content = {"kind": "training", **self.identity(), **(extra or {})}
        hooks = Hooks(lambda state: checkpoint.save(self.weights / "last.pt", content | state), improved)
        start = Progress.of(self.resumed, task.name)
        return Loop(self.fabric, task, phase, loader, logs, hooks, start).fit()
