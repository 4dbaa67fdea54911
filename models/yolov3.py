"""YOLOv3: a backbone's three taps, a feature pyramid, three prediction heads (arXiv 1804.02767)."""

import math

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.layers import ConvNormAct, init_leaky
from models.network import DetectorNetwork
from utils.errors import UserError

STRIDES = (8, 16, 32)
ANCHORS_PER_SCALE = 3
# The nine COCO anchors of YOLOv3, width × height in pixels of a 416-pixel input, small to large.
COCO_ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
# Few cells hold an object: starting near that keeps the first steps from being spent on unlearning 0.5.
OBJECTNESS_PRIOR = 0.01


def scaled_anchors(imgsz: int) -> list[tuple[float, float]]:
    """COCO anchors for an input of imgsz pixels, width × height in pixels."""
    return [(w * imgsz / 416, h * imgsz / 416) for w, h in COCO_ANCHORS]


class FiveConvs(nn.Sequential):
    """1×1 and 3×3 convolutions in turn, five of them, as before each YOLOv3 prediction."""

    def __init__(self, c_in: int, c_out: int) -> None:
        wide = 2 * c_out
        super().__init__(
            ConvNormAct(c_in, c_out, 1),
            ConvNormAct(c_out, wide, 3),
            ConvNormAct(wide, c_out, 1),
            ConvNormAct(c_out, wide, 3),
            ConvNormAct(wide, c_out, 1),
        )


class Neck(nn.Module):
    """Top-down pyramid: taps [C3, C4, C5] → features at strides 8, 16, 32."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.top = FiveConvs(c5, c5 // 2)
        self.to_middle = ConvNormAct(c5 // 2, c4 // 2, 1)
        self.middle = FiveConvs(c4 + c4 // 2, c4 // 2)
        self.to_bottom = ConvNormAct(c4 // 2, c3 // 2, 1)
        self.bottom = FiveConvs(c3 + c3 // 2, c3 // 2)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, taps: list[Tensor]) -> list[Tensor]:
        c3, c4, c5 = taps
        top = self.top(c5)
        middle = self.middle(torch.cat([self.upsample(self.to_middle(top)), c4], 1))
        bottom = self.bottom(torch.cat([self.upsample(self.to_bottom(middle)), c3], 1))
        return [bottom, middle, top]


class Head(nn.Sequential):
    """3×3 convolution and the 1×1 prediction of 3 × (4 box + 1 objectness + classes) channels."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.expand = ConvNormAct(channels, 2 * channels, 3)
        self.predict = nn.Conv2d(2 * channels, ANCHORS_PER_SCALE * (5 + classes), 1)
        self.apply(init_leaky)
        self._start_quiet()

    def _start_quiet(self) -> None:
        """Small weights, objectness at its prior: every box starts as its anchor, rarely an object."""
        nn.init.normal_(self.predict.weight, std=0.01)
        bias = self.predict.bias
        assert bias is not None
        with torch.no_grad():
            bias.view(ANCHORS_PER_SCALE, -1)[:, 4] = math.log(OBJECTNESS_PRIOR / (1 - OBJECTNESS_PRIOR))


def tapped(backbone: Backbone) -> list[int]:
    """Channels of the backbone's taps at strides 8, 16 and 32.

    Raises:
        UserError: it has none.
    """
    if len(backbone.taps) != len(STRIDES):
        raise UserError(
            f"{type(backbone).__name__} has no features at strides 8, 16 and 32, which the detector reads",
            where="--backbone",
            hint="give one that has, such as darknet53, or --pretrain-only",
        )
    return [backbone.channels[tap - 1] for tap in backbone.taps]


class YOLOv3(DetectorNetwork):
    """A feature pyramid over three taps and a head on each of its levels.

    Raises:
        UserError: the backbone has no taps.
    """

    def __init__(self, backbone: Backbone, classes: int) -> None:
        channels = tapped(backbone)
        super().__init__(backbone, classes, backbone.taps, STRIDES, 2 * STRIDES[-1])
        self.neck = Neck(channels)
        self.heads = nn.ModuleList(Head(c // 2, classes) for c in channels)
        self.neck.apply(init_leaky)

    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """Raw predictions of the three scales.

        Returns:
            [B, 3·(5 + classes), H/s, W/s] for s = 8, 16, 32; per anchor x, y, w, h, objectness, classes,
            all before their activation.
        """
        return [head(own) for head, own in zip(self.heads, self.neck(features), strict=True)]
