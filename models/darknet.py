"""DarkNet-53 as a list of 23 residual blocks that can be cut after any of them."""

from dataclasses import dataclass

from torch import Tensor, nn

from models.backbone import Backbone, scaled
from models.layers import ConvNormAct, Residual, Steps, init_leaky


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
        self.scaled(self.stem)  # a width out of range shows here

    def scaled(self, channels: int) -> int:
        """Channel count times width, a multiple of 4."""
        return scaled(channels, self.width)


class DarkNetBlock(Steps):
    """One residual block, with the convolutions that must precede it: the stem and the stride-2 step."""

    def __init__(self, c_in: int, c_out: int, *, stem: int | None, down: bool) -> None:
        super().__init__()
        if stem is not None:
            self.stem = ConvNormAct(c_in, stem, 3)
            c_in = stem
        if down:
            self.down = ConvNormAct(c_in, c_out, 3, stride=2)
        self.residual = Residual(c_out)


class DarkNet(Backbone):
    """Blocks b1…b23, each ending with a residual addition; the first of a stage opens with a down-sampling."""

    def __init__(self, config: DarkNetConfig | None = None) -> None:
        config = config or DarkNetConfig()
        blocks: list[nn.Module] = []
        widths: list[int] = []
        stem, c_in = config.scaled(config.stem), 3
        for depth, channels in zip(config.depths, map(config.scaled, config.channels), strict=True):
            for index in range(depth):
                blocks.append(DarkNetBlock(c_in, channels, stem=None if blocks else stem, down=index == 0))
                widths.append(channels)
                c_in = channels
        taps = tuple(sum(config.depths[: end + 1]) for end in range(len(config.depths)))[-3:]
        super().__init__(blocks, widths, config.depths, taps)
        self.apply(init_leaky)


class Classifier(nn.Module):
    """DarkNet, global average pooling and a linear layer: [B, 3, H, W] → logits [B, classes]."""

    def __init__(self, backbone: DarkNet, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.linear = nn.Linear(backbone.channels[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.backbone(images)[-1].mean((2, 3)))
