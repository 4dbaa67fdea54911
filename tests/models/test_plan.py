from itertools import accumulate, combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.darknet import DarkNet, DarkNetConfig
from models.plan import make_plan, parameter_count, plan_table, split_blocks, split_evenly
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


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def any_backbone(request: pytest.FixtureRequest) -> Backbone:
    with torch.device("meta"):
        return make_backbone(request.param)


def test_splits_are_nested(any_backbone: Backbone) -> None:
    last: set[int] = set()
    for k in range(1, len(any_backbone.blocks) + 1):
        sizes = split_blocks(any_backbone, k)
        cuts = set(accumulate(sizes))
        assert len(sizes) == len(cuts) == k
        assert last < cuts
        last = cuts


def test_stages_are_cut_apart_first(any_backbone: Backbone) -> None:
    assert split_blocks(any_backbone, len(any_backbone.stages)) == list(any_backbone.stages)


@pytest.mark.parametrize("balance", ["stage", "flops", "memory"])
def test_plans_hold_every_block_once(any_backbone: Backbone, balance: str) -> None:
    whole = make_plan(any_backbone, 1, 64)[0]
    assert whole.parameters == parameter_count(any_backbone)
    count = len(any_backbone.blocks)
    for k in {2, 3, min(5, count), count}:
        plan = make_plan(any_backbone, k, 64, balance)
        assert [part.start for part in plan] == [0, *[part.stop for part in plan[:-1]]]
        assert plan[-1].stop == whole.stop
        assert len(plan) == k
        for field in ("convolutions", "parameters", "macs", "activations"):
            assert sum(getattr(part, field) for part in plan) == getattr(whole, field)


@pytest.mark.parametrize(("k", "wanted"), [(2, [2, 21]), (3, [1, 6, 16])])
def test_memory_is_activations_where_the_batch_is_large(full: DarkNet, k: int, wanted: list[int]) -> None:
    assert [part.stop - part.start for part in make_plan(full, k, 256, "memory", batch=1024)] == wanted


def test_memory_is_weights_where_it_is_small(full: DarkNet) -> None:
    shares = [[part.stop - part.start for part in make_plan(full, 3, 256, "memory", batch=b)] for b in (1, 16, 64)]
    assert shares == [[15, 5, 3], [2, 11, 10], [1, 7, 15]]


def test_floor_of_activations_is_reached_with_three(full: DarkNet) -> None:
    plan = make_plan(full, 3, 256, "memory", batch=1024)
    largest = max(part.activations for part in plan)
    assert round(100 * largest / sum(part.activations for part in plan), 1) == 38.1
    assert largest == make_plan(full, 23, 256)[0].activations


def test_even_work(full: DarkNet) -> None:
    plan = make_plan(full, 7, 256, "flops")
    assert round(100 * max(part.macs for part in plan) / sum(part.macs for part in plan), 1) < 18.1


def every_split(costs: list[int], k: int) -> list[list[int]]:
    inner = range(1, len(costs))
    return [[b - a for a, b in pairwise([0, *cuts, len(costs)])] for cuts in combinations(inner, k - 1)]


def sums(costs: list[int], sizes: list[int]) -> list[int]:
    ends = accumulate(sizes, initial=0)
    return sorted((sum(costs[a:b]) for a, b in pairwise(ends)), reverse=True)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.data())
def test_even_split_is_the_best_there_is(costs: list[int], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(costs)))
    found = split_evenly(costs, k)
    assert len(found) == k
    assert sum(found) == len(costs)
    assert sums(costs, found) == min(sums(costs, sizes) for sizes in every_split(costs, k))


def test_ties_take_the_earliest_cuts() -> None:
    assert split_evenly([1, 1, 1], 2) == [1, 2]


@pytest.mark.parametrize(("name", "most"), [("cnn6", 6), ("resnet50", 16), ("vgg16", 13)])
def test_split_names_the_most_there_can_be(name: str, most: int) -> None:
    with torch.device("meta"):
        backbone = make_backbone(name)
    with pytest.raises(UserError, match=f"to {most},"):
        make_plan(backbone, most + 1, 64, "flops")


def test_unknown_balance(full: DarkNet) -> None:
    with pytest.raises(UserError, match="--balance: no balance 'even' — give stage, flops or memory"):
        make_plan(full, 2, 64, "even")


def test_costs_of_every_block_are_wanted(full: DarkNet) -> None:
    with pytest.raises(ValueError, match="each of 23 blocks"):
        split_blocks(full, 2, "flops", [1, 2])


@pytest.mark.parametrize(("name", "wanted"), [("darknet53", "stem, b1"), ("resnet50", "stem, b1"), ("cnn6", "b1")])
def test_table_names_a_stem_where_there_is_one(name: str, wanted: str) -> None:
    with torch.device("meta"):
        backbone = make_backbone(name)
    lines = plan_table(make_plan(backbone, len(backbone.blocks), 64), backbone.taps).splitlines()
    assert lines[1].strip().split("  ")[0] == wanted
    assert len({len(line) for line in lines}) == 1
    assert sum(line.endswith("tap") for line in lines) == len(backbone.taps)


def test_six_layers_cost_what_the_source_says() -> None:
    with torch.device("meta"):
        plan = make_plan(make_backbone("cnn6"), 6, 224)
    assert [part.parameters for part in plan] == [7_680, *[590_592] * 5]
    assert [part.shape[1:] for part in plan] == [(side, side) for side in (114, 59, 31, 17, 10, 7)]
    assert round(plan[1].macs / 1e9, 1) == 8.2
    assert round(sum(part.macs for part in plan) / 1e9, 1) == 12.0


def test_a_norm_of_other_channels_is_refused() -> None:
    backbone = make_backbone("cnn6", 0.0625)
    backbone.blocks[2].norm = nn.BatchNorm2d(7)
    with pytest.raises(UserError, match=r"b3 cannot take images of 64 px \(BatchNorm of 7 channels is given 16\)"):
        make_plan(backbone, 2, 64)


def test_plan_leaves_modes_alone(tiny: DarkNet) -> None:
    tiny.freeze(11)
    make_plan(tiny, 5, 64)
    assert [block.training for block in tiny.blocks] == [False] * 11 + [True] * 12


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
