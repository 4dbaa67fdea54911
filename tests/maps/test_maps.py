import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam, Saliency
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn
from torchcam.methods import CAM
from torchcam.methods import GradCAM as TorchGradCAM

from maps.kinds import Explained, cams, explanations, grad_cams, resized, saliencies, smoothed
from models.cnn6 import CNN6
from models.darknet import DarkNet, DarkNetConfig
from models.heads import make_head

CLASSES, SIZE = 7, 48
CUTS = (1, 2, 4, 6)


def explained(head: str = "author") -> Explained:
    backbone = CNN6(0.125)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    heads = [make_head(head, (backbone.channels[cut - 1], 8, 8), CLASSES).eval() for cut in CUTS]
    return Explained(backbone, CUTS, heads)


class One(nn.Module):
    """One cut as a network of its own, `act` what localisation reads, for libraries that know only those."""

    def __init__(self, network: Explained, stage: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(network.parts[: stage + 1])
        self.pools, self.head, self.act = network.pools, network.heads[stage], nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        x = images
        for number, part in enumerate(self.parts):
            x = part(x)
            if number + 1 < len(self.parts):
                x = self.pools[number](x)
        return self.head(self.pools[len(self.parts) - 1](self.act(x).clone()))


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 3, SIZE, SIZE)


LABELS = torch.tensor([0, 3, 6, 3, 1])


def test_logits_are_those_of_the_backbone(images: Tensor) -> None:
    network = explained()
    backbone = DarkNet(DarkNetConfig(width=0.125))
    heads = [make_head("gap", (backbone.channels[cut - 1], 1, 1), CLASSES) for cut in (3, 23)]
    large = Explained(backbone, (3, 23), heads)
    with torch.no_grad():
        x = images
        for number, block in enumerate(backbone.blocks, start=1):
            x = block(x)
            if number in (3, 23):
                torch.testing.assert_close(large(images)[(3, 23).index(number)], heads[(3, 23).index(number)](x))
    assert [own.shape[2] for own in network.activations(images)] == [52, 30, 13, 9]


def test_grad_cam_is_captums_to_the_last_bit(images: Tensor) -> None:
    network = explained()
    for stage, own in enumerate(grad_cams(network, images, LABELS)):
        one = One(network, stage)
        wanted = LayerGradCam(one, one.act).attribute(images, LABELS, relu_attributions=True)[:, 0]
        assert torch.equal(own.maps, wanted)
        assert own.raw is not None
        assert torch.equal(own.raw.relu(), own.maps)


def test_grad_cam_is_torchcams_and_pytorch_grad_cams(images: Tensor) -> None:
    network = explained()
    for stage, own in enumerate(grad_cams(network, images, LABELS)):
        one = One(network, stage).requires_grad_(True)
        with TorchGradCAM(one, one.act) as extractor:
            (other,) = extractor(LABELS.tolist(), one(images), normalized=False)
        torch.testing.assert_close(own.maps, other, rtol=1e-5, atol=1e-9)
        with GradCAM(one, [one.act]) as cam:
            theirs = cam(images, [ClassifierOutputTarget(label) for label in LABELS.tolist()])
        scaled = resized(minmax(own.maps), SIZE, SIZE)
        np.testing.assert_allclose(minmax(scaled), theirs, atol=2e-5)


def minmax(maps: Tensor) -> Tensor:
    low = maps - maps.amin((1, 2), keepdim=True)
    return low / (1e-7 + low.amax((1, 2), keepdim=True))


def test_saliency_is_captums(images: Tensor) -> None:
    network = explained()
    for mean in (False, True):
        for stage, own in enumerate(saliencies(network, images, LABELS, mean=mean)):
            wanted = Saliency(One(network, stage)).attribute(images.clone().requires_grad_(), LABELS, abs=True)
            wanted = wanted.mean(1) if mean else wanted.amax(1)
            torch.testing.assert_close(own.maps, wanted, rtol=1e-5, atol=1e-9)
            assert own.raw is None


def test_kinds_that_share_a_pass_are_those_by_themselves(images: Tensor) -> None:
    network = explained("gap")
    found = explanations(network, images, LABELS, ["cam", "gradcam", "saliency"])
    for kind, make in (("cam", cams), ("gradcam", grad_cams), ("saliency", saliencies)):
        for one, other in zip(found[kind], make(network, images, LABELS), strict=True):
            assert torch.equal(one.maps, other.maps)
            assert one.frame == other.frame


def test_cam_of_a_head_with_a_convolution(images: Tensor) -> None:
    network = explained("gap1024")
    logits = network(images)
    for stage, own in enumerate(cams(network, images, LABELS)):
        assert own.raw is not None
        bias = network.heads[stage][-1].bias[LABELS]
        wanted = logits[stage].gather(1, LABELS[:, None])[:, 0] - bias
        torch.testing.assert_close(own.raw.mean((1, 2)), wanted, rtol=1e-4, atol=1e-5)


def test_cam_sums_up_to_the_logit_and_is_torchcams(images: Tensor) -> None:
    network = explained("gap")
    logits = network(images)
    for stage, own in enumerate(cams(network, images, LABELS)):
        assert own.raw is not None
        linear = network.heads[stage][-1]
        wanted = logits[stage].gather(1, LABELS[:, None])[:, 0] - linear.bias[LABELS]
        torch.testing.assert_close(own.raw.mean((1, 2)), wanted, rtol=1e-4, atol=1e-5)
    last = One(network, len(CUTS) - 1)
    with CAM(last, last.pools[-1], fc_layer=last.head[-1]) as extractor:
        (other,) = extractor(LABELS.tolist(), last(images), normalized=False)
    torch.testing.assert_close(own.maps, other.relu(), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="global pool"):
        cams(explained(), images, LABELS)


def test_nothing_learns_and_nothing_is_left_behind(images: Tensor) -> None:
    network = explained().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    grad_cams(network.eval(), images, LABELS)
    saliencies(network, images, LABELS)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not images.requires_grad


def test_maps_do_not_depend_on_the_batch(images: Tensor) -> None:
    network = explained()
    for make in (grad_cams, saliencies):
        together, alone = make(network, images, LABELS), make(network, images[2:3], LABELS[2:3])
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one.maps[2:3], other.maps, rtol=1e-4, atol=1e-8)


def test_smoothing_keeps_the_sum() -> None:
    spot = torch.zeros(1, 64, 64)
    spot[0, 32, 32] = 1
    blurred = smoothed(spot)
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-4)
    assert 0.1 < float(blurred.max()) < 0.3


def test_grad_cam_of_a_pooled_linear_head_is_its_cam() -> None:
    backbone = DarkNet(DarkNetConfig(width=0.125))
    heads = [make_head("gap", (backbone.channels[cut - 1], 1, 1), CLASSES) for cut in (3, 23)]
    network, images = Explained(backbone, (3, 23), heads), torch.rand(2, 3, 64, 64)
    labels = torch.tensor([1, 5])
    for one, other in zip(grad_cams(network, images, labels), cams(network, images, labels), strict=True):
        torch.testing.assert_close(one.maps, other.maps / other.maps[0].numel(), rtol=1e-4, atol=1e-7)
        assert one.frame == other.frame
