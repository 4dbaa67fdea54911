import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.backbones import make_backbone
from models.cascade import Prefix, Probes, StageNet, Taps
from models.heads import make_head

CLASSES = 5
CUTS = [(0, 11), (11, 19), (19, 23)]


@pytest.fixture
def tiny() -> Backbone:
    return make_backbone("darknet53", 0.125)


def make_stage(backbone: Backbone, start: int, stop: int, *, drifting: bool = False) -> StageNet:
    head = make_head("author", (backbone.channels[stop - 1], 1, 1), CLASSES)
    return StageNet(backbone, start, stop, head, drifting=drifting)


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Last part of the names of what differs."""
    return {
        name.rsplit(".", 1)[1] for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])
    }


def train_a_step(stage: StageNet, x: Tensor) -> None:
    stage.train()
    optimizer = torch.optim.SGD([p for p in stage.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    nn.functional.binary_cross_entropy_with_logits(stage(x), torch.ones(4, CLASSES)).backward()
    optimizer.step()


@pytest.mark.parametrize(("start", "stop"), CUTS)
def test_only_part_and_head_learn(tiny: Backbone, start: int, stop: int) -> None:
    prefix, stage = Prefix(tiny, start), make_stage(tiny, start, stop)
    before, after = copied(tiny.blocks[:start]), copied(tiny.blocks[stop:])
    part = copied(stage.part)
    train_a_step(stage, prefix(torch.rand(4, 3, 64, 64)))
    assert not changed(tiny.blocks[:start], before)
    assert not changed(tiny.blocks[stop:], after)
    assert changed(stage.part, part) == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    for name, parameter in stage.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        assert parameter.grad.abs().sum() > 0, f"zero gradient for {name}"


def test_names_of_a_stage(tiny: Backbone) -> None:
    plain, drifting = make_stage(tiny, 11, 19), make_stage(tiny, 11, 19, drifting=True)
    assert {name.split(".")[0] for name in plain.state_dict()} == {"part", "head"}
    assert {name.split(".")[0] for name in drifting.state_dict()} == {"prefix", "part", "head"}
    assert plain.part[0] is tiny.blocks[11]


def test_drifting_prefix_changes_its_statistics_alone(tiny: Backbone) -> None:
    stage = make_stage(tiny, 11, 19, drifting=True)
    before = copied(stage.prefix)
    train_a_step(stage, torch.rand(4, 3, 64, 64))
    assert changed(stage.prefix, before) == {"running_mean", "running_var", "num_batches_tracked"}
    assert all(parameter.grad is None for parameter in stage.prefix.parameters())
    settled = copied(stage.prefix)
    stage.eval()(torch.rand(4, 3, 64, 64))
    assert not changed(stage.prefix, settled)


def test_drifting_gives_what_prefix_and_stage_give_in_evaluation(tiny: Backbone) -> None:
    images = torch.rand(2, 3, 64, 64)
    stage = make_stage(tiny, 11, 19, drifting=True).eval()
    plain = StageNet(tiny, 11, 19, stage.head).eval()
    torch.testing.assert_close(stage(images), plain(Prefix(tiny, 11)(images)))


def test_a_stage_frees_what_an_earlier_one_froze(tiny: Backbone) -> None:
    Prefix(tiny, 19)
    assert all(p.requires_grad for p in make_stage(tiny, 11, 19).parameters())


@pytest.mark.parametrize("mode", [True, False])
def test_prefix_is_the_same_in_any_mode(tiny: Backbone, mode: bool) -> None:
    prefix, images = Prefix(tiny, 11), torch.rand(2, 3, 64, 64)
    wanted, before = prefix(images), copied(prefix)
    tiny.train(mode)
    assert torch.equal(prefix.train(mode)(images), wanted)
    tiny.train(mode)  # behind the prefix' back: the blocks are the backbone's
    assert torch.equal(prefix(images), wanted)
    assert not changed(prefix, before)
    assert not any(module.training for module in prefix.modules())
    assert not wanted.requires_grad


def test_prefix_of_nothing_gives_the_images(tiny: Backbone) -> None:
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(Prefix(tiny, 0)(images), images)


def test_prefix_goes_on_from_features(tiny: Backbone) -> None:
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(Prefix(tiny, 11, start=3)(Prefix(tiny, 3)(images)), Prefix(tiny, 11)(images))


def test_taps_are_the_prefixes(tiny: Backbone) -> None:
    images = torch.rand(2, 3, 64, 64)
    taps = Taps(tiny, [19, 3, 11]).train()
    before = copied(taps)
    tiny.train()
    features = taps(images)
    assert not changed(taps, before)
    assert not any(feature.requires_grad for feature in features)
    for feature, cut in zip(features, (19, 3, 11), strict=True):
        assert torch.equal(feature, Prefix(tiny, cut)(images))


@pytest.mark.parametrize("cuts", [[], [0], [24], [3, 99]])
def test_taps_out_of_range(tiny: Backbone, cuts: list[int]) -> None:
    with pytest.raises(ValueError, match="of 23 blocks"):
        Taps(tiny, cuts)


def test_probes_learn_apart(tiny: Backbone) -> None:
    cuts = (3, 11, 19)
    probes = Probes([make_head("gap", (tiny.channels[cut - 1], 1, 1), CLASSES) for cut in cuts])
    features = Taps(tiny, cuts)(torch.rand(2, 3, 64, 64))
    logits = probes(features)
    assert [one.shape for one in logits] == [(2, CLASSES)] * 3
    logits[1].sum().backward()
    learnt = [all(p.grad is not None for p in head.parameters()) for head in probes.heads]
    assert learnt == [False, True, False]
    with pytest.raises(ValueError, match="zip"):
        probes(features[:2])
