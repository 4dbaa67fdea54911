"""What follows a backward pass, against torch's own and written out."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from training.update import YOUNG, Average, clip_gradients, make_optimizer
from utils.config import Phase


def test_no_weight_decay_on_biases_and_norms() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = make_optimizer(model, Phase(weight_decay=0.1)).param_groups
    assert [len(group["params"]) for group in groups] == [1, 3]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_weight_decay_on_all_where_the_phase_says_so() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = make_optimizer(model, Phase(weight_decay=0.1, decay_all=True)).param_groups
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1]


Clip = Callable[[torch.optim.Optimizer, float], Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))


def plainly(optimizer: torch.optim.Optimizer, bound: float) -> Tensor:
    parameters = [own for group in optimizer.param_groups for own in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, bound)


def stepped(clip: Clip, bound: float, scale: float, optimizer: str) -> tuple[list[Tensor], list[Tensor]]:
    """Weights after three steps with gradients of a scale, and the norm before each."""
    model, images = network(), torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    own, norms = make_optimizer(model, Phase(optimizer=optimizer)), []
    for _ in range(3):
        (scale * model(images).square().mean()).backward()
        norms.append(clip(own, bound))
        own.step()
        own.zero_grad()
    return [*model.state_dict().values()], norms


def assert_equal(ours: list[Tensor], plain: list[Tensor]) -> None:
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "nesterov"])
@pytest.mark.parametrize(("scale", "within"), [(1e-3, True), (1e3, False), (math.inf, False), (math.nan, False)])
def test_clipping_is_torchs_bit_for_bit(scale: float, within: bool, optimizer: str) -> None:
    (ours, norms), (plain, theirs) = (stepped(clip, 0.5, scale, optimizer) for clip in (clip_gradients, plainly))
    assert [bool(norm <= 0.5) for norm in norms] == [within] * 3
    assert_equal(norms, theirs)
    assert_equal(ours, plain)


@pytest.mark.parametrize(("bound", "writes"), [(100.0, 0), (0.01, 1)])
def test_gradients_within_the_bound_are_not_written(bound: float, writes: int) -> None:
    model = nn.Linear(3, 1)
    model(torch.ones(1, 3)).sum().backward()
    before = [own.grad._version for own in model.parameters() if own.grad is not None]
    clip_gradients(make_optimizer(model, Phase()), bound)
    after = [own.grad._version for own in model.parameters() if own.grad is not None]
    assert [now - then for now, then in zip(after, before, strict=True)] == [writes, writes]


def drifted(model: nn.Module, step: int) -> None:
    """Another network, as a training step would leave it."""
    draw = torch.Generator().manual_seed(step)
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape, generator=draw) if tensor.is_floating_point() else torch.tensor(step))


def blend(averaged: list[Tensor], current: list[Tensor], count: Tensor) -> None:
    for own, new in zip(averaged, current, strict=True):
        keep = min(0.5, (1 + int(count)) / (10 + int(count)))
        own.copy_(own.lerp(new, 1 - keep) if own.is_floating_point() else new)


def test_average_is_torchs() -> None:
    model = network()
    ours, theirs = Average(model, 0.5), AveragedModel(model, multi_avg_fn=blend, use_buffers=True)
    for step in range(15):
        drifted(model, step)
        assert ours.due(1)
        ours.take_in(model, 1)
        theirs.update_parameters(model)
        assert_equal(
            [*ours.module.state_dict().values(), ours.n_averaged],
            [*theirs.module.state_dict().values(), theirs.n_averaged],
        )


@pytest.mark.parametrize("steps", [0, 1, 4, 30])
def test_several_updates_at_a_time_decay_as_one_by_one(steps: int) -> None:
    """They are the same where the weights do not move in between."""
    model = network()
    at_once, singly = Average(model, 0.9, every=3), Average(model, 0.9)
    for average in (at_once, singly):
        for step in range(steps):
            drifted(model, step)
            average.take_in(model, 1)
    drifted(model, 99)
    at_once.take_in(model, 3)
    for _ in range(3):
        singly.take_in(model, 1)
    for one, other in zip(at_once.state_dict().values(), singly.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)


def test_young_average_takes_in_every_update() -> None:
    average = Average(nn.Linear(1, 1), 0.999, every=4)
    for count, due in ((0, [1, 2, 3, 4, 5]), (4 * YOUNG - 1, [1, 2, 3, 4, 5]), (4 * YOUNG, [4, 5])):
        average.n_averaged.fill_(count)
        assert [waiting for waiting in range(1, 6) if average.due(waiting)] == due
