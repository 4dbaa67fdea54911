"""What is explained: a network with layers that have maps, and classifiers whose logits are asked about."""

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from maps.evidence import Evidence, signed
from maps.frame import Frame
from maps.receptive import frames_like
from models.backbone import Backbone
from utils.checkpoint import hash_weights, tensors_of
from utils.errors import UserError

Gradients = tuple[Tensor, Tensor]
"""Activations at a layer and the explained logit's gradient with respect to them, both [B, C, h, w]."""
STRETCH = "stretch the maps over the image (--stretch, aligned=False)"


class Network(Protocol):
    """What kinds of maps are made from."""

    single_label: bool

    @property
    def layer_count(self) -> int:
        """Layers that have maps."""

    @property
    def classifier_count(self) -> int:
        """Classifiers whose logits are explained."""

    def __call__(self, images: Tensor) -> list[Tensor]:
        """Logits [B, classes] of each classifier, of images [B, 3, H, W]."""

    def activations(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each layer."""

    def logits_for(self, layer: int, images: Tensor) -> Tensor:
        """[B, classes] of the classifier that a layer's maps explain, at no more cost than need be."""

    def by_layer(self, images: Tensor, labels: Tensor) -> list[Gradients]:
        """Of the logit of each image's label [B], at each layer."""

    def by_image(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """[B, 3, H, W] gradient of that logit with respect to the pixels, of each classifier."""

    def by_both(self, images: Tensor, labels: Tensor) -> tuple[list[Gradients], list[Tensor]]:
        """Both of them, from one forward pass."""

    def evidence(self, raw: Tensor, layer: int, size: Sequence[int]) -> Evidence:
        """What is positive of a map [B, h, w] made of a layer's activations, for images of height and width."""


class Explained(nn.Module):
    """A fixed backbone with a classifier on each of its cuts: images [B, 3, H, W] → logits [B, classes] of each.

    Args:
        cuts: 1-based blocks that the classifiers follow, ascending.
        heads: the classifiers.
        aligned: maps know where their cells are in the image; else they are stretched over it, as other libraries do.
        single_label: whether the classes exclude each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        cuts: Sequence[int],
        heads: Sequence[nn.Module],
        *,
        aligned: bool = True,
        single_label: bool = True,
    ) -> None:
        super().__init__()
        self.cuts, self.aligned, self.single_label = tuple(cuts), aligned, single_label
        self.channels = backbone.in_channels
        parts, pools = [], []
        for start, stop in itertools.pairwise((0, *self.cuts)):
            *before, last = backbone.blocks[start:stop]
            body, pool = unpooled(last)
            parts.append(nn.Sequential(*before, body))
            pools.append(pool)
        self.parts, self.pools, self.heads = nn.ModuleList(parts), nn.ModuleList(pools), nn.ModuleList(heads)
        self.requires_grad_(False)
        self.eval()

    @property
    def layer_count(self) -> int:
        """The cuts."""
        return len(self.cuts)

    @property
    def classifier_count(self) -> int:
        """One on each cut."""
        return len(self.cuts)

    def frame(self, layer: int, size: Sequence[int], *, pooled: bool = False) -> Frame:
        """Where the cells of activations at a cut are in images of height and width, or those of the pool behind them.

        Raises:
            UserError: they are not spaced evenly, or look everywhere.
        """
        every = frames_like(self, lambda images: self._all(images[:, : self.channels]), size, self.device)
        found = every[2 * range(len(self.cuts))[layer] + pooled]
        if isinstance(found, str):
            raise UserError(found, where=f"b{self.cuts[layer]}", hint=STRETCH)
        return found

    def _all(self, images: Tensor) -> list[Tensor]:
        """Activations and what their pools make of them, cut by cut."""
        return [own for both in self.both(images) for own in both]

    def evidence(self, raw: Tensor, layer: int, size: Sequence[int], *, pooled: bool = False) -> Evidence:
        """What is positive of a map [B, h, w] made of activations at a cut, of images of height and width."""
        return signed(raw, self.frame(layer, size, pooled=pooled) if self.aligned else None)

    def sees_like(self, other: "Explained") -> bool:
        """Whether both have the same features at the same cuts, whatever their classifiers."""
        mine, its = tensors_of(self.parts), tensors_of(other.parts)
        same = (self.cuts, str(self.parts), mine.keys()) == (other.cuts, str(other.parts), its.keys())
        return same and all(torch.equal(mine[name], its[name]) for name in mine)

    def identity(self) -> str:
        """What distinguishes it from every other network, in its weights or how they are used."""
        return f"{self} {self.cuts} {self.aligned} {self.single_label} {self.device.type} {hash_weights(self)}"

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def both(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """At each cut what the last non-linearity puts out, and what the pool behind it makes of that, [B, C, h, w].

        Where there is no pool they are the same.
        """
        found, x = [], images
        for part, pool in zip(self.parts, self.pools, strict=True):
            own = part(x)
            x = pool(own)
            found.append((own, x))
        return found

    def activations(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each cut: what the last non-linearity puts out."""
        return [own for own, _ in self.both(images)]

    def features(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each cut: what the classifiers are given."""
        return [pooled for _, pooled in self.both(images)]

    def logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """[B, classes] at each cut, of the features there."""
        return [head(own) for head, own in zip(self.heads, features, strict=True)]

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.logits(self.features(images))

    def logits_for(self, layer: int, images: Tensor) -> Tensor:
        """[B, classes] of the classifier at a cut; what comes behind it is not computed."""
        x = images
        for part, pool in zip(self.parts[: layer + 1], self.pools[: layer + 1], strict=True):
            x = pool(part(x))
        found: Tensor = self.heads[layer](x)
        return found

    def by_layer(self, images: Tensor, labels: Tensor) -> list[Gradients]:
        """Activations and gradients at each cut, of the logit of its own classifier.

        The activations are cut off from each other, so that one small backward pass through the classifiers gives what
        a pass for each of them would give, to the last bit.
        """
        leaves, scores, x = [], [], images
        for part, pool, head in zip(self.parts, self.pools, self.heads, strict=True):
            with torch.no_grad():
                leaves.append(part(x).requires_grad_())
            with torch.enable_grad():
                pooled = pool(leaves[-1])
                scores.append(chosen(head(pooled), labels))
            x = pooled.detach()
        gradients = torch.autograd.grad(torch.stack(scores).sum(), leaves)
        return [(own.detach(), gradient) for own, gradient in zip(leaves, gradients, strict=True)]

    def by_image(self, images: Tensor, labels: Tensor) -> list[Tensor]:
        """[B, 3, H, W] at each cut: the gradient of its classifier's logit."""
        return self.by_both(images, labels)[1]

    def by_both(self, images: Tensor, labels: Tensor) -> tuple[list[Gradients], list[Tensor]]:
        """Both of them: a backward pass from each classifier to the image goes through the activations anyway."""
        pixels = images.detach().requires_grad_()
        with torch.enable_grad():
            parts = self.both(pixels)
            scores = [chosen(own, labels) for own in self.logits([pooled for _, pooled in parts])]
        by_layer, by_image = [], []
        for number, ((own, _), score) in enumerate(zip(parts, scores, strict=True), start=1):
            by_own, by_pixel = torch.autograd.grad(score, (own, pixels), retain_graph=number < len(scores))
            by_layer.append((own.detach(), by_own))
            by_image.append(by_pixel)
        return by_layer, by_image


def unpooled(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A block without the max-pool at its end, and that pool; nothing changes where there is none."""
    if isinstance(block, nn.Sequential) and isinstance(block[-1], nn.MaxPool2d):
        return block[:-1], block[-1]
    return block, nn.Identity()


def chosen(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over images of each one's logit [B, classes] of its label [B]: what is explained."""
    return logits.gather(1, labels[:, None]).sum()


def scores(logits: Tensor, labels: Tensor) -> Tensor:
    """[B] each image's logit [B, classes] of its label [B]."""
    return logits.gather(1, labels[:, None])[:, 0]
