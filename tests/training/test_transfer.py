"""Weights from elsewhere: fixed at first and then trained, at rates of their own, and a first layer that is lent."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from conftest import NO_DRAWS, Script, same_weights
from safetensors.torch import save_file
from test_init import weights_of
from test_kill import Dying, dying, one_thread, ranks, started
from torch import nn

import train
from data.description import load_description
from data.formats import read_split
from data.loader import DetectionSet
from data.transforms import PCAColour, pretrain_transform
from models.backbones import make_backbone
from models.cascade import Probes, StageNet
from models.fcn import FCN, FCNS
from models.heads import make_head
from models.weights_files import read_weights, whole_backbone
from training import init
from training.backbone import reuse_backbone
from training.held import Held
from training.schedule import set_rate
from training.update import by_factor, layer_name, layer_of, make_optimizer
from utils import checkpoint
from utils.config import Augment, Phase, Recipe
from utils.errors import UserError
from utils.recipes import LATER, without_later

__all__ = ["dying", "one_thread", "started"]  # fixtures of the tests of killed processes
RESNET = "timm/test_resnet"
FAST = ("--backbone", RESNET, "--cl-splits", 1, "--imgsz", 32, "--pretrain-epochs", 2, "--pretrain-batch-size", 32,
        "--pretrain-val-every", 2, "--device", "cpu", "--precision", "fp32", "--workers", 0, "--pretrain-only",
        *NO_DRAWS)  # fmt: skip


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_file(weights_of("test_resnet"), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def blocks(state: dict[str, Any], prefix: str) -> dict[str, torch.Tensor]:
    return {key.removeprefix(prefix): own for key, own in state.items() if key.startswith(prefix)}


def changed(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {key for key in one if not torch.equal(one[key], other[key])}


@pytest.mark.usefixtures("one_thread")
def test_fixed_for_half_of_the_epochs_then_trained_resumed_across_the_change(
    weights: Path, corners_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    flags = [*FAST, "--data", corners_yaml, "--project", tmp_path, "--init", weights, "--pretrain-freeze-epochs", 0.5]
    given = blocks(read_weights(weights, RESNET)["model"], "blocks.")
    script(train, *flags, "--name", "whole")
    assert dying("step", 3, *flags, "--name", "cut").returncode == -signal.SIGKILL  # the last batch of the first epoch
    cut = tmp_path / "train" / "cut"
    held = torch.load(cut / "weights" / "last.pt", weights_only=True)
    assert held["position"]["within"]["batch"] + 3 * held["position"]["within"]["epoch"] in (2, 3)
    assert not changed(given, blocks(held["model"], "part."))  # BatchNorm's statistics too
    script(train, "--resume", cut)
    ends = [tmp_path / "train" / name / "weights" / "backbone_cl1.pt" for name in ("whole", "cut")]
    assert same_weights(*ends)
    learnt = blocks(torch.load(ends[0], weights_only=True)["model"], "blocks.")
    assert len(changed(given, learnt)) > 0.8 * len(given)


@pytest.mark.usefixtures("one_thread")
def test_two_processes_hold_the_same(
    weights: Path, corners_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    flags = [*FAST, "--data", corners_yaml, "--project", tmp_path, "--init", weights, "--pretrain-freeze-epochs", 0.5,
             "--pretrain-optimizer", "sgd"]  # fmt: skip
    script(train, *flags, "--name", "one")
    ended = dying("step", 10**6, *ranks(*flags), "--name", "two")
    assert ended.returncode == 0, ended.stderr
    one, two = (
        torch.load(tmp_path / "train" / name / "weights" / "backbone_cl1.pt", weights_only=True)
        for name in ("one", "two")
    )
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, atol=1e-4, rtol=1e-3, msg=name)


def test_held_modules_have_no_gradient_and_no_new_statistics() -> None:
    for several in (False, True):
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        held = Held.of([net[0], net[1]], Phase(epochs=10, freeze_epochs=0.3), several=several)
        assert held
        for epoch in (0, 2, 3):
            net.train()
            held.begin(epoch)
            before = net[1].running_mean.clone()  # type: ignore[union-attr, operator]
            net(torch.rand(2, 3, 8, 8)).sum().backward()
            held.before_update(epoch)
            assert (net[0].weight.grad is None) == (epoch < 3)
            assert net[2].weight.grad is not None
            assert torch.equal(before, net[1].running_mean) == (epoch < 3)  # type: ignore[arg-type]
            net.zero_grad()


@pytest.mark.parametrize(
    ("share", "epochs", "until"), [(0, 4, None), (0.04, 10, 1), (0.5, 4, 2), (0.9, 4, 3), (1, 4, 4), (1, 1, 1)]
)
def test_a_fraction_is_neither_none_nor_all(share: float, epochs: int, until: int | None) -> None:
    held = Held.of([nn.ReLU()], Phase(epochs=epochs, freeze_epochs=share), several=False)
    assert (held.until if held else None) == until


def test_layers_have_rates_of_their_own() -> None:
    model = FCN(make_backbone("darknet53", 0.0625), 3, FCNS.choose("fcn16s"))
    phase = Phase(optimizer="sgd", rates={"backbone": 0.1, "b2": 0, "scores": 2}, weight_decay=0.1)
    optimizer = make_optimizer(model, phase)
    set_rate(optimizer, 0.5)
    rates = {id(own): group["lr"] for group in optimizer.param_groups for own in group["params"]}
    for name, own in model.named_parameters():
        wanted = 1.0 if name.startswith("scores") else 0.5 if name.startswith("enlarge") else 0.05
        assert rates[id(own)] == pytest.approx(0.0 if name.startswith("backbone.blocks.1.") else wanted), name
    before = {name: own.detach().clone() for name, own in model.named_parameters()}
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    still = {name for name, own in model.named_parameters() if torch.equal(own, before[name])}
    assert {name for name in before if name.startswith("backbone.blocks.1.")} <= still
    assert not any(name.startswith(("scores", "backbone.blocks.22")) for name in still)


def test_names_of_layers() -> None:
    backbone = make_backbone("cnn6", 0.125)
    stage = StageNet(backbone, 2, 4, make_head("gap", (32, 4, 4), 3))
    assert {layer_name(stage, name).partition(".")[0] for name, _ in stage.named_parameters()} == {"b3", "b4", "head"}
    probes = Probes([make_head("gap", (32, 4, 4), 3), make_head("author", (32, 4, 4), 3)])
    wanted = {f"head.{name}" for name, _ in probes.heads[1].named_parameters()}
    assert wanted <= {layer_name(probes, name) for name, _ in probes.named_parameters()}
    factors = by_factor(probes, {"head": 0.1})
    assert (len(factors[1.0]), len(factors[0.1])) == (0, len(list(probes.parameters())))
    assert layer_of("b1.conv.weight", ["b10", "backbone", "b1"]) == "b1"
    assert layer_of("b10.conv.weight", ["b1", "backbone"]) == "backbone"
    assert layer_of("neck.top.weight", ["backbone", "b1"]) is None


def test_one_rate_for_all_is_what_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    groups = make_optimizer(model, Phase()).param_groups
    assert [len(group["params"]) for group in groups] == [1, 3]
    assert "factor" not in groups[0]


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--rates", "bakbone=0.1"], r"no layer `bakbone` — did you mean backbone\? there is backbone, b1,|no layer"),
        (["--pretrain-rates", "b24=1"], "--pretrain-rates: no layer `b24`"),
        (["--rates", "b1"], "rates"),
        (["--rates", "b1=-1"], "rates"),
        (["--freeze-epochs", "0.5", "--cl-splits", "0"], "freeze_epochs is for weights from elsewhere"),
        (["--pretrain-freeze-epochs", "0.5"], "pretrain.freeze_epochs is for weights that init gives"),
        (["--freeze-epochs", "1.5"], "give 1 or less"),
        (["--freeze-epochs", "0.5", "--epochs", "1"], "--freeze-epochs: 0.5 of a single epoch is no number of epochs"),
        (
            ["--pretrain-freeze-epochs", "0.5", "--pretrain-epochs", "1", "--init", "timm"],
            "--pretrain-freeze-epochs: 0.5 of a single epoch",
        ),
        (["--backbone", "monster", "--init", "torchvision", "--init-freeze"], "only the first block of monster begins"),
    ],
)
def test_what_cannot_be(flags: list[str], what: str, scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    with pytest.raises(UserError, match=what):
        script(train, "--data", scenes_yaml, "--width", 0.0625, "--project", tmp_path, *flags)
    assert not (tmp_path / "train").exists()


def test_digests_of_former_recipes_stay() -> None:
    values = Recipe().model_dump(mode="json")
    without_later(values)
    assert "rates" not in values["train"]
    assert not {"freeze_epochs", "rates"} & values["pretrain"].keys()
    assert not {"pca", "noise", "erasing"} & values["augment"].keys()
    said = Recipe(train={"freeze_epochs": 0.5}, augment={"pca": 0.1}).model_dump(mode="json")  # type: ignore[arg-type]
    without_later(said)
    assert (said["train"]["freeze_epochs"], said["augment"]["pca"]) == (0.5, 0.1)
    assert "train.rates" in LATER


def test_the_first_layer_of_another(tmp_path: Path) -> None:
    torch.manual_seed(1)
    peer = torchvision.models.alexnet(num_classes=4)
    torch.save(peer.state_dict(), tmp_path / "alexnet.pth")
    content = read_weights(tmp_path / "alexnet.pth", "monster", 0.25)
    assert set(content["model"]) == {"blocks.0.1.weight", "blocks.0.1.bias"}
    backbone = make_backbone("monster", 0.25).eval()
    checkpoint.load_state(backbone, backbone.state_dict() | content["model"], "here")
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        first = backbone.blocks[0](images)
        normal = backbone.blocks[0][0](images)  # type: ignore[index]
        assert torch.equal(first, peer.features[:2](normal))
        for block in backbone.blocks[1:]:
            first = block(first)
    assert first.shape == (2, 16, 7, 7)
    torch.save({"other.weight": torch.zeros(1)}, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"has no `features\.0\.weight` — give a file of alexnet"):
        read_weights(tmp_path / "none.pth", "monster")


@pytest.mark.parametrize(("upto", "count"), [(None, 5), ("b3", 3)])
def test_blocks_that_were_not_given_are_not_fixed(upto: str | None, count: int, tmp_path: Path) -> None:
    lent = make_backbone("alexnet").state_dict()
    backbone = make_backbone("alexnet_star")
    content = whole_backbone("alexnet_star", "elsewhere", lent)
    recipe = Recipe(backbone="alexnet_star", init=tmp_path / "alexnet.pth", reuse_upto=upto, freeze=True)
    reuse_backbone(backbone, tmp_path / "alexnet.pth", recipe, content)
    assert (backbone.reused, backbone.frozen, len(backbone.blocks)) == (count, count, 7)
    fixed = {key for key, own in backbone.named_parameters() if not own.requires_grad}
    assert fixed == {key for key in lent if int(key.split(".")[1]) < count}


def test_what_a_run_will_fetch_for_borrowed_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "FOLDER", tmp_path)
    for name in ("monster", "alexnet_star", "alexnet"):
        said = init.will_fetch(Recipe(backbone=name, init="torchvision"), download=True)
        assert said is not None
        assert said.startswith("alexnet-owt-7be5be79.pth is fetched from https://")


def test_a_run_on_a_lent_layer_and_its_own_file(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    torch.save(torchvision.models.alexnet(num_classes=4).state_dict(), tmp_path / "alexnet.pth")
    flags = ["--backbone", "monster", "--width", 0.0625, "--cl-splits", 1, "--imgsz", 32, "--pretrain-epochs", 2,
             "--pretrain-head", "gap", "--pretrain-freeze-epochs", 1, "--pretrain-only", "--device", "cpu",
             "--precision", "fp32", "--workers", 0, "--data", corners_yaml, "--project", tmp_path,
             *NO_DRAWS]  # fmt: skip
    script(train, *flags, "--init", tmp_path / "alexnet.pth")
    path = tmp_path / "train" / "exp" / "weights" / "backbone_cl1.pt"
    own, lent = (read_weights(file, "monster", 0.0625)["model"] for file in (path, tmp_path / "alexnet.pth"))
    assert len(own) > len(lent)
    assert all(torch.equal(own[key], tensor) for key, tensor in lent.items())


def test_pca_colour_varies_as_said() -> None:
    torch.manual_seed(0)
    image, colour = torch.full((3, 2, 2), 128, dtype=torch.uint8), PCAColour(1.0)
    shifts = torch.stack([colour(image, 0)[0][:, 0, 0].float() - 128 for _ in range(4000)]) / 255
    axes, spread = torch.tensor(colour.AXES), torch.tensor(colour.SPREAD)
    torch.testing.assert_close(torch.cov(shifts.T), axes @ torch.diag(spread**2) @ axes.T, atol=2e-3, rtol=0.1)
    torch.testing.assert_close(axes.T @ axes, torch.eye(3), atol=1e-3, rtol=0)
    changed = colour(torch.randint(100, 150, (3, 8, 8), dtype=torch.uint8))[0]
    assert changed.dtype == torch.uint8


def test_pca_draws_depend_on_seed_epoch_and_index(scenes_yaml: Path) -> None:
    records = read_split(load_description(scenes_yaml), "train").records
    plain = Augment(fliplr=0, photometric=0)
    sets = [DetectionSet(records, pretrain_transform(64, plain.model_copy(update={"pca": pca}), 1), 0, 10)
            for pca in (0.0, 0.5)]  # fmt: skip
    plainly, first, again, later, other = (
        sets[which][draw][0] for which, draw in ((0, (1, 2)), (1, (1, 2)), (1, (1, 2)), (1, (2, 2)), (1, (1, 3)))
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert first.shape == other.shape
    inside = (plainly > 40) & (plainly < 215) & (first > 0) & (first < 255)
    for channel in range(3):  # one colour for the whole image
        shifts = (first[channel].float() - plainly[channel].float())[inside[channel]]
        assert shifts.std() < 1
    assert Recipe(augment={"pca": 0.1, "fliplr": 0, "photometric": 0}, pretrain={"crop": 1, "jitter": 0}).augments  # type: ignore[arg-type]
