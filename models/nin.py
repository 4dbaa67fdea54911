"""Network in Network (Lin et al., arXiv 1312.4400), for the pictures of CIFAR and for those of ImageNet."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from torch import nn

from models.backbone import Backbone, scaled
from models.layers import Normalise, init_leaky


class Block(NamedTuple):
    """One mlpconv layer (figure 2 of the paper).

    Attributes:
        kernel, stride, padding: of its convolution.
        channels: of the convolution and of the 1×1 convolutions behind it, each with ReLU.
        pool: makes the pool behind it, 3×3 at stride 2.
        drop: dropout in front of it.
    """

    kernel: int
    stride: int
    padding: int
    channels: tuple[int, ...]
    pool: Callable[[], nn.Module] | None = None
    drop: bool = False


# The authors' networks for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def) and, in Caffe's model zoo, for
# ImageNet. Their last layer is a classifier for each cell: here the `gap` head.
CIFAR = (
    Block(5, 1, 2, (192, 160, 96), partial(nn.MaxPool2d, 3, 2, 1)),
    Block(5, 1, 2, (192, 192, 192), partial(nn.AvgPool2d, 3, 2, 1), drop=True),
    Block(3, 1, 1, (192, 192, 192), drop=True),
)
IMAGENET = (
    Block(11, 4, 0, (96, 96, 96), partial(nn.MaxPool2d, 3, 2, ceil_mode=True)),
    Block(5, 1, 2, (256, 256, 256), partial(nn.MaxPool2d, 3, 2, ceil_mode=True)),
    Block(3, 1, 1, (384, 384, 384), partial(nn.MaxPool2d, 3, 2, ceil_mode=True)),
    Block(3, 1, 1, (1024, 1024), drop=True),
)


class NIN(Backbone):
    """Mlpconv layers, one a block; with strides of which no three are 8, 16 and 32: no taps.

    Args:
        width: factor on the channels.
        blocks: CIFAR or IMAGENET.

    Raises:
        ValueError: width is outside (0, 4].
    """

    def __init__(self, width: float = 1.0, blocks: Sequence[Block] = CIFAR) -> None:
        channels = [scaled(own.channels[-1], width) for own in blocks]
        steps = [mlpconv(own, c_in, width) for own, c_in in zip(blocks, [3, *channels], strict=False)]
        super().__init__(map(nn.Sequential, steps), channels, stages=(1,) * len(blocks), taps=())
        self.apply(init_leaky)


def mlpconv(block: Block, c_in: int, width: float) -> OrderedDict[str, nn.Module]:
    """The steps of one block; the one that takes images (3 channels) normalises them."""
    steps = OrderedDict[str, nn.Module]()
    if c_in == 3:
        steps["normalise"] = Normalise()
    if block.drop:
        steps["drop"] = nn.Dropout(0.5)
    for number, c_out in enumerate((scaled(own, width) for own in block.channels), start=1):
        own = (block.kernel, block.stride, block.padding) if number == 1 else (1,)
        steps[f"conv{number}"] = nn.Conv2d(c_in, c_out, *own)
        steps[f"act{number}"] = nn.ReLU(inplace=True)
        c_in = c_out
    if block.pool:
        steps["pool"] = block.pool()
    return steps


def nin_imagenet(width: float = 1.0) -> NIN:
    """Four blocks for pictures of 224 pixels: 6×6 cells (Zhou et al., arXiv 1512.04150, tables 1 and 2)."""
    return NIN(width, IMAGENET)
