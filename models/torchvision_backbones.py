"""Networks of torchvision, their modules grouped into blocks that can be cut; images normalised first.

AlexNet, GoogLeNet, Inception V3 and `vgg16_gap` end where Zhou et al. (arXiv 1512.04150, §3) cut them for class
activation maps: 14×14 cells, AlexNet 13×13, at 224 pixels, Inception V3 at 256.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torchvision import models as peers
from torchvision.models import resnet, vgg

from models.backbone import Backbone
from models.layers import HALF, Normalise, Steps


def resnet50() -> Backbone:
    """Sixteen bottleneck blocks (He et al., arXiv 1512.03385, table 1; torchvision's, stride in the 3×3).

    The smallest sub-module is a residual block; the stem (convolution, BatchNorm, ReLU, max-pool) is part of the first.
    """
    source = resnet.resnet50(weights=None)
    layers = [source.layer1, source.layer2, source.layer3, source.layer4]
    first, *others = [block for layer in layers for block in layer]
    stem = nn.Sequential(Normalise(), source.conv1, source.bn1, source.relu, source.maxpool)
    blocks = [Steps(OrderedDict(stem=stem, residual=first)), *others]
    channels = [block.bn3.num_features for block in (first, *others)]
    return Backbone(blocks, channels, stages=tuple(map(len, layers)), taps=(7, 13, 16))


def vgg16(*, last_pool: bool = True) -> Backbone:
    """Thirteen blocks: a 3×3 convolution, ReLU, and the max-pool that follows (arXiv 1409.1556, table 1, D).

    A pool belongs to the convolution before it, as in Deep Cascade Learning (Marquez et al., TNNLS 29(11), 2018).
    No BatchNorm, no classifier. He initialisation, fan-out, as in torchvision.

    Args:
        last_pool: without it the last features have 14×14 cells at 224 pixels instead of 7×7, and there are no taps:
            VGGnet-GAP of Zhou et al.
    """
    blocks: list[nn.Sequential] = []
    # The layers alone: the whole model would fill 120 million weights of its classifier in vain.
    for layer in vgg.make_layers(vgg.cfgs["D"]):
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
            blocks.append(nn.Sequential() if blocks else nn.Sequential(Normalise()))
        blocks[-1].append(layer)
    channels = [m.out_channels for block in blocks for m in block if isinstance(m, nn.Conv2d)]
    if not last_pool:
        blocks[-1] = blocks[-1][:-1]
    return Backbone(blocks, channels, stages=(2, 2, 3, 3, 3), taps=(7, 10, 13) if last_pool else ())


def alexnet() -> Backbone:
    """Five convolutions with ReLU, each with the max-pool that follows but the last (torchvision's single column)."""
    steps = peers.AlexNet(num_classes=1).features
    return grouped([steps[0:3], steps[3:6], steps[6:8], steps[8:10], steps[10:12]], (64, 192, 384, 256, 256), (1, 1, 3))


def alexnet_star() -> Backbone:
    """AlexNet's convolutions, a 3×3 pool at stride 1, and two more of 512 channels: 11×11 cells at 224 pixels.

    AlexNet*-GAP of Zhou et al., §3, as in the released network (github.com/zhoubolei/CAM at c63f285, alexnetplusCAM).
    """
    own = alexnet()
    *before, last = own.blocks
    last = nn.Sequential(*last.children(), nn.MaxPool2d(3, 1))
    added = [nn.Sequential(nn.Conv2d(c, 512, 3, padding=1), nn.ReLU(inplace=True)) for c in (own.channels[-1], 512)]
    return Backbone([*before, last, *added], [*own.channels, 512, 512], stages=(1, 1, 5), taps=())


def alexnet_bn() -> Backbone:
    """AlexNet with BatchNorm behind each convolution; torchvision has none, and so no weights of it."""
    found = alexnet()
    for block, channels in zip(found.blocks, found.channels, strict=True):
        assert isinstance(block, nn.Sequential)
        place = next(index for index, own in enumerate(block) if isinstance(own, nn.Conv2d))
        block.insert(place + 1, nn.BatchNorm2d(channels))
    return found


def googlenet() -> Backbone:
    """The stem in two blocks, then the Inception modules 3a to 4e (Szegedy et al., arXiv 1409.4842, table 1).

    Images are normalised as torchvision's weights want it: its `transform_input` turns ImageNet's statistics into 0.5.
    """
    own = peers.GoogLeNet(num_classes=1, aux_logits=False, init_weights=True)
    parts = [
        [own.conv1, own.maxpool1], [own.conv2, own.conv3, own.maxpool2],
        [own.inception3a], [own.inception3b, own.maxpool3],
        [own.inception4a], [own.inception4b], [own.inception4c], [own.inception4d], [own.inception4e],
    ]  # fmt: skip
    return grouped(parts, (64, 192, 256, 480, 512, 512, 512, 528, 832), (1, 1, 2, 5), Normalise(HALF, HALF))


def inception_v3() -> Backbone:
    """The stem in two blocks, then the modules up to Mixed_6e (Szegedy et al., arXiv 1512.00567), 768 channels.

    Images are normalised as torchvision's weights want it, as in `googlenet`.
    """
    own = peers.Inception3(num_classes=1, aux_logits=False, init_weights=True)
    parts = [
        [own.Conv2d_1a_3x3, own.Conv2d_2a_3x3, own.Conv2d_2b_3x3, own.maxpool1],
        [own.Conv2d_3b_1x1, own.Conv2d_4a_3x3, own.maxpool2],
        [own.Mixed_5b], [own.Mixed_5c], [own.Mixed_5d],
        [own.Mixed_6a], [own.Mixed_6b], [own.Mixed_6c], [own.Mixed_6d], [own.Mixed_6e],
    ]  # fmt: skip
    return grouped(parts, (64, 192, 256, 288, 288, 768, 768, 768, 768, 768), (1, 1, 3, 5), Normalise(HALF, HALF))


def grouped(
    parts: Iterable[Iterable[nn.Module]],
    channels: Iterable[int],
    stages: tuple[int, ...],
    normalise: Normalise | None = None,
) -> Backbone:
    """Blocks of these modules behind the normalisation [ImageNet's], without taps for a detector."""
    blocks = [nn.Sequential(*part) for part in parts]
    blocks[0].insert(0, normalise or Normalise())
    return Backbone(blocks, list(channels), stages=stages, taps=())


# Of each network what builds it in torchvision, and where the names begin of what is no part of our backbone.
FILES: dict[str, tuple[Any, tuple[str, ...]]] = {
    "resnet50": (peers.resnet50, ("fc.",)),
    "vgg16": (peers.vgg16, ("classifier.",)),
    "vgg16_gap": (peers.vgg16, ("classifier.",)),
    "alexnet": (peers.alexnet, ("classifier.",)),
    "googlenet": (peers.googlenet, ("inception5", "aux", "fc.")),
    "inception_v3": (peers.inception_v3, ("Mixed_7", "AuxLogits", "fc.")),
}


def names_in_torchvision(name: str, backbone: Backbone) -> dict[str, str]:
    """What torchvision calls each weight of one of FILES: both list them in the order of the data flow."""
    build, beside = FILES[name]
    with torch.device("meta"):
        peer = build(weights=None, **({"init_weights": False} if "ception" in name or name == "googlenet" else {}))
    theirs = [key for key in peer.state_dict() if not key.startswith(beside)]
    return dict(zip(backbone.state_dict(), theirs, strict=True))
