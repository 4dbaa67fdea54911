from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from models.backbone import Backbone, scaled
from models.backbones import BACKBONES, make_backbone
from models.cnn6 import CNN6
from models.layers import IMAGENET_MEAN, IMAGENET_STD, Normalise, PaddedConv2d
from models.torchvision_backbones import names_in_torchvision
from models.weights_files import read_weights
from models.yolov3 import YOLOv3
from training.backbone import reuse_backbone
from utils.config import Recipe
from utils.errors import UserError

PARAMETERS = {
    "darknet53": 40_584_928,
    "cnn6": 2_960_640,
    "resnet50": 25_557_032 - 2_049_000,
    "vgg16": 14_714_688,
    "vgg16_gap": 14_714_688,
    "alexnet": 2_469_696,
    "alexnet_star": 2_469_696 + (256 + 512) * 512 * 9 + 2 * 512,
    "alexnet_bn": 2_469_696 + 2 * (64 + 192 + 384 + 256 + 256),
    "googlenet": 3_273_920,
    "inception_v3": 8_965_856,
    "lenet5": 456 + 2_416 + 48_120,
    "monster": 1_246_016,
    "nin": 60_928 + 460_992 + 331_968 + 4 * 37_056,
    "nin_imagenet": (3 * 121 * 96 + 2 * 96**2 + 3 * 96)
    + (96 * 25 * 256 + 2 * 256**2 + 3 * 256)
    + (256 * 9 * 384 + 2 * 384**2 + 3 * 384)
    + (384 * 9 * 1024 + 1024**2 + 2 * 1024),
}
SMALL = {"darknet53": 0.125, "cnn6": 0.125}


@pytest.fixture(scope="module", params=sorted(BACKBONES))
def any_backbone(request: pytest.FixtureRequest) -> tuple[str, Backbone]:
    return request.param, make_backbone(request.param, SMALL.get(request.param, 1.0)).eval()


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_parameter_counts(name: str) -> None:
    assert sum(p.numel() for p in make_backbone(name).parameters()) == PARAMETERS[name]


def test_blocks_are_what_the_attributes_say(any_backbone: tuple[str, Backbone]) -> None:
    _, backbone = any_backbone
    x, strides, sides = torch.rand(1, 3, 96, 128), {}, []
    with torch.inference_mode():
        for number, (block, channels) in enumerate(zip(backbone.blocks, backbone.channels, strict=True), start=1):
            x = block(x)
            assert x.shape[1] == channels
            sides.append(x.shape[3])
            if number in backbone.taps:
                strides[number] = (96 / x.shape[2], 128 / x.shape[3])
    assert sum(backbone.stages) == len(backbone.blocks)
    assert list(strides.values()) == [(s, s) for s in (8, 16, 32)][: len(backbone.taps)]


def test_every_name_in_the_state_starts_with_its_block(any_backbone: tuple[str, Backbone]) -> None:
    _, backbone = any_backbone
    numbers = [int(name.split(".")[1]) for name in backbone.state_dict() if name.startswith("blocks.")]
    assert len(numbers) == len(backbone.state_dict())
    assert set(numbers) == set(range(len(backbone.blocks)))


def test_images_are_normalised_in_the_first_block_alone(any_backbone: tuple[str, Backbone]) -> None:
    name, backbone = any_backbone
    counts = [sum(isinstance(m, Normalise) for m in block.modules()) for block in backbone.blocks]
    assert counts == [int(name != "darknet53"), *[0] * (len(counts) - 1)]


def test_normalise() -> None:
    images = torch.rand(2, 3, 4, 5)
    wanted = torchvision.transforms.functional.normalize(images, list(IMAGENET_MEAN), list(IMAGENET_STD))
    torch.testing.assert_close(Normalise()(images), wanted)
    assert not Normalise().state_dict()


def test_frozen_blocks_stay_in_evaluation_mode() -> None:
    backbone = make_backbone("cnn6", 0.125)
    backbone.freeze(2)
    backbone.train()
    assert [block.training for block in backbone.blocks] == [False, False, True, True, True, True]
    assert [{p.requires_grad for p in block.parameters()} for block in backbone.blocks[1:3]] == [{False}, {True}]


def test_cnn6_is_the_authors() -> None:
    backbone = CNN6().eval()
    sides: list[tuple[int, int]] = []
    x = torch.rand(1, 3, 224, 224, device="meta")
    for block in backbone.to("meta").blocks:
        kinds = [type(m) for m in block if not isinstance(m, Normalise)]
        assert kinds == [PaddedConv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
        inner = block[:-1](x)
        x = block(x)
        sides.append((inner.shape[2], x.shape[2]))
    assert sides == [(228, 114), (118, 59), (63, 31), (35, 17), (21, 10), (14, 7)]
    assert backbone.channels == [256] * 6


def test_cnn6_width() -> None:
    assert CNN6(0.125).channels == [32] * 6
    with pytest.raises(ValueError, match="width 5"):
        CNN6(5)


@pytest.mark.parametrize(("width", "wanted"), [(1, 256), (0.25, 64), (0.01, 4), (0.1, 24)])
def test_scaled(width: float, wanted: int) -> None:
    assert scaled(256, width) == wanted


def with_weights_of(backbone: Backbone, build: object) -> nn.Module:
    """torchvision's own network with the weights of the backbone: both list them in the order of the data flow."""
    with torch.device("meta"):
        peer = build(weights=None)  # type: ignore[operator]
    if isinstance(peer, torchvision.models.ResNet):
        peer.fc = nn.Identity()
    else:
        peer = peer.features
    peer.to_empty(device="cpu")
    values = backbone.state_dict().values()
    peer.load_state_dict(OrderedDict(zip(peer.state_dict(), values, strict=True)))
    return peer.eval()


def stir(backbone: Backbone) -> None:
    """Give BatchNorm statistics other than those it starts with."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)


def test_resnet50_is_torchvisions() -> None:
    backbone = make_backbone("resnet50").eval()
    stir(backbone)
    peer, images = with_weights_of(backbone, torchvision.models.resnet50), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        x = peer.layer1(peer.maxpool(peer.relu(peer.bn1(peer.conv1(Normalise()(images))))))
        wanted = [x := layer(x) for layer in (peer.layer2, peer.layer3, peer.layer4)]
        for own, other in zip(backbone(images), wanted, strict=True):
            torch.testing.assert_close(own, other)
    assert len(backbone.blocks) == 16
    assert backbone.stages == (3, 4, 6, 3)
    assert backbone.channels[:4] == [256, 256, 256, 512]


def test_vgg16_is_torchvisions() -> None:
    backbone = make_backbone("vgg16").eval()
    peer, images = with_weights_of(backbone, torchvision.models.vgg16), torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(images)[-1], peer(Normalise()(images)))
    last = [type(block[-1]).__name__ for block in backbone.blocks]
    pooled = [number for number, kind in enumerate(last, start=1) if kind == "MaxPool2d"]
    assert pooled == [2, 4, 7, 10, 13]
    assert backbone.taps == (7, 10, 13)


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_one_size_only(name: str) -> None:
    with pytest.raises(UserError, match=f"--width: {name} at 0.5 — give 1"):
        make_backbone(name, 0.5)


def test_unknown_backbone() -> None:
    with pytest.raises(UserError, match="--backbone: no backbone `vgg` — did you mean vgg16"):
        make_backbone("vgg")


@pytest.mark.parametrize("name", ["resnet50", "vgg16"])
def test_detector_reads_it(name: str) -> None:
    with torch.device("meta"):
        maps = YOLOv3(make_backbone(name), classes=3)(torch.empty(2, 3, 64, 96))
    assert [tuple(raw.shape) for raw in maps] == [(2, 24, 8, 12), (2, 24, 4, 6), (2, 24, 2, 3)]


def test_detector_refuses_a_backbone_without_taps() -> None:
    with pytest.raises(UserError, match="--backbone: CNN6 has no features at strides 8, 16 and 32"):
        YOLOv3(make_backbone("cnn6", 0.125), classes=3)


@pytest.mark.parametrize(
    ("name", "imgsz", "side"),
    [
        ("alexnet", 224, 13),
        ("alexnet_star", 224, 11),
        ("vgg16_gap", 224, 14),
        ("googlenet", 224, 14),
        ("inception_v3", 256, 14),
        ("nin_imagenet", 224, 6),
    ],
)
def test_networks_for_class_activation_maps(name: str, imgsz: int, side: int) -> None:
    with torch.device("meta"):
        x = torch.empty(1, 3, imgsz, imgsz)
        for block in make_backbone(name).blocks:
            x = block(x)
    assert x.shape[2:] == (side, side)


PEERS = {
    "alexnet": lambda peer: peer.features[:12],
    "googlenet": lambda peer: nn.Sequential(*list(peer.children())[:13]),
    "inception_v3": lambda peer: nn.Sequential(*list(peer.children())[:15]),
    "vgg16": lambda peer: peer.features,
    "resnet50": lambda peer: nn.Sequential(*list(peer.children())[:-2]),
}


def light(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The classifier's large matrices, which we do not read, as one number each: the file is 500 MB less."""
    large = [key for key, tensor in state.items() if key.startswith("classifier") and tensor.ndim == 2]
    return state | {key: state[key][:1, :1].clone().expand(state[key].shape) for key in large}


def as_published(peer: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images in 0–1 as the convolutions of torchvision's network see them."""
    turned = getattr(peer, "_transform_input", nn.Identity())
    return turned(Normalise()(images))


@pytest.mark.parametrize("name", sorted(PEERS))
def test_files_of_torchvision(name: str, tmp_path: Path) -> None:
    """A file of its own weights, read into our blocks, gives its own features."""
    torch.manual_seed(1)
    peer = getattr(torchvision.models, name)(weights=None).eval()
    if hasattr(peer, "transform_input"):
        peer.transform_input = True  # as torchvision sets it where weights are loaded
    torch.save(light(peer.state_dict()), tmp_path / f"{name}.pth")
    backbone = make_backbone(name).eval()
    reuse_backbone(backbone, tmp_path / f"{name}.pth", Recipe(backbone=name))  # type: ignore[arg-type]
    images = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        normal = next(own for own in backbone.modules() if isinstance(own, Normalise))(images)
        torch.testing.assert_close(normal, as_published(peer, images))
        wanted, x = PEERS[name](peer)(normal), images
        for block in backbone.blocks:
            x = block(x)
    torch.testing.assert_close(x, wanted)
    other = "alexnet" if name == "vgg16" else "vgg16"
    with pytest.raises(UserError, match=f"give a file of {other}"):
        reuse_backbone(make_backbone(other), tmp_path / f"{name}.pth", Recipe(backbone=other))  # type: ignore[arg-type]


def test_no_file_of_torchvision(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "x.pth")
    with pytest.raises(UserError, match="no other library has cnn6"):
        reuse_backbone(make_backbone("cnn6", 0.125), tmp_path / "x.pth", Recipe(backbone="cnn6", width=0.125))


def test_vgg16_gap_is_vgg16_without_its_last_pool() -> None:
    backbone, whole = make_backbone("vgg16_gap"), make_backbone("vgg16")
    backbone.load_state_dict(whole.state_dict())
    (own,), (pooled,) = backbone.at(images := torch.rand(1, 3, 64, 64), [13]), whole.at(images, [13])
    assert torch.equal(nn.functional.max_pool2d(own, 2), pooled)
    names = names_in_torchvision("vgg16_gap", backbone)
    assert names == names_in_torchvision("vgg16", whole)


def test_alexnet_star_begins_with_alexnet(tmp_path: Path) -> None:
    peer = torchvision.models.alexnet(weights=None, num_classes=1)
    torch.save(light(peer.state_dict()), tmp_path / "alexnet.pth")
    model = read_weights(tmp_path / "alexnet.pth", "alexnet_star")["model"]
    own = make_backbone("alexnet_star").state_dict()
    theirs = dict(zip(own, peer.features.state_dict().values(), strict=False))
    assert list(model) == list(theirs) == [key for key in own if int(key.split(".")[1]) < 5]
    assert all(torch.equal(model[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("padding", [3, (2, 0)])
def test_padding_beforehand_is_conv2d(padding: int | tuple[int, int]) -> None:
    """Values and gradients are those of the convolution that pads by itself."""
    torch.manual_seed(0)
    own, plain = (kind(3, 4, 3, 2, padding, dtype=torch.float64) for kind in (PaddedConv2d, nn.Conv2d))
    own.load_state_dict(plain.state_dict())
    found = []
    for conv in (own, plain):
        images = torch.rand(2, 3, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        values = conv(images.requires_grad_())
        values.square().sum().backward()
        found.append((values, images.grad, conv.weight.grad, conv.bias.grad))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
