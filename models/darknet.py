"""DarkNet-53 as a list of 23 residual blocks that can be cut after any of them."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from models.layers import ConvNormAct, Residual


@dataclass(frozen=True)
class DarkNetConfig:
    """Depth and channels of a DarkNet; the defaults are DarkNet-53 (YOLOv3, arXiv 1804.02767, table 1)."""

    stem: int = 32
    depths: tuple[int, ...] = (1, 2, 8, 8, 4)
    channels: tuple[int, ...] = (64, 128, 256, 512, 1024)
    width: float = 1.0

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.channels):
            raise ValueError(f"{len(self.depths)} depths for {len(self.channels)} channel counts")
        if not 0 < self.width <= 4:
            raise ValueError(f"width {self.width} is outside (0, 4]")

    def scaled(self, channels: int) -> int:
        """Channel count times width, a multiple of 4."""
        return max(4, round(channels * self.width / 4) * 4)


class DarkNetBlock(nn.Sequential):
    """One residual block, with the convolutions that must precede it: the stem and the stride-2 step."""

    def __init__(self, c_in: int, c_out: int, *, stem: int | None, down: bool) -> None:
        super().__init__()
        if stem is not None:
            self.stem = ConvNormAct(c_in, stem, 3)
            c_in = stem
        if down:
            self.down = ConvNormAct(c_in, c_out, 3, stride=2)
        self.residual = Residual(c_out)


class DarkNet(nn.Module):
    """Backbone that can be cut after any block.

    Attributes:
        blocks: b1…b23, each ending with a residual addition; a cut may fall after any of them.
        channels: output channels of each block.
        stages: number of blocks at each resolution; a down-sampling opens each.
        taps: 1-based blocks whose outputs the detector reads, at strides 8, 16 and 32.
        frozen: so many first blocks are fixed, weights and BatchNorm statistics.
    """

    def __init__(self, config: DarkNetConfig | None = None) -> None:
        super().__init__()
        config = config or DarkNetConfig()
        self.stages = config.depths
        self.blocks = nn.ModuleList()
        self.channels: list[int] = []
        stem, c_in = config.scaled(config.stem), 3
        for depth, channels in zip(config.depths, map(config.scaled, config.channels), strict=True):
            for index in range(depth):
                first = not self.blocks
                self.blocks.append(DarkNetBlock(c_in, channels, stem=stem if first else None, down=index == 0))
                self.channels.append(channels)
                c_in = channels
        self.frozen = 0
        self.taps = tuple(sum(config.depths[: end + 1]) for end in range(len(config.depths)))[-3:]
        self.apply(init_leaky)

    def freeze(self, blocks: int) -> None:
        """Fix the first blocks and free the others; fixed ones stay in evaluation mode."""
        self.frozen = blocks
        for number, block in enumerate(self.blocks, start=1):
            block.requires_grad_(number > blocks)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the frozen blocks."""
        super().train(mode)
        self.blocks[: self.frozen].eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features at the taps.

        Args:
            images: [B, 3, H, W], RGB in 0–1, H and W multiples of 32.

        Returns:
            [B, C, H/s, W/s] for s = 8, 16, 32.
        """
        features, x = [], images
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.taps:
                features.append(x)
        return features


class Classifier(nn.Module):
    """Backbone, global average pooling and a linear layer: [B, 3, H, W] → logits [B, classes]."""

    def __init__(self, backbone: DarkNet, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(backbone.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.backbone(images)[-1].mean((2, 3)))


def init_leaky(module: nn.Module) -> None:
    """He initialisation for leaky ReLU 0.1 (arXiv 1502.01852, eq. 15), fan-in."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, a=0.1, mode="fan_in", nonlinearity="leaky_relu")
        if module.bias is not None:
            torch.nn.init.zeros_(module.bias)
