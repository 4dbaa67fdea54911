"""What follows a backward pass: clipping, the optimiser, the average of the weights.

All three only read and write memory, as fast as it can be read and written: what counts is how often.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from models.cascade import Probes
from utils.config import Phase

BLOCK = re.compile(r"b[1-9][0-9]*\.")
YOUNG = 10  # times `every`: until then the average looks back on fewer updates than one pass would take in


def make_optimizer(model: nn.Module, phase: Phase, *, scaled: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; weight decay on matrices only, unless the phase says on all.

    Layers with a rate of their own are in groups of their own, whose `factor` training.schedule looks at.

    Where the loss is scaled, for fp16, torch's fused optimisers are left out: Fabric does not unscale their gradients,
    and SGD would continue from momentum that was never set if the first step overflows.
    """
    groups: list[dict[str, Any]] = []
    for factor, trainable in by_factor(model, phase.rates).items():
        own = {"factor": factor} if phase.rates else {}
        matrices, others = [p for p in trainable if p.ndim > 1], [p for p in trainable if p.ndim <= 1]
        groups += [
            {"params": matrices, "weight_decay": phase.weight_decay, **own},
            {"params": others, "weight_decay": phase.weight_decay * phase.decay_all, **own},
        ]
    if phase.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=phase.lr, betas=(phase.momentum, 0.999), fused=not scaled)
    nesterov = phase.optimizer == "nesterov"
    fused = not scaled and not phase.freeze_epochs  # it cannot take in weights that have no momentum yet beside others
    return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum, nesterov=nesterov, fused=fused)


def by_factor(model: nn.Module, rates: Mapping[str, float]) -> dict[float, list[nn.Parameter]]:
    """Trainable parameters by the factor on their learning rate, 1 for those that no layer of `rates` holds."""
    found: dict[float, list[nn.Parameter]] = {1.0: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            layer = layer_of(layer_name(model, name), rates)
            found.setdefault(rates[layer] if layer else 1.0, []).append(parameter)
    return found


def layer_name(model: nn.Module, name: str) -> str:
    """What a parameter is called in `rates`: blocks of the backbone are b1, b2 and so on, whatever holds them.

    Heads at several cuts are all `head`, as that of a stage is.
    """
    if isinstance(model, Probes):
        return f"head.{name.split('.', 2)[2]}"
    first, _, rest = name.removeprefix("backbone.").partition(".")
    number, _, rest = rest.partition(".")
    if first not in ("blocks", "part", "prefix"):
        return name
    return f"b{int(number) + 1 + (getattr(model, 'start', 0) if first == 'part' else 0)}.{rest}"


def layer_of(name: str, layers: Iterable[str]) -> str | None:
    """The innermost of some layers that a parameter belongs to; `backbone` holds all blocks."""
    own = [layer for layer in layers if f"{name}.".startswith(f"{layer}.")]
    if not own and "backbone" in layers and BLOCK.match(name):
        return "backbone"
    return max(own, key=len, default=None)


def clip_gradients(optimizer: torch.optim.Optimizer, bound: float) -> Tensor:
    """What torch's `clip_grad_norm_` does, bit for bit, but gradients within the bound are not multiplied by 1.

    Returns:
        The norm before; where it is not finite, nor are the gradients afterwards.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.get_total_norm([own.grad for own in parameters if own.grad is not None])
    # A GPU multiplies in less time than it takes to ask it for the norm. NaN is not within the bound.
    if norm.device.type != "cpu" or not bound / (norm + 1e-6) >= 1:
        torch.nn.utils.clip_grads_with_norm_(parameters, bound, norm)
    return norm


class Average(nn.Module):
    """Exponential moving average of weights and BatchNorm statistics; the first updates count for more.

    One pass over the weights takes in several updates: with the decay of all of them, and the weights after the last.

    Args:
        decay: share that the average keeps at each update, once it is no longer young.
        every: updates taken in at a time; one while the average is young.

    Attributes:
        module: the averaged network.
        n_averaged: updates that it has taken in.
    """

    n_averaged: Tensor

    def __init__(self, model: nn.Module, decay: float, every: int = 1) -> None:
        super().__init__()
        self.decay, self.every = decay, every
        self.module = deepcopy(model)
        self.register_buffer("n_averaged", torch.tensor(0))

    def due(self, waiting: int) -> bool:
        """Whether so many updates are to be taken in now."""
        return waiting >= self.every or int(self.n_averaged) < YOUNG * self.every

    @torch.no_grad()
    def take_in(self, model: nn.Module, waiting: int) -> None:
        """Bring the average to the network's weights, so many updates after the last call."""
        count = int(self.n_averaged)
        keep = math.prod(min(self.decay, (1 + n) / (10 + n)) for n in range(count, count + waiting)) if count else 0.0
        floats: tuple[list[Any], list[Any]] = ([], [])
        for averaged, current in zip(_tensors(self.module), _tensors(model), strict=True):
            if averaged.is_floating_point():
                floats[0].append(averaged)
                floats[1].append(current)
            else:
                averaged.copy_(current)
        torch._foreach_lerp_(*floats, 1 - keep)
        self.n_averaged += waiting


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.parameters(), model.buffers())
