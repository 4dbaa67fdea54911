"""The two building blocks of DarkNet: convolution with BatchNorm, and the residual block."""

from torch import Tensor, nn


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
