"""Classifiers that stand on a sub-module while it trains."""

from torch import nn

from models.darknet import init_leaky


class ClassifierHead(nn.Sequential):
    """3×3 convolution to 128 channels, BatchNorm, leaky ReLU, 5×5 adaptive average pool, one linear layer.

    The head of the cascade-learning authors' own code, with DarkNet's activation and padding.
    """

    WIDTH, GRID = 128, 5

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__(
            nn.Conv2d(channels, self.WIDTH, 3, padding=1),
            nn.BatchNorm2d(self.WIDTH),
            nn.LeakyReLU(0.1, inplace=True),
            nn.AdaptiveAvgPool2d(self.GRID),
            nn.Flatten(),
            nn.Linear(self.WIDTH * self.GRID**2, classes),
        )
        self.apply(init_leaky)
