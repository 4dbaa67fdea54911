import pytest
import torch
from torch import nn

from models.cascade import CascadeStage, make_plan, split_blocks
from models.darknet import DarkNet, DarkNetConfig
from utils.errors import UserError

SPLITS = {
    1: [23],
    2: [11, 12],
    3: [11, 8, 4],
    4: [3, 8, 8, 4],
    5: [1, 2, 8, 8, 4],
    7: [1, 2, 4, 4, 4, 4, 4],
    9: [1, 2, 4, 4, 2, 2, 4, 2, 2],
    15: [1, 2, 2, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 1, 1],
    20: [1, 2, 1, 1, 1, 1, 2, 2, *[1] * 12],
    23: [1] * 23,
}


@pytest.fixture(scope="module")
def full() -> DarkNet:
    return DarkNet()


@pytest.fixture
def tiny() -> DarkNet:
    return DarkNet(DarkNetConfig(width=0.125))


@pytest.mark.parametrize(("k", "wanted"), SPLITS.items())
def test_split(full: DarkNet, k: int, wanted: list[int]) -> None:
    assert split_blocks(full, k) == wanted


def test_splits_are_nested(full: DarkNet) -> None:
    def cuts(k: int) -> set[int]:
        sizes = split_blocks(full, k)
        return {sum(sizes[: i + 1]) for i in range(k)}

    for k in range(2, 24):
        assert cuts(k - 1) < cuts(k)


@pytest.mark.parametrize("k", [-1, 0, 24])
def test_split_out_of_range(full: DarkNet, k: int) -> None:
    with pytest.raises(UserError, match="to 23"):
        split_blocks(full, k)


def test_plan_of_three(full: DarkNet) -> None:
    plan = make_plan(full, 3, 256)
    assert [part.parameters for part in plan] == [3_201_760, 11_678_720, 25_704_448]
    assert [part.convolutions for part in plan] == [26, 17, 9]
    assert [round(part.macs / 1e9, 3) for part in plan] == [4.654, 2.986, 1.644]
    assert [part.shape for part in plan] == [(256, 32, 32), (512, 16, 16), (1024, 8, 8)]
    total = sum(part.activations for part in plan)
    assert [round(100 * part.activations / total, 1) for part in plan] == [82.5, 13.8, 3.7]
    assert plan[1].blocks == "b12–b19"


def test_plan_of_seven(full: DarkNet) -> None:
    plan = make_plan(full, 7, 256)
    assert [part.parameters for part in plan] == [
        40_160,
        238_592,
        1_609_216,
        1_313_792,
        6_429_696,
        5_249_024,
        25_704_448,
    ]
    assert [round(part.macs / 1e9, 3) for part in plan] == [0.694, 0.973, 1.644, 1.342, 1.644, 1.342, 1.644]
    assert round(sum(part.activations for part in plan) / 1e6, 3) == 12.386


def test_plan_leaves_the_network_alone(tiny: DarkNet) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    make_plan(tiny, 5, 64)
    assert tiny.training
    assert all(module.training for module in tiny.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.state_dict().items())


def train_a_step(stage: CascadeStage) -> None:
    stage.train()
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.1)
    loss = nn.functional.binary_cross_entropy_with_logits(stage(torch.rand(4, 3, 64, 64)), torch.ones(4, 5))
    loss.backward()
    optimizer.step()


@pytest.mark.parametrize(("start", "stop"), [(0, 11), (11, 19), (19, 23)])
def test_prefix_is_untouched_to_the_last_buffer(tiny: DarkNet, start: int, stop: int) -> None:
    stage = CascadeStage(tiny, start, stop, classes=5)
    before = {name: tensor.clone() for name, tensor in stage.prefix.state_dict().items()}
    others = {name: tensor.clone() for name, tensor in tiny.blocks[stop:].state_dict().items()}
    train_a_step(stage)
    assert all(parameter.grad is None for parameter in stage.prefix.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in stage.prefix.state_dict().items())
    assert all(torch.equal(tensor, others[name]) for name, tensor in tiny.blocks[stop:].state_dict().items())


def test_every_trainable_parameter_gets_a_gradient(tiny: DarkNet) -> None:
    stage = CascadeStage(tiny, 11, 19, classes=5)
    train_a_step(stage)
    for name, parameter in stage.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient for {name}"
            assert parameter.grad.abs().sum() > 0, f"zero gradient for {name}"


def test_prefix_gives_the_same_in_both_modes(tiny: DarkNet) -> None:
    stage, images = CascadeStage(tiny, 11, 19, classes=5), torch.rand(2, 3, 64, 64)
    outputs = [stage.train(mode).prefix(images) for mode in (True, False)]
    assert torch.equal(*outputs)
