"""What follows a backward pass: clipping, the optimiser, the average of the weights.

All three only read and write memory, as fast as it can be read and written: what counts is how often.
"""

import math
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from utils.config import Phase

YOUNG = 10  # times `every`: until then the average looks back on fewer updates than one pass would take in


def make_optimizer(model: nn.Module, phase: Phase, *, scaled: bool = False) -> torch.optim.Optimizer:
    """SGD or AdamW over the trainable parameters; weight decay on matrices only, unless the phase says on all.

    Where the loss is scaled, for fp16, torch's fused optimisers are left out: Fabric does not unscale their gradients,
    and SGD would go on from momentum that was never set if the first step overflows.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": phase.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": phase.weight_decay * phase.decay_all},
    ]
    if phase.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=phase.lr, betas=(phase.momentum, 0.999), fused=not scaled)
    nesterov = phase.optimizer == "nesterov"
    return torch.optim.SGD(groups, lr=phase.lr, momentum=phase.momentum, nesterov=nesterov, fused=not scaled)


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
        n_averaged: updates that it stands for.
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
