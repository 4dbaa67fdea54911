"""ResNet-50 and VGG-16 of torchvision, their modules grouped into blocks that can be cut; images normalised first."""

from collections import OrderedDict

from torch import nn
from torchvision.models import resnet, vgg

from models.backbone import Backbone
from models.layers import Normalise, Steps
from utils.errors import UserError


def resnet50(width: float = 1.0) -> Backbone:
    """Sixteen bottleneck blocks (He et al., arXiv 1512.03385, table 1; torchvision's, stride in the 3×3).

    The smallest sub-module is a residual block; the stem (convolution, BatchNorm, ReLU, max-pool) is part of the first.

    Raises:
        UserError: width is not 1.
    """
    refuse_width("resnet50", width)
    source = resnet.resnet50(weights=None)
    layers = [source.layer1, source.layer2, source.layer3, source.layer4]
    first, *others = [block for layer in layers for block in layer]
    stem = nn.Sequential(Normalise(), source.conv1, source.bn1, source.relu, source.maxpool)
    blocks = [Steps(OrderedDict(stem=stem, residual=first)), *others]
    channels = [block.bn3.num_features for block in (first, *others)]
    return Backbone(blocks, channels, stages=tuple(map(len, layers)), taps=(7, 13, 16))


def vgg16(width: float = 1.0) -> Backbone:
    """Thirteen blocks: a 3×3 convolution, ReLU, and the max-pool that follows (arXiv 1409.1556, table 1, D).

    A pool belongs to the convolution before it, as in Deep Cascade Learning (Marquez et al., TNNLS 29(11), 2018).
    No BatchNorm, no classifier. He initialisation, fan-out, as in torchvision.

    Raises:
        UserError: width is not 1.
    """
    refuse_width("vgg16", width)
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
    return Backbone(blocks, channels, stages=(2, 2, 3, 3, 3), taps=(7, 10, 13))


def refuse_width(name: str, width: float) -> None:
    """Raise UserError unless width is 1: these networks come in one size."""
    if width != 1:
        raise UserError(f"{name} at {width}", where="--width", mend="give 1, or take darknet53 or cnn6, which scale")
