"""Networks with a map for every class, and what keeps them from forgetting (§2.2 and §2.3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from models.backbone import Backbone
from utils.errors import UserError

Upsampling = Literal["bilinear", "deconv"]
COARSE, FINE = 512, 256  # channels of the two scales (§2.3)


class Aggregation(nn.Module):
    """The features of the last two resolutions as one map at the finer one (multi-scale aggregation, §2.3).

    Args:
        fine, coarse: channels of the two.
        upsampling: of the coarser one, bilinear or by a transposed 3×3 convolution.
    """

    def __init__(self, fine: int, coarse: int, upsampling: Upsampling = "bilinear") -> None:
        super().__init__()
        self.channels = COARSE + FINE
        self.coarse, self.fine = nn.Conv2d(coarse, COARSE, 1), nn.Conv2d(fine, FINE, 1)
        self.up = (
            nn.ConvTranspose2d(COARSE, COARSE, 3, stride=2, padding=1, output_padding=1)
            if upsampling == "deconv"
            else None
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        own, size = self.coarse(coarse), fine.shape[2:]
        raised = self.up(own) if self.up else interpolate(own, size, mode="bilinear", align_corners=False)
        return torch.cat([raised, self.fine(fine)], 1)


class ClassMaps(nn.Module):
    """A backbone whose classifier gives each class a map: images [B, 3, H, W] → [B, classes, h, w].

    A class's logit is the mean of its map where nothing is erased, plus a bias: with a global average pool and a linear
    layer that is the same (eq. 1 and 2), whatever the order.

    Args:
        aggregation: None takes the last features alone.

    Raises:
        UserError: the backbone has no features at two resolutions to aggregate.
    """

    def __init__(self, backbone: Backbone, classes: int, aggregation: Upsampling | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.aggregation = None
        channels = backbone.channels[-1]
        if aggregation:
            if not backbone.taps:
                what = f"{type(backbone).__name__} has no features at two resolutions"
                raise UserError(what, where="aggregation", hint="give darknet53, resnet50 or vgg16")
            _, fine, coarse = (backbone.channels[tap - 1] for tap in backbone.taps)
            self.aggregation = Aggregation(fine, coarse, aggregation)
            channels = self.aggregation.channels
        self.weights = nn.Conv2d(channels, classes, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(classes))

    @classmethod
    def with_head(cls, backbone: Backbone, head: nn.Module) -> "ClassMaps":
        """The network that a backbone and a classifier of a global average pool and a linear layer make."""
        linear = list(head.children())[-1]
        if not isinstance(linear, nn.Linear):
            raise ValueError("the classifier does not end in a linear layer")
        own = cls(backbone, linear.out_features)
        own.weights.weight.data = linear.weight.data[:, :, None, None].clone()
        own.bias.data = linear.bias.data.clone()
        return own

    def features(self, images: Tensor) -> list[Tensor]:
        """What knowledge is kept of (§2.2): the last two resolutions, and what the classifier is given."""
        if self.backbone.taps:
            _, fine, coarse = self.backbone(images)
        else:
            coarse = images
            for block in self.backbone.blocks:
                fine, coarse = coarse, block(coarse)
        return [fine, coarse, *([self.aggregation(fine, coarse)] if self.aggregation else [])]

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.weights(self.features(images)[-1])
        return found

    def logits(self, maps: Tensor, masks: Tensor | None = None) -> Tensor:
        """[B, classes] of maps [B, classes, h, w]; what a mask [B, classes, h, w] has as False does not count."""
        own = maps if masks is None else maps * masks
        return own.mean((2, 3)) + self.bias


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean over images and classes of the binary cross-entropy (eq. 2 and 3); labels [B, classes] in 0–1."""
    return binary_cross_entropy_with_logits(logits, labels)


def preservation_loss(before: list[Tensor], after: list[Tensor]) -> Tensor:
    """How far features [B, C, h, w] or logits [B, C] have moved (eq. 4 and 5).

    The mean over layers and images of the L2 distance, of features once they are pooled.
    """
    apart = [torch.linalg.vector_norm(pooled(a) - pooled(b), dim=1).mean() for a, b in zip(before, after, strict=True)]
    return torch.stack(apart).mean()


def pooled(features: Tensor) -> Tensor:
    """[B, C]: the mean over the cells of a map, and anything else as it is."""
    return features.mean((2, 3)) if features.ndim == 4 else features
