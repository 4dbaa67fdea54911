"""How a classifier looks at a picture: once, at crops of it, or everywhere at several sizes; means of probabilities."""

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid
from torchvision.transforms.v2 import functional as F

from data.transforms import around
from data.views import View
from models.backbone import Backbone
from models.cascade import Probes, Taps
from models.dense import ClassMaps
from models.heads import Shape

# Shorter sides of OverFeat's six sizes over the side of its window (arXiv 1312.6229, table 5).
SCALES = tuple(side / 221 for side in (245, 281, 317, 389, 425, 461))


@dataclass(frozen=True)
class Classifiers:
    """A backbone with its classifiers, after the blocks `cuts`, on features of these shapes at the view's size."""

    backbone: Backbone
    heads: list[nn.Module]
    cuts: Sequence[int]
    shapes: Sequence[Shape]
    view: View


@dataclass(frozen=True)
class Look:
    """A way to look at a picture.

    Attributes:
        title: behind the name of a line; empty for a single look.
        views: at what sizes the picture is shown, of the view that the classifiers learnt.
        network: → a module: images at one of these sizes → logits [B, classes, n] of each classifier.
    """

    title: str
    views: Callable[[View], list[View]]
    network: Callable[[Classifiers], nn.Module]


class Once(nn.Module):
    """Images of the size that the classifiers learnt → logits [B, classes, 1] of each."""

    def __init__(self, own: Classifiers) -> None:
        super().__init__()
        self.taps, self.probes = Taps(own.backbone, own.cuts), Probes(own.heads)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [logits[..., None] for logits in self.probes(self.taps(images))]


class Crops(Once):
    """Larger images → logits [B, classes, 5 or 10]: four corners and the middle, and mirrored ones behind them.

    Ten as in Krizhevsky et al. (NeurIPS 2012, §4.1).
    """

    def __init__(self, own: Classifiers, count: int) -> None:
        super().__init__(own)
        self.cut, self.side = {5: F.five_crop, 10: F.ten_crop}[count], own.view.imgsz

    def forward(self, images: Tensor) -> list[Tensor]:
        parts = [super(Crops, self).forward(part) for part in self.cut(images, [self.side, self.side])]
        return [torch.cat(own, 2) for own in zip(*parts, strict=True)]


def dense(own: Classifiers) -> ClassMaps:
    """All windows, as ClassMaps gives them."""
    return ClassMaps(own.backbone, own.cuts, own.heads, own.shapes, own.view.imgsz)


ONCE = Look("", lambda view: [view], Once)
CROPS = {
    count: Look(f"{count} crops", lambda view: [view.larger(around(view.imgsz))], partial(Crops, count=count))
    for count in (5, 10)
}
DENSE = Look("dense", lambda view: [view.larger(round(view.imgsz * scale)) for scale in SCALES], dense)


def asked(arguments: argparse.Namespace) -> list[Look]:
    """A single look, and behind it what the flags ask for."""
    return [ONCE, *(CROPS[count] for count in sorted({*arguments.crops})), *([DENSE] if arguments.dense else [])]


def logarithms(logits: Tensor, *, single_label: bool) -> Tensor:
    """[2, …, classes] of each class's mean probability over looks [..., classes, n], and of its absence."""
    yes = log_softmax(logits, -2) if single_label else logsigmoid(logits)
    return torch.stack([yes, logsigmoid(-logits)]).logsumexp(-1) - math.log(logits.shape[-1])


def as_logits(sizes: Sequence[Tensor], *, single_label: bool) -> Tensor:
    """[..., classes] of the mean probability over sizes, each given by `logarithms`: a size counts as much as another.

    Logarithms of probabilities where classes exclude each other, else their log-odds.
    """
    yes, no = torch.stack(list(sizes)).logsumexp(0) - math.log(len(sizes))
    return yes if single_label else yes - no
