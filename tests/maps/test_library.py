"""Maps of networks that were not made here."""

import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam, Saliency
from torch import Tensor, nn

from maps import explain, measure
from maps.evidence import Evidence
from maps.explained import Network
from maps.frame import Frame
from maps.kinds import MAPS, MapEntry
from maps.library import Values
from maps.tapped import Tapped
from utils.errors import UserError

SIDE = 64


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.resnet18(num_classes=5)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


LABELS = [4, 0, 2]
KINDS = ["gradcam", "saliency"]
BOXES = [np.array([[8.0, 8, 40, 40]]), np.array([[0.0, 0, 64, 20], [30, 30, 60, 60]]), np.array([[50.0, 2, 63, 63]])]


def test_maps_are_captums_and_lie_where_they_look(model: nn.Module, images: Tensor) -> None:
    maps = explain(
        model, ["layer3", "layer4"], images=images, labels=LABELS, kinds=["gradcam", "saliency"], batch_size=2
    )
    assert list(maps.evidence) == [("gradcam", "layer3"), ("gradcam", "layer4"), ("saliency", "pixels")]
    still, target = model.eval(), torch.tensor(LABELS)
    for name, frame in (("layer3", Frame(16, 0)), ("layer4", Frame(32, 0))):
        wanted = LayerGradCam(still, getattr(still, name)).attribute(images, target, relu_attributions=True)[:, 0]
        own = maps.evidence["gradcam", name]
        assert own.frame == frame
        torch.testing.assert_close(own.maps, wanted, rtol=1e-4, atol=1e-7)
        assert torch.equal(maps["gradcam", name], frame.placed(own.maps, SIDE, SIDE))
    wanted = Saliency(still).attribute(images.clone().requires_grad_(), target, abs=True).amax(1)
    torch.testing.assert_close(maps["saliency", "pixels"], wanted, rtol=1e-4, atol=1e-7)


def test_the_model_stays_as_it_is(model: nn.Module, images: Tensor) -> None:
    model.train()
    before = {name: own.clone() for name, own in model.state_dict().items()}
    one = explain(model, ["layer1"], images=images[:1], labels=LABELS[:1], kinds=["gradcam", "scorecam", "smoothgrad"])
    assert model.training
    assert all(torch.equal(own, before[name]) for name, own in model.state_dict().items())
    assert all(own.grad is None for own in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())
    model.requires_grad_(False)
    other = explain(model, ["layer1"], images=images[:1], labels=LABELS[:1])
    model.requires_grad_(True)
    torch.testing.assert_close(one["gradcam", "layer1"], other["gradcam", "layer1"])
    assert not images.requires_grad


def test_layers_in_place_and_in_any_order(images: Tensor) -> None:
    """The ReLU behind a convolution writes over what the convolution has put out."""
    first, second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3, padding=1)
    steps = nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
    model = nn.Sequential(steps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    (late, _), (early, gradient) = Tapped(model, ["0.2", "0.0"]).by_layer(images, torch.tensor([0, 1, 2]))
    assert early.min() < 0
    assert late.shape == (3, 4, 62, 62)
    assert early.shape == gradient.shape == (3, 8, 62, 62)
    with torch.no_grad():
        torch.testing.assert_close(early, first(images))
        torch.testing.assert_close(late, second(first(images).relu()))


def test_normalising_is_part_of_the_model(model: nn.Module, images: Tensor) -> None:
    mean, deviation = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    inside = nn.Sequential(torchvision.transforms.Normalize(mean, deviation), model)
    one = explain(inside, ["1.layer4"], images=images, labels=LABELS, kinds=["gradcam", "saliency"])
    kinds = ["gradcam", "saliency"]
    other = explain(model, ["layer4"], images=images, labels=LABELS, kinds=kinds, normalise=(mean, deviation))
    for mine, its in zip(one.evidence.values(), other.evidence.values(), strict=True):
        torch.testing.assert_close(mine.maps, its.maps)


def test_tokens_and_channels_last(images: Tensor) -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=128, num_classes=5, depth=2).eval()
    large = torch.rand(2, 3, 128, 128)
    with pytest.raises(UserError, match=r"layer blocks\.0: its cells look as far as the edge.*aligned=False"):
        explain(vit, ["blocks.0"], images=large, kinds=["layercam"])
    maps = explain(vit, ["blocks.0"], images=large, kinds=["layercam"], aligned=False)
    assert maps.evidence["layercam", "blocks.0"].maps.shape == (2, 8, 8)
    assert maps["layercam", "blocks.0"].shape == (2, 128, 128)
    last = nn.Sequential(nn.Conv2d(3, 6, 4, 4), torchvision.ops.Permute([0, 2, 3, 1]), nn.LayerNorm(6), Pool(6, 5))
    one, other = (explain(last, [name], images=images, labels=LABELS) for name in ("1", "2"))
    assert one.evidence["gradcam", "1"].frame == other.evidence["gradcam", "2"].frame == Frame(4, 1.5)
    assert one.evidence["gradcam", "1"].maps.shape == (3, 16, 16)


class Pool(nn.Module):
    """The mean of maps with channels last, and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.linear(maps.mean((1, 2)))
        return found


def test_a_layer_that_is_named_twice_has_one_map(model: nn.Module, images: Tensor) -> None:
    once, twice, alone = (
        explain(model, layers, images=images, labels=LABELS, kinds="gradcam")["gradcam", "layer4"]
        for layers in (["layer4"], ["layer4", "layer4"], "layer4")
    )
    assert torch.equal(once, twice)
    assert torch.equal(once, alone)


@pytest.mark.parametrize("kind", ["gradcam", "scorecam"])
def test_a_layer_that_is_passed_twice_is_refused(kind: str, images: Tensor) -> None:
    """Its two maps have cells of 1 and of 2 pixels: none of them is `its` map."""
    relu = nn.ReLU()
    steps = nn.Conv2d(3, 4, 3, padding=1), relu, nn.Conv2d(4, 4, 3, 2, 1), relu
    model = nn.Sequential(*steps, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(UserError, match="layer 1: is passed several times by an image"):
        explain(model, ["1"], images=images, kinds=[kind])


def test_what_was_measured(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    maps = explain(model, ["layer4"], images=images, labels=LABELS, kinds=["gradcam", "saliency"])
    values = measure(maps, BOXES)
    assert [(row["map"], row["layer"]) for row in values.rows] == [("gradcam", "layer4"), ("saliency", "pixels")]
    pointing = values.by_image["saliency", "pixels"]["pointing"]
    peaks = maps["saliency", "pixels"].flatten(1).argmax(1)
    for row, (peak, boxes) in enumerate(zip(peaks.tolist(), BOXES, strict=True)):
        y, x = divmod(peak, SIDE)
        assert pointing[row] == any(a <= x < c and b <= y < d for a, b, c, d in boxes.tolist())
    few = measure(maps, BOXES, measures=["iou", "pointing"], percentile=90)
    assert str(few).splitlines()[0].split() == ["map", "layer", "iou", "pointing"]
    few.write(tmp_path / "values.csv")
    header, *lines = (tmp_path / "values.csv").read_text().splitlines()
    assert header == "map,layer,image,iou,pointing"
    assert len(lines) == 6


def test_what_is_shown(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    maps = explain(model, ["layer3", "layer4"], images=images, labels=LABELS)
    figure = maps.show(tmp_path / "maps.png", boxes=BOXES, rows=2)
    assert (len(figure.axes), figure.axes[1].get_title()) == (6, "Grad-CAM\nlayer3")
    assert (tmp_path / "maps.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(UserError, match="there is gradcam layer3, gradcam layer4"):
        maps["gradcam", "layer2"]
    with pytest.raises(UserError, match=r"no format of pictures ends in .xyz"):
        maps.show(tmp_path / "maps.xyz")
    assert [path.name for path in tmp_path.iterdir()] == ["maps.png"]


def test_inside_inference_mode(model: nn.Module, images: Tensor) -> None:
    wanted = explain(model, ["layer4"], images=images, labels=LABELS)
    with torch.inference_mode():
        found = explain(model, ["layer4"], images=images * 1, labels=torch.tensor(LABELS), kinds=KINDS)
    assert torch.equal(found["gradcam", "layer4"], wanted["gradcam", "layer4"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": ["layer44"]}, r"layers: no layer `layer44` in ResNet — did you mean layer4"),
        ({"layers": ["avgpool"]}, "layer avgpool: has one cell for the whole image — name one in front of the pool"),
        ({"layers": ["fc"]}, r"layer fc: puts out \[3, 5\], no maps"),
        ({"layers": []}, "layers: Grad-CAM wants layers"),
        ({"kinds": ["gradcamm"]}, "kinds: no map `gradcamm` — did you mean gradcam"),
        ({"kinds": []}, "kinds: none given — give some of gradcam, "),
        ({"layers": [nn.Conv2d(3, 4, 3)]}, "layers: .* is no name — give names; model.named_modules"),
        ({"kinds": ["cam"]}, "kinds: CAM wants a classifier on every layer"),
        ({"labels": [0, 5, 1]}, "labels: 5 of image 1 is no class of the model — give 0 to 4"),
        ({"labels": [0, 1]}, r"labels: \[2\] torch.int64 for 3 images"),
        ({"labels": "abc"}, "labels: 'abc' for 3 images"),
        ({"labels": [None] * 3}, r"labels: \[None, None, None\] for 3 images"),
        ({"batch_size": 0}, "batch_size: 0 — give 1 or more"),
        ({"normalise": (0.5, 0.5)}, r"normalise: \(0.5, 0.5\) — give \(mean, deviation\) of 3 channels each"),
        ({"kinds": "gradcamm"}, "kinds: no map `gradcamm` — did you mean gradcam"),
        ({"labels": [0.0, 1.0, 2.0]}, "labels: .* give the index of one class"),
        ({"images": torch.rand(3, 1, 64, 64)}, r"images: \[3, 1, 64, 64\]"),
        ({"images": torch.rand(3, 64, 64)}, r"images: \[3, 64, 64\]"),
        ({"images": torch.randn(3, 3, 64, 64)}, "images: pixels from -.* goes to `normalise`"),
        ({"images": torch.full((3, 3, 64, 64), torch.nan)}, "images: pixels from nan to nan"),
        ({"images": torch.zeros(3, 3, 64, 64, dtype=torch.uint8)}, "images: torch.uint8"),
        ({"normalise": ((0.5,), (1.0,))}, "normalise: "),
    ],
)  # fmt: skip
def test_bad_input(changes: dict[str, object], said: str, model: nn.Module, images: Tensor) -> None:
    given = {"layers": ["layer4"], "images": images, "labels": LABELS} | changes
    with pytest.raises(UserError, match=said) as error:
        explain(model, **given)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_what_is_no_classifier(images: Tensor) -> None:
    with pytest.raises(UserError, match=r"Conv2d: puts out \[3, 4, 62, 62\], not logits"):
        explain(nn.Conv2d(3, 4, 3), images=images, kinds=["saliency"])


def test_a_size_that_the_model_refuses(images: Tensor) -> None:
    model = timm.create_model("test_vit", num_classes=5, dynamic_img_size=False)
    with pytest.raises(UserError, match=r"images: \[3, 3, 64, 64\] do not go through the model \(Input height"):
        explain(model, "blocks.2", images=images)


@pytest.mark.parametrize("layered", [True, False])
def test_a_map_of_ones_own(layered: bool, model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def darkness(network: Network, images: Tensor, _: Tensor) -> list[Evidence]:
        count = network.layer_count if layered else network.classifier_count
        return [Evidence(1 - images.mean(1)) for _ in range(count)]

    monkeypatch.setitem(MAPS, "darkness", MapEntry("darkness", "darkness", darkness, layered=layered))
    maps = explain(model, ["layer3", "layer4"], images=images, labels=LABELS, kinds="darkness")
    assert [layer for _, layer in maps.evidence] == (["layer3", "layer4"] if layered else ["pixels"])


def test_boxes_that_are_not_those_of_the_images(model: nn.Module, images: Tensor) -> None:
    maps = explain(model, images=images, labels=LABELS, kinds=["saliency"])
    for boxes, said in (
        (BOXES[:2], "boxes: 2 for 3 images"),
        ([*BOXES[:2], np.zeros((1, 5))], r"boxes: \[1, 5\] of image 2"),
        ([*BOXES[:2], np.array([[70, 70, 80, 80]])], "of image 2 holds no pixel"),
        ([*BOXES[:2], np.zeros((0, 4))], "boxes: none in image 2 — leave out images without boxes"),
        ([*BOXES[:2], [[1, 2, 3], [4]]], "are no arrays of numbers"),
    ):
        with pytest.raises(UserError, match=said):
            measure(maps, boxes)
    with pytest.raises(UserError, match="measures: no measure `iouu` — did you mean iou"):
        measure(maps, BOXES, measures=["iouu"])
    with pytest.raises(UserError, match="measures: `precision` is no measure of these maps — give some of iou"):
        measure(maps, BOXES, measures=["iou", "precision"])
    with pytest.raises(UserError, match="percentile: 81"):
        measure(maps, BOXES, percentile=81)


@pytest.mark.filterwarnings("error")
def test_maps_that_are_all_empty_have_no_mean() -> None:
    values = Values({("gradcam", "layer4"): {"iou": np.array([np.nan, np.nan]), "energy": np.array([np.nan, 0.5])}})
    assert math.isnan(values.rows[0]["iou"])  # type: ignore[arg-type]
    assert str(values).splitlines()[-1].split() == ["gradcam", "layer4", "–", "0.500"]
