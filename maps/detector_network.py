"""A detector that can be explained: what its neck reads at each tap, what it answers, and the score of an answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from maps.cells import Cells
from maps.explained import STRETCH
from maps.frame import Frame
from maps.receptive import frames_like
from models.network import DetectorNetwork, RawDecoder
from utils.boxes import cxcywh_to_xyxy
from utils.errors import UserError


@dataclass(frozen=True)
class Answers:
    """All predictions of a detector, before anything is suppressed, in the decoder's flat order.

    Attributes:
        boxes_xyxy: [B, N, 4] input pixels.
        objectness: [B, N] logits.
        classes: [B, N, classes] logits.
        strides: [N] of the head that gives each, pixels.
    """

    boxes_xyxy: Tensor
    objectness: Tensor
    classes: Tensor
    strides: Tensor

    @property
    def probabilities(self) -> Tensor:
        """[B, N, classes] of the classes, each by itself."""
        return self.classes.sigmoid()

    @property
    def scores(self) -> Tensor:
        """[B, N, classes] objectness · class, in 0–1, as detections are ranked by."""
        return self.objectness.sigmoid()[..., None] * self.probabilities


class ExplainedDetector(nn.Module):
    """A fixed detector, taken apart where its neck reads the backbone.

    Args:
        aligned: maps know where their cells are in the image; else they are stretched over it.
    """

    def __init__(self, model: DetectorNetwork, decoder: RawDecoder, *, aligned: bool = True) -> None:
        super().__init__()
        self.model, self.decoder, self.aligned = model, decoder, aligned
        self.requires_grad_(False)
        self.eval()

    @property
    def taps(self) -> tuple[int, ...]:
        """1-based blocks whose outputs the neck reads, fine to coarse."""
        return self.model.taps

    @property
    def channels(self) -> int:
        """Of the images."""
        return self.model.backbone.in_channels

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def cells(self, imgsz: int) -> dict[int, Cells]:
        """Tap → its cells, in an image of imgsz × imgsz pixels."""
        with torch.no_grad():
            found = self.read(torch.zeros(1, self.channels, imgsz, imgsz, device=self.device))
        return {tap: Cells.spread(own.shape[-1], imgsz) for tap, own in zip(self.taps, found, strict=True)}

    def frame(self, place: int, size: Sequence[int]) -> Frame | None:
        """Where the cells of a tap are in images of height and width; None: they share it out evenly.

        Raises:
            UserError: they are not spaced evenly, or look everywhere.
        """
        if not self.aligned:
            return None
        every = frames_like(self, lambda images: self.read(images[:, : self.channels]), size, self.device)
        found = every[place]
        if isinstance(found, str):
            raise UserError(found, where=f"b{self.taps[place]}", hint=STRETCH)
        return found

    @cached_property
    def reach(self) -> dict[int, tuple[int, ...]]:
        """Tap → strides of the heads whose answers it has an influence on through the neck.

        Found by a backward pass from each head; in YOLOv3's pyramid a tap reaches its own head and all finer ones.
        """
        with torch.enable_grad():
            pixels = torch.zeros(1, self.channels, self.model.side, self.model.side, device=self.device)
            leaves = [own.detach().requires_grad_() for own in self.read(pixels)]
            raw = self.raw(leaves)
            found = [torch.autograd.grad(own.sum(), leaves, retain_graph=True, allow_unused=True) for own in raw]
        return {
            tap: tuple(stride for stride, own in zip(self.model.strides, found, strict=True) if own[place] is not None)
            for place, tap in enumerate(self.taps)
        }

    def read(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each tap, of images [B, 3, H, W] in 0–1."""
        return self.model.backbone.at(images, self.taps)

    def raw(self, taps: list[Tensor]) -> list[Tensor]:
        """The maps of all heads, of what the neck reads."""
        return self.model.raw(taps)

    def answers(self, taps: list[Tensor]) -> Answers:
        """What the detector answers to what its neck reads."""
        raw = self.raw(taps)
        own = self.decoder.predictions(raw)
        counts = torch.tensor(self.decoder.counts(raw), device=self.device)
        strides = torch.tensor(self.model.strides, device=self.device).repeat_interleave(counts)
        return Answers(cxcywh_to_xyxy(own.boxes_cxcywh), own.objectness, own.classes, strides)

    def forward(self, images: Tensor) -> Answers:
        return self.answers(self.read(images))


def score_logits(objectness: Tensor, classes: Tensor) -> Tensor:
    """The logit of objectness · class, of the logits of both, broadcast; in double precision.

    It ranks answers as their score does. Its gradients with respect to the two add up to 1 at least and 2 at most: a
    score near 0 or 1 does not make them vanish. A sure answer's goes to the less sure of the two.
    """
    log = logsigmoid(objectness.double()) + logsigmoid(classes.double())
    return log - torch.log(-torch.expm1(log))
