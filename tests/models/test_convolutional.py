from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as fn
from torchvision import models as peers

from models.backbones import make_backbone
from models.convolutional import convolutionize, shares
from models.heads import make_head
from models.plan import shapes_at
from utils.errors import UserError


def disturbed(model: nn.Module) -> nn.Module:
    """With statistics and biases of their own, in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.normal_(module.running_mean, std=0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    return model.eval()


def on_backbone(head: str, imgsz: int) -> nn.Module:
    backbone = make_backbone("cnn6", 0.0625)
    shape = shapes_at(backbone, (imgsz, imgsz))[-1]
    return disturbed(nn.Sequential(*backbone.blocks, make_head(head, shape, 5)))


@pytest.mark.parametrize("head", ["author", "gap", "gmp", "gap1024", "marquez", "1c2f"])
@torch.no_grad()
def test_one_window_is_the_original(head: str) -> None:
    model, images = on_backbone(head, 64), torch.rand(2, 3, 64, 64)
    dense = convolutionize(model, (64, 64))
    found = dense(images)
    assert found.shape == (2, 5, 1, 1)
    torch.testing.assert_close(found[..., 0, 0], model(images), atol=1e-5, rtol=1e-5)
    assert not any(isinstance(module, nn.Linear) for module in dense.modules())
    assert dense(torch.rand(1, 3, 128, 160)).shape[2] > 1


@torch.no_grad()
def test_alexnet_is_the_slides() -> None:
    """Layers 14, 17 and 19 of the slides: 6×6, 1×1, 1×1."""
    model = peers.alexnet(num_classes=7).eval()
    dense, images = convolutionize(model, (224, 224)), torch.rand(1, 3, 224, 224)
    torch.testing.assert_close(dense(images)[..., 0, 0], model(images), atol=1e-5, rtol=1e-4)
    made = [own for own in dense.classifier.modules() if isinstance(own, nn.Conv2d)]
    assert [own.kernel_size for own in made] == [(6, 6), (1, 1), (1, 1)]


@pytest.mark.parametrize(
    "name", ["mobilenet_v2", "shufflenet_v2_x0_5", "mnasnet0_5", "densenet121", "inception_v3", "regnet_x_400mf"]
)
@torch.no_grad()
def test_networks_of_torchvision(name: str) -> None:
    """They pool by a mean, a function, or a module with dropout behind it."""
    torch.manual_seed(0)
    side, flags = (96, {"init_weights": False}) if name == "inception_v3" else (64, {})
    model = disturbed(peers.get_model(name, num_classes=5, **flags))
    dense, images = convolutionize(model, (side, side)), torch.rand(1, 3, side, side)
    wanted = model(images)
    torch.testing.assert_close(dense(images)[..., 0, 0], wanted, atol=1e-5 * float(wanted.abs().max()), rtol=1e-5)
    assert dense(torch.rand(1, 3, side, 2 * side)).shape[3] > 1


class Last(nn.Module):
    """Features and what comes after them."""

    def __init__(self, last: Callable[[Any, Tensor], Tensor], given: int = 8) -> None:
        super().__init__()
        self.features, self.linear, self.last = nn.Conv2d(3, 8, 3, stride=4), nn.Linear(given, 4), last

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.last(self, self.features(images))
        return found


POOLS = {
    "mean": lambda own, x: own.linear(torch.relu(x.mean((-1, -2)))),
    "kept": lambda own, x: own.linear(torch.mean(x, dim=[2, 3], keepdim=True).flatten(1)),
    "dropout": lambda own, x: own.linear(fn.dropout(x.mean([2, 3]), training=own.training).relu()),
    "max": lambda own, x: own.linear(fn.adaptive_max_pool2d(x, 1).flatten(1)),
    "grid": lambda own, x: own.linear(fn.dropout2d(fn.adaptive_avg_pool2d(x, 3), training=own.training).flatten(1)),
    "sized": lambda own, x: own.linear(fn.avg_pool2d(x, x.shape[2:]).flatten(1)),
    "greatest": lambda own, x: own.linear(fn.adaptive_max_pool2d(x, 3).flatten(1)),
    "scaled": lambda own, x: own.linear((x * x.mean((2, 3), keepdim=True)).mean((2, 3))),
    "always": lambda own, x: own.linear(fn.dropout(x.mean([2, 3]))),
    "amax": lambda own, x: own.linear(x.amax((2, 3))),
}


@pytest.mark.parametrize("pool", ["mean", "kept", "dropout", "max", "grid", "sized"])
@torch.no_grad()
def test_pools_that_are_functions(pool: str) -> None:
    model, large = Last(POOLS[pool], 72 if pool == "grid" else 8).eval(), torch.rand(1, 3, 27, 31)
    found = convolutionize(model, (23, 23))(large)
    assert found.shape[2:] == (2, 3)
    torch.testing.assert_close(found[..., 1, 2], model(large[..., 4:27, 8:31]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("pool", "what"),
    [
        ("scaled", "pools the whole picture amid the features"),
        ("greatest", "`adaptive_max_pool2d` pools to more than one cell, and not by an adaptive mean"),
        ("always", "`dropout` comes after its features"),
        ("amax", "`amax` makes vectors of maps, and neither flattens nor averages"),
    ],
)
def test_what_is_no_window(pool: str, what: str) -> None:
    with pytest.raises(UserError, match=what):
        convolutionize(Last(POOLS[pool], 72 if pool == "greatest" else 8), (23, 23))


class Unpadded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.BatchNorm2d(16), nn.ReLU()
        )
        self.avgpool = nn.AdaptiveAvgPool2d((3, 3))
        self.classifier = nn.Sequential(
            nn.Dropout(), nn.Linear(144, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.classifier(torch.flatten(self.avgpool(self.features(images)), 1))
        return found


@torch.no_grad()
def test_every_window_has_the_scores_of_its_crop() -> None:
    """Without padding; the classifier moves by the stride of the features, 4 pixels here."""
    model, window = disturbed(Unpadded()), 37
    large = torch.rand(1, 3, window + 12, window + 8)
    found = convolutionize(model, (window, window))(large)
    assert found.shape[2:] == (4, 3)
    for row in range(4):
        for column in range(3):
            crop = large[..., 4 * row : 4 * row + window, 4 * column : 4 * column + window]
            torch.testing.assert_close(found[..., row, column], model(crop), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("cells", "to"), [(7, 5), (3, 5), (8, 2)])
def test_shares_of_a_pool(cells: int, to: int) -> None:
    x = torch.rand(cells)
    wanted = nn.functional.adaptive_avg_pool1d(x[None], to)[0]
    torch.testing.assert_close(shares(cells, to) @ x, wanted)


def test_what_cannot_be_followed() -> None:
    with pytest.raises(UserError, match="it does not flatten its features"):
        convolutionize(nn.Sequential(nn.Conv2d(3, 4, 3)), (32, 32))
    odd = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 4), nn.LayerNorm(4))
    with pytest.raises(UserError, match=r"`3` \(LayerNorm\) comes after its features"):
        convolutionize(odd, (32, 32))
    with pytest.raises(UserError, match="pools the whole picture amid the features"):
        convolutionize(peers.efficientnet_b0(num_classes=2), (32, 32))


def test_one_cell_of_features_that_a_pool_spreads() -> None:
    """At 32 pixels VGG has a single cell, which its pool repeats 7 × 7 times for the linear layers."""
    torch.manual_seed(0)
    model = peers.vgg11(num_classes=5).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        found = convolutionize(model, (32, 32))(images)
        torch.testing.assert_close(found.flatten(1), model(images), rtol=1e-5, atol=1e-5)
