"""BatchNorm over the whole batch of all processes.

torch's SyncBatchNorm does the same on GPUs only: it does not run on a CPU with gloo.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from utils.errors import UserError


def several_ranks() -> bool:
    """Whether this process is one of several that torch.distributed knows."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def divisor_of(count: Tensor) -> Tensor:
    """What a rank divides its own sum by: the mean over ranks is then the sum of all over the count of all, or 1."""
    if not several_ranks():
        return count.clamp(min=1)
    total = count.double()
    distributed.all_reduce(total)
    return total.clamp(min=1) / distributed.get_world_size()


def mean_over_ranks(x: Tensor) -> Tensor:
    """Mean of x over all processes; in place."""
    distributed.all_reduce(x)
    return x.div_(distributed.get_world_size())


class Normalised(torch.autograd.Function):
    """Global mean, variance and normalised input, with a backward pass that keeps nothing but the input.

    Ioffe & Szegedy, arXiv 1502.03167, algorithm 1 and the gradients of section 3. Both means that the gradient of
    the input takes are over the global batch, so it is the derivative of the sum of all ranks' losses.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """Output as x, [B, C, …]; mean and biased variance of the global batch, [C], float32 or wider."""
        axes, shape = others(x), (1, -1, *(1,) * (x.dim() - 2))
        wide = x.to(weight.dtype)
        mean = mean_over_ranks(wide.mean(axes))
        variance = mean_over_ranks((wide - mean.view(shape)).square().mean(axes))
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        y = (wide - mean.view(shape)) * (scale * weight).view(shape) + bias.view(shape)
        return y.to(x.dtype), mean, variance

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        """Gradients of x, of the loss summed over ranks; of weight and bias, of this rank's loss, as DDP expects."""
        x, weight, mean, scale = ctx.saved_tensors
        axes, shape = others(x), (1, -1, *(1,) * (x.dim() - 2))
        wide = grad.to(weight.dtype)
        normal = (x.to(weight.dtype) - mean.view(shape)) * scale.view(shape)
        of_bias, of_weight = wide.sum(axes), (wide * normal).sum(axes)
        means = mean_over_ranks(torch.stack([of_bias, of_weight]) * (len(mean) / x.numel()))
        of_x = wide - means[0].view(shape) - normal * means[1].view(shape)
        return (of_x * (scale * weight).view(shape)).to(x.dtype), of_weight, of_bias, None


def others(x: Tensor) -> list[int]:
    """All axes but the channels'."""
    return [0, *range(2, x.dim())]


class GlobalBatchNorm(_BatchNorm):
    """BatchNorm whose batch, while it trains, is that of all processes; each must bring an equal share.

    With one process, and in evaluation mode, it is torch's BatchNorm; parameters and buffers always have its names.
    Statistics are computed in the type of the weights (float32), the output has the type of the input. The running
    variance is the unbiased one of the global batch. Must be affine, as all are here.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not several_ranks():
            return super().forward(x)
        self._check_input_dim(x)
        y, mean, variance = Normalised.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._count(mean, variance, distributed.get_world_size() * x.numel() // x.shape[1])
        return y

    @torch.no_grad()
    def _count(self, mean: Tensor, variance: Tensor, numbers: int) -> None:
        """Update the running statistics with those of so many numbers a channel."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (numbers / (numbers - 1)), share)


class GlobalBatchNorm1d(GlobalBatchNorm, nn.BatchNorm1d):
    """For [B, C]."""


class GlobalBatchNorm2d(GlobalBatchNorm, nn.BatchNorm2d):
    """For [B, C, H, W]."""


class GlobalBatchNormAct2d(GlobalBatchNorm2d):
    """For timm's BatchNorm with dropout and non-linearity behind it, whose parts it keeps."""

    drop: nn.Module
    act: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.act(self.drop(super().forward(x)))
        return found


# By name: timm's is found without importing timm.
OVER_PROCESSES: dict[str, type[GlobalBatchNorm]] = {
    "BatchNorm1d": GlobalBatchNorm1d,
    "BatchNorm2d": GlobalBatchNorm2d,
    "BatchNormAct2d": GlobalBatchNormAct2d,
}


def globalise(module: nn.Module) -> nn.Module:
    """Turn every BatchNorm in module into one over all processes, in place; returns module.

    The objects themselves change class: so do their other owners, such as a backbone that shares its blocks with a
    stage, and parameters, buffers, modes and hooks stay what they are.

    Raises:
        UserError: there is a BatchNorm of an unknown kind: each process would go by its own statistics.
    """
    for part in module.modules():
        if isinstance(part, _BatchNorm) and not isinstance(part, GlobalBatchNorm):
            kind = type(part).__name__
            if kind not in OVER_PROCESSES:
                raise UserError(f"{kind} knows one process only", where="--devices", hint="give 1, or another backbone")
            part.__class__ = OVER_PROCESSES[kind]
    return module
