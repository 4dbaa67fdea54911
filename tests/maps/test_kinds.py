"""Kinds of maps against the libraries that have them, on every classifier of a cascade."""

import numpy as np
import pytest
import torch
from captum.attr import (
    IntegratedGradients,
    LayerGradientXActivation,
    NoiseTunnel,
    Occlusion,
    Saliency,
)
from pytorch_grad_cam import GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from test_maps import CLASSES, CUTS, LABELS, SIZE, One, explained, minmax
from torch import Tensor, nn
from torchcam.methods import LayerCAM as TorchLayerCAM

from maps.evidence import Evidence, resized
from maps.explained import Explained, scores
from maps.frame import Frame
from maps.gradient_maps import grad_cam_pp, integrated_gradients, smooth_grads
from maps.kinds import MAPS, MapEntry, explanations, title_of
from maps.perturbed_maps import occlusions, rises, score_cams, soft_masks, squares
from models.darknet import DarkNet, DarkNetConfig
from models.heads import make_head

TARGETS = [ClassifierOutputTarget(label) for label in LABELS.tolist()]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture
def network() -> Explained:
    return explained()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(len(LABELS), 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))


def by_library(method: type, one: One, images: Tensor) -> np.ndarray:
    """What pytorch-grad-cam makes of a network, in 0–1, at the size of the images."""
    with method(one.requires_grad_(True), [one.act]) as cam:
        found: np.ndarray = cam(images, TARGETS[: len(images)])
    return found


@pytest.mark.parametrize(("kind", "method"), [("hirescam", HiResCAM), ("layercam", LayerCAM)])
def test_cams_are_pytorch_grad_cams(kind: str, method: type, network: Explained, images: Tensor) -> None:
    for stage, own in enumerate(explanations(network, images, LABELS, [kind])[kind]):
        scaled = minmax(resized(minmax(own.maps), SIZE, SIZE))
        np.testing.assert_allclose(scaled, by_library(method, One(network, stage), images), atol=2e-5)


def test_hires_cam_is_captums_and_layer_cam_torchcams(network: Explained, images: Tensor) -> None:
    found = explanations(network, images, LABELS, ["hirescam", "layercam"])
    for stage, (hires, layer) in enumerate(zip(found["hirescam"], found["layercam"], strict=True)):
        one = One(network, stage)
        wanted = LayerGradientXActivation(one, one.act).attribute(images, LABELS).sum(1)
        assert hires.raw is not None
        assert torch.equal(hires.raw, wanted)
        with TorchLayerCAM(one.requires_grad_(True), one.act) as extractor:
            (other,) = extractor(LABELS.tolist(), one(images), normalized=False)
        torch.testing.assert_close(layer.maps, other.relu(), **CLOSE)


def test_grad_cam_pp_is_pytorch_grad_cams_where_gradients_are_large(images: Tensor) -> None:
    """Its 10⁻⁶ in the denominator is no part of the paper, and nothing beside large gradients."""
    network = explained("gap").double()
    for head in network.heads:
        head[-1].weight.mul_(1e6)  # type: ignore[index, union-attr]
    found = explanations(network, images.double(), LABELS, ["gradcampp"])["gradcampp"]
    for stage, own in enumerate(found):
        scaled = minmax(resized(minmax(own.maps), SIZE, SIZE))
        theirs = by_library(GradCAMPlusPlus, One(network, stage), images.double())
        np.testing.assert_allclose(scaled, theirs, atol=1e-5)


def test_grad_cam_pp_by_the_third_derivatives() -> None:
    """Equation 10 of the paper, for the exponential of a logit that is linear in the activations."""
    activations = torch.rand(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    derivatives = [(weights * activations).sum().exp()]
    for order in (1, 2, 3):  # the diagonal ones: each entry's own slope is its weight
        derivatives.append(derivatives[0] * weights**order)
    first, second, third = derivatives[1:]
    alpha = second / (2 * second + activations.sum((2, 3), keepdim=True) * third)
    wanted = ((alpha * first.relu()).sum((2, 3), keepdim=True) * activations).sum(1) / derivatives[0]
    torch.testing.assert_close(grad_cam_pp(activations, weights), wanted)


def test_score_cam_is_pytorch_grad_cams(network: Explained, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which places its masks with the outer cells on the outer pixels: as a frame can."""
    small, labels = images[:2], LABELS[:2]
    sizes = [own.shape[2] for own in network.activations(small)]
    corners = [Frame((SIZE - 1) / (own - 1), 0.0) for own in sizes]
    monkeypatch.setattr(network, "frame", lambda layer, size, pooled=False: corners[layer])
    for stage, own in enumerate(score_cams(network, small, labels)):
        scaled = minmax(resized(minmax(own.maps), SIZE, SIZE))
        np.testing.assert_allclose(scaled, by_library(ScoreCAM, One(network, stage), small), atol=2e-5)


def test_score_cam_of_a_channel_that_is_dead(network: Explained, images: Tensor) -> None:
    first = network.parts[0]
    channels = network.activations(images[:1])[0].shape[1]
    norm = next(module for module in first.modules() if isinstance(module, nn.BatchNorm2d))
    assert norm.bias is not None
    kept = norm.bias[0].clone()
    norm.bias[0] = -100
    try:
        assert network.activations(images[:1])[0][0, 0].max() == 0
        found = score_cams(network, images[:1], LABELS[:1])
        assert channels > 1
        assert all(own.maps.isfinite().all() for own in found)
    finally:
        norm.bias[0] = kept


def test_integrated_gradients_are_captums(network: Explained, images: Tensor) -> None:
    small, labels = images[:2], LABELS[:2]
    black = [scores(own, labels) for own in network(torch.zeros_like(small))]
    for stage, own in enumerate(integrated_gradients(network, small, labels, steps=8)):
        wanted = IntegratedGradients(One(network, stage)).attribute(small, target=labels, n_steps=8)
        assert own.raw is not None
        torch.testing.assert_close(own.raw, wanted.sum(1).float(), **CLOSE)
        apart = scores(network(small)[stage], labels) - black[stage]
        torch.testing.assert_close(own.raw.sum((1, 2)), apart, rtol=0.1, atol=0.02)


def test_smooth_grad_is_captums(network: Explained, images: Tensor) -> None:
    found = smooth_grads(network, images[:1], LABELS[:1], samples=6)
    together = smooth_grads(network, images, LABELS, samples=6)
    for stage, own in enumerate(found):
        torch.manual_seed(0)
        tunnel = NoiseTunnel(Saliency(One(network, stage)))
        wanted = tunnel.attribute(
            images[:1], nt_type="smoothgrad", nt_samples=6, stdevs=0.15, target=LABELS[:1], abs=False
        )
        torch.testing.assert_close(own.maps, wanted.abs().amax(1), **CLOSE)
        torch.testing.assert_close(together[stage].maps[:1], own.maps, **CLOSE)


def test_occlusion_is_captums(network: Explained, images: Tensor) -> None:
    small, labels = images[:2], LABELS[:2]
    for stage, own in enumerate(occlusions(network, small, labels, window=10, stride=7)):
        wanted = Occlusion(One(network, stage)).attribute(
            small, (3, 10, 10), (3, 7, 7), baselines=0.5, target=labels, perturbations_per_eval=8
        )
        assert own.raw is not None
        torch.testing.assert_close(own.raw, wanted[:, 0].float(), **CLOSE)
    assert squares(48, 40, 6, 3).sum(0).min() >= 1


def test_rise_is_the_mean_of_what_masks_show(network: Explained, images: Tensor) -> None:
    """The paper's sum, mask by mask: no library here has it."""
    small, labels = images[:2], LABELS[:2]
    masks = soft_masks(SIZE, SIZE, 20, 5, 0.4)
    wanted = [torch.zeros(2, SIZE, SIZE) for _ in CUTS]
    with torch.no_grad():
        for mask in masks:
            for stage, logits in enumerate(network(small * mask)):
                chance = logits.softmax(1).gather(1, labels[:, None])[:, 0]
                wanted[stage] += chance[:, None, None] * mask / (20 * 0.4)
    for own, other in zip(rises(network, small, labels, masks=20, grid=5, shown=0.4), wanted, strict=True):
        torch.testing.assert_close(own.maps, other, **CLOSE)


def test_rise_finds_the_only_pixels_that_count() -> None:
    class Corner(nn.Module):
        single_label = False

        def forward(self, images: Tensor) -> list[Tensor]:
            return [(images[:, :, :12, :12].mean((1, 2, 3)) * 20 - 10)[:, None]]

    (own,) = rises(Corner(), torch.ones(1, 3, 48, 48), torch.zeros(1, dtype=torch.long), masks=400)  # type: ignore[arg-type]
    assert own.maps[0, :12, :12].mean() > 1.3 * own.maps[0, 12:, 12:].mean()
    assert max(divmod(int(own.maps[0].argmax()), 48)) < 12


def test_masks_of_rise_show_as_much_as_they_should() -> None:
    masks = soft_masks(50, 70, 300, 7, 0.3)
    assert masks.shape == (300, 1, 50, 70)
    assert float(masks.mean()) == pytest.approx(0.3, abs=0.02)
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert float(masks.mean(0).std()) < 0.05


@pytest.mark.parametrize("kind", [name for name, own in MAPS.items() if name != "rise" and not own.mapped])
def test_nothing_is_learnt_and_the_batch_does_not_count(kind: str, network: Explained, images: Tensor) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    together, alone = (
        explanations(network, images[part], LABELS[part], [kind])[kind] for part in (slice(0, 2), slice(1, 2))
    )
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one.maps[1:], other.maps, rtol=1e-4, atol=1e-6)
        assert one.frame == other.frame
        assert not one.maps.requires_grad
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_kinds_that_share_a_pass(network: Explained, images: Tensor) -> None:
    together = explanations(network, images, LABELS, ["layercam", "saliency", "gradcampp"])
    assert list(together) == ["layercam", "saliency", "gradcampp"]
    for kind, found in together.items():
        alone = explanations(network, images, LABELS, [kind])[kind]
        for one, other in zip(found, alone, strict=True):
            assert torch.equal(one.maps, other.maps)


def test_large_networks_have_every_kind() -> None:
    backbone = DarkNet(DarkNetConfig(width=0.125))
    heads = [make_head("gap", (backbone.channels[cut - 1], 1, 1), CLASSES) for cut in (3, 23)]
    network = Explained(backbone, (3, 23), heads, single_label=False)
    found = explanations(network, torch.rand(1, 3, 32, 32), torch.tensor([1]), [own for own in MAPS if own != "rise"])
    assert all(len(own) == 2 for own in found.values())
    assert all(one.at(32, 32).maps.shape == (1, 32, 32) for own in found.values() for one in own)


def test_names_that_reports_need_are_refused() -> None:
    def make(*_: object) -> list[Evidence]:
        return []

    with pytest.raises(ValueError, match="cannot be called 'lime'"):
        MapEntry("lime", "mine", make)
    assert title_of("gradcampp") == "Grad-CAM++"
    assert title_of("lime") == "LIME"
