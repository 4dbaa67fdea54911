"""What every detector is made of: a network that reads a backbone, and a decoder of what it puts out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from models.backbone import Backbone


class DetectorNetwork(nn.Module, ABC):
    """A backbone and what finds boxes on it; returns raw maps, in training and in evaluation alike.

    Args:
        classes: how many it distinguishes.
        taps: 1-based blocks of the backbone that it reads, fine to coarse.
        strides: pixels of a cell of each raw map, for images of the size that it was made for.
        side: of some image that it takes, pixels.
    """

    def __init__(
        self, backbone: Backbone, classes: int, taps: tuple[int, ...], strides: tuple[int, ...], side: int
    ) -> None:
        super().__init__()
        self.classes, self.taps, self.strides, self.side = classes, taps, strides, side
        self.backbone = backbone

    @abstractmethod
    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """Raw maps [B, channels, h, w], fine to coarse, of what the taps put out."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Raw maps of images [B, 3, H, W], RGB in 0–1, H and W multiples of 32."""
        return self.raw(self.backbone.at(images, self.taps))


@dataclass(frozen=True)
class Predictions:
    """All that a detector predicts, before anything is suppressed; N in the order of maps, cells and boxes.

    Attributes:
        boxes_cxcywh: [B, N, 4] centre and size in pixels of the input.
        objectness: [B, N] logits.
        classes: [B, N, classes] logits; the score is the product of both probabilities.
    """

    boxes_cxcywh: Tensor
    objectness: Tensor
    classes: Tensor


class RawDecoder(nn.Module, ABC):
    """Raw maps → boxes and scores; computed in float32."""

    @abstractmethod
    def predictions(self, raw_maps: list[Tensor]) -> Predictions:
        """Boxes and logits of all predictions."""

    @abstractmethod
    def counts(self, raw_maps: list[Tensor]) -> list[int]:
        """How many predictions each map holds."""

    def parts(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes [B, N, 4], centre and size in pixels; objectness [B, N, 1] and class probabilities [B, N, classes]."""
        own = self.predictions(raw_maps)
        return own.boxes_cxcywh, own.objectness.sigmoid()[..., None], own.classes.sigmoid()

    def forward(self, raw_maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Boxes [B, N, 4] as centre and size in pixels, scores [B, N, classes] = objectness · class."""
        boxes, objectness, classes = self.parts(raw_maps)
        return boxes, objectness * classes
