"""The small network of a lecture, on the first layer of another: AlexNet's, which was trained elsewhere."""

from torch import Tensor, nn

from models.backbone import Backbone, scaled
from models.layers import Normalise

LENT = 64  # channels of AlexNet's first layer; the width leaves them as they are
CHANNELS, RESIDUALS = 64, 16


class Branched(nn.Module):
    """x + two 3×3 convolutions with BatchNorm, ReLU between them, linear after the addition."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.branch(x)
        return out


class Monster(Backbone):
    """AlexNet's first convolution with ReLU, a 3×3 convolution to 64 channels, sixteen residual blocks; no taps.

    `Monster` of Fleuret's EE-559, lecture 7 (networks for computer vision), for CIFAR-10: 7×7 cells at 32 pixels. The
    first block is called as that of `alexnet` here, and takes its weights; images are normalised as AlexNet's.

    Args:
        width: factor on the channels after the first block.
    """

    def __init__(self, width: float = 1.0) -> None:
        own = scaled(CHANNELS, width)
        first = nn.Sequential(Normalise(), nn.Conv2d(3, LENT, 11, stride=4, padding=2), nn.ReLU(inplace=True))
        converter = nn.Sequential(nn.Conv2d(LENT, own, 3, padding=1), nn.ReLU(inplace=True))
        blocks = [first, converter, *(Branched(own) for _ in range(RESIDUALS))]
        super().__init__(blocks, [LENT, *[own] * (RESIDUALS + 1)], stages=(1, RESIDUALS + 1), taps=())
