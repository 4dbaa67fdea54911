"""The six-layer network of the paper (Wang & Farrahi, arXiv 2311.12704), as in its authors' code."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from models.backbone import Backbone, scaled
from models.layers import Normalise, PaddedConv2d

LAYERS, CHANNELS = 6, 256


class CNN6(Backbone):
    """Six times 3×3 convolution, BatchNorm, ReLU, max-pool by 2; images are normalised first.

    The paper says six layers. 256 channels with bias, padding 3 (so that 224 → 114, 59, 31, 17, 10, 7), the order
    of the layers, ImageNet's mean and standard deviation and torch's own initialisation are those of the authors'
    code (github.com/FrankWJW/robustness at de903fd, model/CascadeNet.py, `small_with_dropout` with dropout 0).
    The padding leaves no map at a stride of 8, 16 or 32: there are no taps.

    Args:
        width: factor on the 256 channels.

    Raises:
        ValueError: width is outside (0, 4].
    """

    def __init__(self, width: float = 1.0) -> None:
        channels = [scaled(CHANNELS, width)] * LAYERS
        blocks = [cnn6_block(c_in, c_out) for c_in, c_out in pairwise([3, *channels])]
        super().__init__(blocks, channels, stages=(1,) * LAYERS, taps=())


def cnn6_block(c_in: int, c_out: int) -> nn.Sequential:
    """One layer; `act` puts out what localisation reads. The one that takes images (3 channels) normalises them."""
    steps: OrderedDict[str, nn.Module] = OrderedDict()
    if c_in == 3:
        steps["normalise"] = Normalise()
    steps["conv"] = PaddedConv2d(c_in, c_out, 3, padding=3)
    steps["norm"] = nn.BatchNorm2d(c_out)
    steps["act"] = nn.ReLU(inplace=True)
    steps["pool"] = nn.MaxPool2d(2)
    return nn.Sequential(steps)
