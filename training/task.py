"""What the training loop trains, and what it hands over to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Task(Protocol):
    """What is trained: a network, its loss and its measure."""

    @property
    def name(self) -> str:
        """Short name, the key of its rows and of its checkpoints."""

    @property
    def model(self) -> nn.Module:
        """The network: what is optimised, averaged and saved."""

    @property
    def fitness(self) -> str:
        """Name of the figure that states the best epoch."""

    def inputs(self, batch: Any) -> Any:
        """What the network is given: the images, or what frozen layers make of them."""

    def loss(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        """Named terms whose sum is minimised."""

    def watch(self, outputs: Any, batch: Any) -> dict[str, Tensor]:
        """Further figures of a training batch, averaged over the epoch like the terms."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Figures on the validation split, the same on every rank; `fitness` is among them, higher is better.

        Raises:
            Stopped: a signal came.
        """


@dataclass(frozen=True)
class Hooks:
    """What the caller does with what the loop hands over, and knows that the loop does not.

    Attributes:
        save: keep a state to continue from.
        improved: called with the network and its figures whenever the fitness is the best so far, or is still 0.
        describe: names the images of a batch, for an error.
    """

    save: Callable[[dict[str, Any]], None]
    improved: Callable[[nn.Module, dict[str, float]], None] = lambda model, metrics: None
    describe: Callable[[Any], str] = lambda batch: "?"
