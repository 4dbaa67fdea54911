"""Parts of a network that are fixed at first and learn later."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from utils.config import Phase


@dataclass(frozen=True)
class Held:
    """Modules whose weights and BatchNorm statistics are fixed in the first epochs.

    It is asked at the beginning of every epoch: what it does follows from the number of the epoch alone, and a run that
    continues continues with the same.

    Attributes:
        until: so many epochs they are fixed.
        several: several processes train together: they agree beforehand on which gradients to exchange, so that these
            are computed, and then left out.
    """

    modules: Sequence[nn.Module]
    until: int
    several: bool = False

    @classmethod
    def of(cls, modules: Sequence[nn.Module], phase: Phase, *, several: bool) -> "Held | None":
        """What a phase asks for: between none and all, at least one epoch and not all; None where it fixes nothing."""
        share, epochs = phase.freeze_epochs, phase.epochs or 0
        until = round(share * epochs)
        if 0 < share < 1:
            until = min(max(until, 1), epochs - 1)
        return cls(modules, until, several) if until > 0 and modules else None

    def begin(self, epoch: int) -> None:
        """Fix or free the modules, once the network is in training mode; epochs count from 0."""
        fixed = epoch < self.until
        for module in self.modules:
            module.train(not fixed)
            if not self.several:
                module.requires_grad_(not fixed)

    def before_update(self, epoch: int) -> None:
        """Leave out the gradients of what is fixed."""
        if self.several and epoch < self.until:
            for module in self.modules:
                for parameter in module.parameters():
                    parameter.grad = None
