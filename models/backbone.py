"""A backbone that can be cut: what cascade learning, the detector and the measurements ask of a network."""

from collections.abc import Collection, Iterable
from typing import Self

from torch import Tensor, nn


def scaled(channels: int, width: float) -> int:
    """Channel count times width, a multiple of 4.

    Raises:
        ValueError: width is outside (0, 4].
    """
    if not 0 < width <= 4:
        raise ValueError(f"width {width} is outside (0, 4]")
    return max(4, round(channels * width / 4) * 4)


class Backbone(nn.Module):
    """Blocks that run one after another; a cut may fall after any of them.

    Attributes:
        blocks: b1, b2, …; each takes what the one before puts out, the first takes images.
        channels: output channels of each block.
        stages: number of blocks at each resolution; the nested rule cuts between them first.
        taps: 1-based blocks whose outputs the detector reads, at strides 8, 16 and 32; empty where there are none.
        frozen: so many first blocks are fixed, weights and BatchNorm statistics.
        reused: so many first blocks took over weights.
        in_channels: of the images: 3 for RGB, 1 for values of one kind, such as fractional anisotropy.
    """

    def __init__(
        self, blocks: Iterable[nn.Module], channels: list[int], stages: tuple[int, ...], taps: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.channels = channels
        self.stages = stages
        self.taps = taps
        self.frozen = 0
        self.reused = 0
        self.in_channels = 3
        if not len(self.blocks) == len(channels) == sum(stages):
            raise ValueError(f"{len(self.blocks)} blocks, {len(channels)} channel counts, stages {stages}")

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

    def at(self, images: Tensor, places: Collection[int]) -> list[Tensor]:
        """What some blocks, counted from 1, put out for images [B, in_channels, H, W] in 0–1; all blocks run."""
        features, x = [], images
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in places:
                features.append(x)
        return features

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features that a detector reads.

        Args:
            images: [B, in_channels, H, W] in 0–1, RGB where these are 3; H and W multiples of 32.

        Returns:
            [B, C, H/s, W/s] for s = 8, 16, 32.
        """
        return self.at(images, self.taps)
