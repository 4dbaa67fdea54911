"""Classifiers on a sub-module while it trains: features [B, C, H, W] → logits [B, classes]."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from models.layers import init_leaky
from utils.errors import UserError
from utils.tables import Entry, Table

Shape = tuple[int, int, int]
# One gibibyte in float32; what an optimiser keeps comes on top.
MOST_WEIGHTS = 2**28


class ClassifierHead(nn.Sequential):
    """So many times 3×3 convolution to 128, BatchNorm, leaky ReLU; 5×5 adaptive average pool, one linear layer.

    The head of the cascade-learning authors' own code (github.com/FrankWJW/robustness at de903fd,
    model/CascadeNet.py: 0 or 1 convolutions), with DarkNet's activation and padding.
    """

    WIDTH, GRID = 128, 5

    def __init__(self, channels: int, classes: int, convs: int = 1) -> None:
        steps: list[nn.Module] = []
        for _ in range(convs):
            steps += [nn.Conv2d(channels, self.WIDTH, 3, padding=1), nn.BatchNorm2d(self.WIDTH)]
            steps.append(nn.LeakyReLU(0.1, inplace=True))
            channels = self.WIDTH
        pool = nn.AdaptiveAvgPool2d(self.GRID)
        super().__init__(*steps, pool, nn.Flatten(), nn.Linear(channels * self.GRID**2, classes))
        self.apply(init_leaky)


def first_pool(head: nn.Module) -> nn.Module | None:
    """The pool to a fixed size that a head begins with, if it does: it learns nothing, and twice is as good as once."""
    first = head[0] if isinstance(head, nn.Sequential) else None
    return first if isinstance(first, nn.AdaptiveAvgPool2d | nn.AdaptiveMaxPool2d) else None


def mapped(shape: Shape, classes: int, *, greatest: bool = False, convolution: int = 0) -> nn.Sequential:
    """What class activation maps ask for: a 3×3 convolution with ReLU if there is one, a global pool, one linear layer.

    Args:
        greatest: pool by the maximum (GMP) instead of the mean (GAP).
        convolution: its channels; 0 for none. 1,024 in Zhou et al., arXiv 1512.04150, §3.
    """
    channels = convolution or shape[0]
    steps: list[nn.Module] = []
    if convolution:
        steps += [nn.Conv2d(shape[0], channels, 3, padding=1), nn.ReLU(inplace=True)]
    pool = nn.AdaptiveMaxPool2d(1) if greatest else nn.AdaptiveAvgPool2d(1)
    return nn.Sequential(*steps, pool, nn.Flatten(), nn.Linear(channels, classes))


def marquez(shape: Shape, classes: int, *, neurons: int = 512) -> nn.Sequential:
    """Flatten, dropout, 512 ReLU, dropout, 256 ReLU, linear: the output block of Deep Cascade Learning.

    Marquez et al., TNNLS 29(11), 2018; sizes as in its code for VGG
    (github.com/EnriqueSMarquez/CascadeLearning at 293a587). Takes features of this height and width only.

    Raises:
        UserError: the first layer would have more than 2²⁸ weights.
    """
    channels, height, width = shape
    flat = math.prod(shape)
    if flat * neurons > MOST_WEIGHTS:
        raise UserError(
            f"marquez on features of {channels}×{height}×{width} takes {flat * neurons:,} weights in its first layer",
            where="--pretrain-head",
            hint="give author, which pools first, or smaller images",
        )
    return nn.Sequential(
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(flat, neurons),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(neurons, neurons // 2),
        nn.ReLU(inplace=True),
        nn.Linear(neurons // 2, classes),
    )


def fully_connected(shape: Shape, classes: int, *, grid: int, pool: bool = False, width: int = 4096) -> nn.Sequential:
    """What AlexNet and VGG end in: a pool to grid × grid cells, two layers of 4,096 with dropout, and the linear one.

    Sizes as in torchvision, which pools to 6×6 for AlexNet and to 7×7 for VGG; at 224 pixels that changes nothing.
    Dropout is in front of both layers, as in torchvision's AlexNet; its VGG has it behind them.

    Args:
        pool: a max-pool of 3×3 at stride 2 comes first, which the backbone `alexnet` lacks.
    """
    flat = shape[0] * grid**2
    return nn.Sequential(
        *([nn.MaxPool2d(3, 2, ceil_mode=True)] if pool else []),
        nn.AdaptiveAvgPool2d(grid),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(flat, width),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(width, width),
        nn.ReLU(inplace=True),
        nn.Linear(width, classes),
    )


class Shrink(nn.Module):
    """Adaptive average pool to a quarter of each side, rounded up; for maps of any size."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return nn.functional.adaptive_avg_pool2d(x, (-(-height // 4), -(-width // 4)))


def mlp_sr(shape: Shape, classes: int, *, depth: int = 3) -> nn.Sequential:
    """MLP-SR of Decoupled Greedy Learning (Belilovsky et al., arXiv 1901.08164).

    A pool to a quarter of each side, three 1×1 convolutions, a pool to 2×2, three fully connected layers of 4C,
    all with BatchNorm and ReLU, and the linear one (layers as in github.com/eugenium/DGL,
    imagenet_dgl/models/auxillary_classifier.py). Most of its 51·C² weights are in the fully connected layers.
    """
    channels, wide = shape[0], 4 * shape[0]
    steps: list[nn.Module] = [Shrink()]
    for _ in range(depth):
        steps += [nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    steps += [nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    for _ in range(depth):
        steps += [nn.Linear(wide, wide), nn.BatchNorm1d(wide), nn.ReLU(inplace=True)]
    return nn.Sequential(*steps, nn.Linear(wide, classes))


def one_conv_two_linear(shape: Shape, classes: int, *, widest: int = 128) -> nn.Sequential:
    """`1c2f` of InfoPro (Wang et al., arXiv 2101.10832): strided convolution, global average pool, two linear layers.

    The convolution doubles the channels as there, to 128 at most, the width of the layer after it; InfoPro's own
    networks put it on 16 to 64 channels.
    """
    wide = min(2 * shape[0], widest)
    return nn.Sequential(
        nn.Conv2d(shape[0], wide, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(wide),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(wide, widest),
        nn.ReLU(inplace=True),
        nn.Linear(widest, classes),
    )


@dataclass(frozen=True)
class HeadEntry(Entry):
    """A classifier on a sub-module.

    Attributes:
        make: shape of the features, classes, convolutions of the author head (others have their own) → a fresh head.
        one_size: it takes features of the size that it was made for, no other.
        mapped: class activation maps can explain it.
    """

    make: Callable[[Shape, int, int], nn.Module]
    one_size: bool = False
    mapped: bool = False


HEADS = Table(
    "head",
    "--pretrain-head",
    (
        HeadEntry("author", "the authors' own", lambda shape, classes, convs: ClassifierHead(shape[0], classes, convs)),
        HeadEntry("gap", "mean pool, linear", lambda shape, classes, _: mapped(shape, classes), mapped=True),
        HeadEntry(
            "gmp", "maximum pool, linear", lambda shape, classes, _: mapped(shape, classes, greatest=True), mapped=True
        ),
        HeadEntry(
            "gap1024",
            "1,024 channels, mean pool, linear",
            lambda shape, classes, _: mapped(shape, classes, convolution=1024),
            mapped=True,
        ),
        HeadEntry(
            "gmp1024",
            "1,024 channels, maximum pool, linear",
            lambda shape, classes, _: mapped(shape, classes, greatest=True, convolution=1024),
            mapped=True,
        ),
        HeadEntry("marquez", "Marquez et al.", lambda shape, classes, _: marquez(shape, classes), one_size=True),
        HeadEntry(
            "alexnet_fc",
            "AlexNet's pool and its layers of 4,096",
            lambda shape, classes, _: fully_connected(shape, classes, grid=6, pool=True),
        ),
        HeadEntry("vgg_fc", "VGG's layers of 4,096", lambda shape, classes, _: fully_connected(shape, classes, grid=7)),
        HeadEntry("mlp_sr", "MLP-SR, Belilovsky et al.", lambda shape, classes, _: mlp_sr(shape, classes)),
        HeadEntry("1c2f", "Wang et al.", lambda shape, classes, _: one_conv_two_linear(shape, classes)),
    ),
)


def make_head(name: str, shape: Shape, classes: int, *, convs: int = 1) -> nn.Module:
    """A freshly initialised head, one of HEADS.

    Args:
        shape: channels, height, width of the features that it is given.
        convs: convolutions in the author head; the others do not look at it.

    Raises:
        UserError: there is no such head, or it would be too large for this shape.
    """
    return HEADS.pick(name).make(shape, classes, convs)
