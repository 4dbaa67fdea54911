import numpy as np
import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

from maps.kinds import Explained
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import make_plan
from wsol.sensitivity import attention_sensitivity, class_sensitivity, finite_differences


@pytest.fixture
def network() -> Explained:
    torch.manual_seed(0)
    backbone = make_backbone("cnn6", 0.125)
    plan = make_plan(backbone, 3, 64)
    return Explained(backbone, [2, 4, 6], [make_head("gap", part.shape, 5, convs=0) for part in plan])


class Units(nn.Module):
    """The sum of the last activations, for a library that explains outputs."""

    def __init__(self, network: Explained) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.activations(images)[-1].sum((1, 2, 3))


class Last(Units):
    """The last classifier."""

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.network(images)[-1]
        return found


def test_both_are_captums_saliency(network: Explained) -> None:
    images, labels = torch.rand(3, 3, 64, 64), torch.tensor([0, 3, 1])
    attention = Saliency(Units(network)).attribute(images.requires_grad_())
    assert torch.equal(attention_sensitivity(network, images), attention.amax(1))
    by_class = Saliency(Last(network)).attribute(images, target=labels)
    assert torch.equal(class_sensitivity(network, images, labels), by_class.mean(1))
    assert torch.equal(class_sensitivity(network, images, labels, "max"), by_class.amax(1))
    guessed = network(images)[-1].argmax(1)
    assert torch.equal(class_sensitivity(network, images), class_sensitivity(network, images, guessed))
    assert (attention_sensitivity(network, images, "max") >= attention_sensitivity(network, images, "mean")).all()


def test_images_do_not_meet_each_other(network: Explained) -> None:
    """In doubles: where rounding, another for another batch, turned a ReLU, the gradients would differ."""
    network, images = network.double(), torch.rand(3, 3, 64, 64, dtype=torch.float64)
    together = attention_sensitivity(network, images)
    alone = torch.cat([attention_sensitivity(network, images[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_differences_of_a_smooth_function_are_its_gradient() -> None:
    """Pixel by pixel; and of squares the mean of the gradient in them."""
    torch.manual_seed(0)
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 16, 1)).double()
    images = torch.rand(2, 3, 6, 6, dtype=torch.float64)

    def function(own: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return smooth(torch.from_numpy(own))[:, 0].numpy()

    pixels = images.clone().requires_grad_()
    [gradient] = torch.autograd.grad(smooth(pixels).sum(), pixels)
    for aggregate, wanted in (("mean", gradient.abs().mean(1)), ("max", gradient.abs().amax(1))):
        found = finite_differences(function, images.numpy(), step=1e-4, aggregate=aggregate)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-7)
    coarse = finite_differences(function, images.numpy(), cell=4, step=1e-4)
    np.testing.assert_allclose(coarse[:, 0, 0], gradient[:, :, :4, :4].mean((2, 3)).abs().mean(1), atol=1e-7)
    np.testing.assert_allclose(coarse[:, 5, 5], gradient[:, :, 4:, 4:].mean((2, 3)).abs().mean(1), atol=1e-7)


def test_any_function_will_do() -> None:
    """A black box without weights, such as one that counts how many pixels are bright in one corner."""
    images = np.full((1, 3, 8, 8), 0.5)
    found = finite_differences(lambda own: (own[:, :, :4, :4] > 0.5).sum((1, 2, 3)), images, cell=2)
    assert (found[0, :4, :4] > 0).all()
    assert not found[0, 4:].any()
    with pytest.raises(ValueError, match="for 1 images"):
        finite_differences(lambda own: np.zeros(3), images, cell=8)
