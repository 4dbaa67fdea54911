"""Building blocks of the networks: normalisation of images, convolution with BatchNorm, the residual block."""

from collections.abc import Sequence

from torch import Tensor, nn, tensor
from torch.nn import functional

HALF = (0.5, 0.5, 0.5)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """Images [B, C, H, W] in 0–1, RGB or one channel → minus a mean, over a standard deviation [ImageNet's].

    Nothing in it is learnt.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", tensor(std).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class PaddedConv2d(nn.Conv2d):
    """nn.Conv2d that puts the zeros around its input itself.

    Where the padding is as wide as the kernel, oneDNN has no fast kernels, and a step is up to ten times slower.
    """

    def forward(self, images: Tensor) -> Tensor:
        high, wide = map(int, self.padding)
        padded = functional.pad(images, (wide, wide, high, high))
        return functional.conv2d(padded, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Steps(nn.Sequential):
    """Modules that run one after another, each large enough to be recomputed by itself (models/recompute.py)."""


class ConvNormAct(nn.Sequential):
    """Convolution without bias, BatchNorm, leaky ReLU with slope 0.1; padding keeps size at stride 1."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)
        self.act = nn.LeakyReLU(0.1, inplace=True)


# First scale of what a block adds: 23 blocks in a row then start close to the identity and learn sooner.
# Not zero, which would keep the 1×1 convolutions from learning in the first step.
BRANCH_SCALE = 0.2


class Residual(nn.Module):
    """x + conv3x3(conv1x1(x)), linear after the addition (YOLOv3, arXiv 1804.02767, table 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2, 1)
        self.expand = ConvNormAct(channels // 2, channels, 3)
        nn.init.constant_(self.expand.norm.weight, BRANCH_SCALE)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.expand(self.reduce(x))


def init_leaky(module: nn.Module) -> None:
    """He initialisation for leaky ReLU 0.1 (arXiv 1502.01852, eq. 15), fan-in."""
    if isinstance(module, nn.Conv2d) and not module.weight.is_meta:  # without values torch takes longest to draw them
        nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_in", nonlinearity="leaky_relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
