from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT

from data.description import load_description
from data.formats import read_split
from data.views import View
from models.backbones import make_backbone
from utils.errors import UserError
from wsol.methods import METHODS
from wsol.mining import train as trains
from wsol.mining.erasure import Mined, found, normalised
from wsol.mining.networks import Aggregation, ClassMaps, classification_loss, preservation_loss
from wsol.mining.train import Images, Mining, mine
from wsol.mining.train import mined as mined_by


def mined(cams: torch.Tensor, steps: int, *, raw: bool) -> Mined:
    own = Mined.start(len(cams), *cams.shape[1:], raw=raw)
    for _ in range(steps):
        own.step(cams)
    return own


def test_of_a_fixed_network_the_raw_heatmap_is_its_map() -> None:
    """Equation 8 is an identity where nothing is trained and nothing scaled."""
    cams = torch.randn(5, 12, 9)
    for steps in (1, 2, 3, 5):
        torch.testing.assert_close(mined(cams, steps, raw=True).heatmap(), cams, atol=1e-6, rtol=0)
    assert not torch.allclose(mined(cams, 3, raw=False).heatmap(), normalised(cams))


def test_each_step_erases_one_component() -> None:
    one = torch.zeros(1, 9, 9)
    one[0, 1:3, 1:3], one[0, 6:8, 6:8], one[0, 3, 3] = 1.0, 0.9, 0.8  # the first and the single cell touch by a corner
    own = mined(one, 3, raw=False)
    erased = [(before & ~after).nonzero().tolist() for before, after in zip(own.masks, own.masks[1:], strict=False)]
    assert erased[0] == [[0, 1, 1], [0, 1, 2], [0, 2, 1], [0, 2, 2], [0, 3, 3]]
    assert len(erased[1]) == 4
    assert erased[2] == []
    assert all((after <= before).all() for before, after in zip(own.masks, own.masks[1:], strict=False))
    assert float(own.maps[1].max()) == 1  # each step is scaled by itself
    assert float(own.heatmap().max()) <= 1 + 1e-6


def test_nothing_positive_gives_nothing() -> None:
    own = mined(-torch.ones(2, 4, 4), 2, raw=False)
    assert not own.heatmap().any()
    assert own.masks[-1].all()
    assert not found(torch.zeros(1, 3, 3), torch.ones(1, 3, 3, dtype=torch.bool)).any()


def test_logits_are_those_of_a_pool_and_a_linear_layer() -> None:
    """Erasing the features (eq. 1) and erasing the maps give the same logits."""
    network = ClassMaps(make_backbone("cnn6", 0.125), 4)
    torch.nn.init.normal_(network.bias)
    images, masks = torch.rand(2, 3, 64, 64), torch.rand(2, 4, 4, 4) > 0.4
    features = network.features(images)[-1]
    for label in range(4):
        erased = features * masks[:, label, None]
        wanted = erased.mean((2, 3)) @ network.weights.weight[label, :, 0, 0] + network.bias[label]
        torch.testing.assert_close(network.logits(network(images), masks)[:, label], wanted)


def test_no_gradient_where_it_is_erased() -> None:
    network = ClassMaps(make_backbone("cnn6", 0.125), 4)
    maps = network(torch.rand(2, 3, 64, 64)).detach().requires_grad_()
    masks = torch.rand(2, 4, *maps.shape[2:]) > 0.5
    classification_loss(network.logits(maps, masks), torch.ones(2, 4)).backward()
    assert maps.grad is not None
    assert not maps.grad[~masks].any()
    assert maps.grad[masks].all()


@pytest.mark.parametrize("name", ["darknet53", "resnet50"])
@pytest.mark.parametrize("upsampling", ["bilinear", "deconv"])
def test_aggregation_doubles_the_resolution(name: str, upsampling: str) -> None:
    with torch.device("meta"):
        network = ClassMaps(make_backbone(name), 8, upsampling)  # type: ignore[arg-type]
        images = torch.empty(2, 3, 512, 512)
        assert [own.shape[1:] for own in network.features(images)][-1] == (768, 32, 32)
        assert network(images).shape == (2, 8, 32, 32)


def test_aggregation_puts_the_coarse_features_first() -> None:
    own = Aggregation(6, 10)
    fine, coarse = torch.rand(1, 6, 8, 8), torch.rand(1, 10, 4, 4)
    torch.testing.assert_close(own(fine, coarse)[:, 512:], own.fine(fine))


def test_nothing_is_lost_where_nothing_moved() -> None:
    before = [torch.rand(3, 5, 4, 4), torch.rand(3, 7)]
    after = [own.clone().requires_grad_() for own in before]
    loss = preservation_loss(before, after)
    loss.backward()
    assert float(loss.detach()) == 0
    assert all(own.grad is not None and not own.grad.any() for own in after)
    moved = [before[0] + 0.5, before[1]]
    assert float(preservation_loss(before, moved)) == pytest.approx(0.5 * 5**0.5 / 2)


@pytest.mark.parametrize("keep", ["none", "vanilla", "features"])
def test_every_step_has_a_network_of_its_own(scenes_yaml: Path, keep: str) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    network = ClassMaps(make_backbone("cnn6", 0.125), 10)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images = Images(split.records[:4], View("pictures", 64), 10)
    mining = Mining(keep=keep, epochs=1, batch_size=4, lr=1e-3)  # type: ignore[arg-type]
    networks = mine(network, images, mining)
    assert len(networks) == 3
    assert all(torch.equal(value, state[name]) for name, value in networks[0].state_dict().items())
    weights = [own.weights.weight for own in networks]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])
    again = mine(network, images, mining)
    assert all(torch.equal(a.weights.weight, b.weights.weight) for a, b in zip(networks, again, strict=True))
    found = mined_by(networks, torch.rand(2, 3, 64, 64), torch.tensor([1, 2]))
    assert len(found.maps) == 3
    assert found.heatmap().shape == (2, *found.masks[0].shape[1:])


def test_of_identical_networks_everything_is_preserved(scenes_yaml: Path) -> None:
    """BatchNorm neither learns nor normalises by the batch: what is not trained stays, to the last buffer."""
    split = read_split(load_description(scenes_yaml), "train")
    images = Images(split.records[:4], View("pictures", 64), 10)
    network = ClassMaps(make_backbone("darknet53", 0.125), 10)
    for own in network.modules():
        if isinstance(own, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(own.running_mean)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before, mining = trains.frozen(network), Mining(epochs=1, batch_size=4, erased=0.25, lr=1e-9)
    network.backbone.requires_grad_(False)
    trains.train(network, before, images, None, mining, "cpu", 0)
    assert all(torch.equal(value, state[f"backbone.{name}"]) for name, value in network.backbone.state_dict().items())
    batch = next(iter(trains.make_loader(images.dataset, trains.InOrder(4), 4, workers=0)))
    found = trains.losses(trains.frozen(before), before, batch, None, mining, "cpu")
    assert float(found["preservation"]) == 0.0


@pytest.mark.parametrize("count", [16, 13])
def test_identical_networks_are_not_pushed_apart(scenes_yaml: Path, count: int) -> None:
    """An L2 norm has a gradient of length 1 however small it is: what rounds differently would count as moved."""
    records = (read_split(load_description(scenes_yaml), "train").records * count)[:count]
    images = Images(records, View("pictures", 64), 10)
    before = trains.frozen(ClassMaps(make_backbone("darknet53", 0.125), 10))
    own = trains.frozen(before).requires_grad_(True)
    batch = next(iter(trains.make_loader(images.dataset, trains.InOrder(count), count, workers=0)))
    masks = trains.erase([before], images, Mining(), "cpu")
    loss = trains.losses(own, before, batch, masks, Mining(batch_size=count), "cpu")["preservation"]
    loss.backward()
    assert float(loss.detach()) == 0
    assert not any(one.grad is not None and one.grad.any() for one in own.parameters())


def test_a_control_learns_as_long_without_erasing(scenes_yaml: Path) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    images, network = Images(split.records[:4], View("pictures", 64), 10), ClassMaps(make_backbone("cnn6", 0.125), 10)
    mining = Mining(epochs=1, batch_size=2, lr=1e-3, keep="vanilla")
    erased, control = (mine(network, images, replace(mining, erase=own)) for own in (True, False))
    assert len(erased) == len(control) == 3
    assert torch.equal(erased[0].weights.weight, control[0].weights.weight)
    assert not torch.equal(erased[1].weights.weight, control[1].weights.weight)
    other = mine(network, images, replace(mining, seed=1))
    assert not torch.equal(erased[1].weights.weight, other[1].weights.weight)


def test_none_is_erased_where_none_shall_be(scenes_yaml: Path) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    images = Images(split.records[:4], View("pictures", 64), 10)
    before, after = (trains.frozen(ClassMaps(make_backbone("cnn6", 0.125), 10)) for _ in range(2))
    batch = next(iter(trains.make_loader(images.dataset, trains.InOrder(4), 4, workers=0)))
    nothing = {key: np.zeros_like(own) for key, own in trains.erase([before], images, Mining(), "cpu").items()}
    none, whole, one = (
        trains.losses(after, before, batch, masks, Mining(erased=erased), "cpu")
        for masks, erased in ((nothing, 0.0), (None, 0.0), (nothing, 0.01))
    )
    assert none == whole
    assert none["class"] != one["class"]


def test_layers_that_are_preserved_and_masks_in_bits(scenes_yaml: Path) -> None:
    """The loss of all layers is the mean over them; a mask comes out of its bits as it went in."""
    split = read_split(load_description(scenes_yaml), "train")
    images = Images(split.records[:4], View("pictures", 64), 10)
    before, after = (trains.frozen(ClassMaps(make_backbone("cnn6", 0.125), 10)) for _ in range(2))
    batch = next(iter(trains.make_loader(images.dataset, trains.InOrder(4), 4, workers=0)))
    mining = Mining(erased=0.25, batch_size=4)
    kept = {
        layers: float(trains.losses(after, before, batch, None, replace(mining, layers=layers), "cpu")["preservation"])
        for layers in ("all", "maps", "logits")
    }  # two maps and the logits
    assert kept["all"] == pytest.approx((2 * kept["maps"] + kept["logits"]) / 3)
    masks = trains.erase([before], images, mining, "cpu")
    maps = before(batch.images)
    shown = trains.masks_of(batch, 4, maps, masks)
    rows, labels = batch.present.nonzero(as_tuple=True)
    wanted = mined_by([before], batch.images[rows], labels).masks[-1]
    assert torch.equal(shown[rows, labels], wanted)
    assert not wanted.all()
    assert sum(own.nbytes for own in masks.values()) == wanted.shape[1] * len(wanted)


def test_the_whole_network_learns_until_its_loss_stays(scenes_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far too high a rate: it ends after an epoch without a lower loss, with the weights of the lowest."""
    split = read_split(load_description(scenes_yaml), "train")
    images = Images(split.records[:5], View("pictures", 64), 10)
    network, losses = ClassMaps(make_backbone("darknet53", 0.125), 10), list[float]()
    of = trains.watched_loss

    def watched(*given: object) -> float:
        losses.append(of(*given))  # type: ignore[arg-type]
        return losses[-1]

    monkeypatch.setattr(trains, "watched_loss", watched)
    mining = Mining(epochs=1, whole_epochs=9, whole_lr=0.05, patience=1, batch_size=4)
    found = trains.aggregated(network, images, mining, "bilinear", "cpu")
    assert losses.index(min(losses)) == len(losses) - 2
    learnt, kept = trains.parted(images)
    assert (len(learnt.records), len(kept.records)) == (4, 1)
    assert of(found, kept, mining, "cpu") == pytest.approx(min(losses))
    with pytest.raises(UserError, match=r"mining:patience: 1 patients or images"):
        trains.parted(replace(images, records=images.records[:1]))


def test_one_word_has_the_authors_options() -> None:
    """Those of the study of the paper; others override them."""
    study = yaml.safe_load((ROOT / "configs" / "studies" / "mining_chestxray.yaml").read_text())
    (asked,) = [name for name in study["reports"]["px512"]["method"] if "steps=3" in name and "keep" not in name]
    assert METHODS.choose("mining:cai@0.5").options == METHODS.choose(asked).options
    own = METHODS.choose("mining:steps=1:cai:batch_size=32").options
    assert (own["steps"], own["batch_size"], own["new_epochs"]) == (1, 32, 10)
    with pytest.raises(UserError, match=r"no option `wang` — mining has :cai"):
        METHODS.choose("mining:wang")


def test_no_step_is_no_mining() -> None:
    with pytest.raises(UserError, match="mining: 0 steps — give T = 1"):
        Mining(steps=0)


def test_new_layers_learn_before_the_rest(scenes_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    network = ClassMaps(make_backbone("darknet53", 0.125), 10)
    images = Images(split.records[:4], View("pictures", 64), 10)
    learning: list[set[bool]] = []
    step = trains.train

    phases: list[tuple[int, float]] = []

    def watched(own: ClassMaps, *rest: object) -> None:
        mining = next(one for one in rest if isinstance(one, Mining))
        phases.append((mining.epochs, mining.lr))
        learning.append({parameter.requires_grad for parameter in own.backbone.parameters()})
        step(own, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(trains, "train", watched)
    mining = Mining(epochs=3, new_epochs=2, whole_epochs=1, whole_lr=1e-3, lr=1e-5, batch_size=4)
    found = trains.aggregated(network, images, mining, "bilinear", "cpu")
    assert learning == [{False}, {True}]
    assert phases == [(2, 1e-3), (1, 1e-3)]
    assert found(torch.rand(1, 3, 64, 64)).shape == (1, 10, 4, 4)
    with pytest.raises(UserError, match="CNN6 has no features at two resolutions"):
        ClassMaps(make_backbone("cnn6", 0.125), 4, "bilinear")


def test_classes_of_an_image_share_its_passes() -> None:
    networks = [ClassMaps(make_backbone("cnn6", 0.125), 4).eval() for _ in range(2)]
    passes: list[int] = []
    networks[0].backbone.blocks[0].register_forward_hook(lambda _, given, __: passes.append(len(given[0])))
    images, labels, which = torch.rand(3, 3, 64, 64), torch.tensor([0, 2, 3, 1, 0]), [0, 0, 0, 1, 2]
    together = mined_by(networks, images[which], labels).heatmap()
    assert passes == [3]
    alone = [mined_by(networks, images[[image]], labels[[row]]).heatmap() for row, image in enumerate(which)]
    torch.testing.assert_close(together, torch.cat(alone))
