"""Fully convolutional networks: a class for each pixel, from a backbone's taps (Shelhamer et al., arXiv 1605.06211)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from models.backbone import Backbone
from utils.errors import UserError
from utils.tables import Chosen, Entry, Option, Table

COARSEST = 32  # stride of the last tap
SCORE_STD = 0.01  # of the first weights of the scores: no class is sure of itself


def bilinear_kernel(stride: int) -> Tensor:
    """[2·stride, 2·stride] weights with which a deconvolution enlarges as bilinear interpolation does."""
    places = torch.arange(2 * stride, dtype=torch.float32)
    side = 1 - (places - (2 * stride - 1) / 2).abs() / stride
    return side[:, None] * side[None, :]


class Enlarge(nn.ConvTranspose2d):
    """Deconvolution, kernel twice the stride: [B, C, H, W] → [B, C, H·stride, W·stride], bilinear at first.

    The outermost cells are repeated beyond the border, so that it begins as `interpolate(mode="bilinear")` to its edge.

    Args:
        stride: even.
        learnt: it learns, each class from all others too; else it stays bilinear.
    """

    def __init__(self, channels: int, stride: int, *, learnt: bool) -> None:
        groups = 1 if learnt else channels
        super().__init__(
            channels, channels, 2 * stride, stride, padding=stride + stride // 2, groups=groups, bias=False
        )
        with torch.no_grad():
            self.weight.zero_()
            for channel in range(channels):
                self.weight[channel, channel if learnt else 0] = bilinear_kernel(stride)
        self.weight.requires_grad_(learnt)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return super().forward(pad(x, (1, 1, 1, 1), mode="replicate"), output_size)


@dataclass(frozen=True)
class FCNEntry(Entry):
    """How scores of several taps become one map.

    Attributes:
        taps: how many it reads, from the coarsest on.
    """

    taps: int


DECONVOLUTION = {"deconvolution": Option("learnt", ("learnt", "fixed"))}
FCNS = Table(
    "fully convolutional head",
    "--fcn",
    (
        FCNEntry("fcn32s", "scores at stride 32, enlarged 32 times", 1, options=DECONVOLUTION),
        FCNEntry("fcn16s", "scores at strides 32 and 16, enlarged 16 times", 2, options=DECONVOLUTION),
        FCNEntry("fcn8s", "scores at strides 32, 16 and 8, enlarged 8 times", 3, options=DECONVOLUTION),
    ),
)


class FCN(nn.Module):
    """A backbone and a 1×1 score of each class at its last taps; the coarser are enlarged and added to the finer.

    Args:
        classes: the background among them.

    Raises:
        UserError: the backbone has not the taps that the head reads.
    """

    def __init__(self, backbone: Backbone, classes: int, head: Chosen[FCNEntry]) -> None:
        super().__init__()
        count, learnt = head.entry.taps, head.options["deconvolution"] == "learnt"
        if len(backbone.taps) < count:
            strides = ", ".join(str(COARSEST >> place) for place in range(count))
            what = f"{head.entry.name} reads features at stride {strides}; the backbone has {len(backbone.taps)} taps"
            raise UserError(
                what, where="--backbone", hint="give one that has them, such as darknet53, or --pretrain-only"
            )
        self.backbone, self.classes = backbone, classes
        channels = [backbone.channels[tap - 1] for tap in backbone.taps[-count:]]
        self.scores = nn.ModuleList(nn.Conv2d(own, classes, 1) for own in reversed(channels))
        strides_up = [*[2] * (count - 1), COARSEST >> (count - 1)]
        self.enlarge = nn.ModuleList(Enlarge(classes, stride, learnt=learnt) for stride in strides_up)
        for score in self.scores:
            nn.init.normal_(score.weight, std=SCORE_STD)  # type: ignore[arg-type]
            nn.init.zeros_(score.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Scores before softmax.

        Args:
            images: [B, 3, H, W], RGB in 0–1, H and W multiples of 32.

        Returns:
            [B, classes, H, W].
        """
        taps = self.backbone(images)[::-1]
        x = self.scores[0](taps[0])
        for score, tap, enlarge in zip(self.scores[1:], taps[1:], self.enlarge, strict=False):
            x = enlarge(x) + score(tap)
        return self.enlarge[-1](x)
