"""Cascade learning: a sub-module in training on top of fixed ones, and classifiers on a fixed network.

Deep Cascade Learning, Marquez et al., TNNLS 29(11), 2018; on DarkNet-53: Wang & Farrahi, arXiv 2311.12704, §3.4.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.recompute import run_recomputed


class Fixed(nn.Module):
    """A module that neither learns nor changes its BatchNorm statistics, whatever mode is asked for."""

    def train(self, mode: bool = True) -> Self:
        """Evaluation mode, always."""
        return super().train(False)


class Prefix(Fixed, nn.Sequential):
    """blocks[start:stop] of a backbone, shared with it and fixed: images [B, 3, H, W] → features [B, C, H', W'].

    With a start other than 0 it continues from the features after that block. Whoever calls backbone.train() puts
    these blocks, which are the same, into training mode; the next forward pass takes them back.
    """

    def __init__(self, backbone: Backbone, stop: int, start: int = 0) -> None:
        super().__init__(*backbone.blocks[start:stop])
        self.requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        self.eval()
        return super().forward(images)


class Taps(Fixed):
    """Fixed features of a backbone at several cuts, in one pass: images [B, 3, H, W] → a list of [B, C, H', W'].

    Shares its blocks with the backbone; as with Prefix, each forward pass takes them back into evaluation mode.

    Args:
        cuts: 1-based numbers of the blocks whose outputs are wanted; they are given in this order.

    Raises:
        ValueError: there is no cut, or no such block.
    """

    def __init__(self, backbone: Backbone, cuts: Sequence[int]) -> None:
        super().__init__()
        if not cuts or not all(1 <= cut <= len(backbone.blocks) for cut in cuts):
            raise ValueError(f"cuts {list(cuts)} of {len(backbone.blocks)} blocks")
        self.cuts = tuple(cuts)
        self.blocks = nn.ModuleList(backbone.blocks[: max(cuts)]).requires_grad_(False)
        self.eval()

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        self.eval()
        found, x = {}, images
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.cuts:
                found[number] = x
        return [found[cut] for cut in self.cuts]


class PooledTaps(Fixed):
    """Fixed features at several cuts, pooled as their heads do first: images [B, 3, H, W] → rows [B, D, 1, 1].

    A head that is given what is pooled already pools it once more, which changes no bit.

    Args:
        pools: of each cut, to a size that does not depend on the features'.

    Attributes:
        shapes: channels, height and width of each cut in a row, in this order; known after a forward pass.
    """

    def __init__(self, taps: Taps, pools: Sequence[nn.Module]) -> None:
        super().__init__()
        self.taps, self.pools = taps, nn.ModuleList(pools)
        self.shapes: list[torch.Size] = []

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        found = [pool(own) for pool, own in zip(self.pools, self.taps(images), strict=True)]
        self.shapes = [own.shape[1:] for own in found]
        return torch.cat([own.flatten(1) for own in found], 1)[:, :, None, None]

    def parted(self, rows: Tensor) -> list[Tensor]:
        """A list of [B, C, h, w], one for each cut, of rows [B, D, 1, 1]."""
        parts = rows.flatten(1).split([shape.numel() for shape in self.shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.shapes, strict=True)]


class Probes(nn.Module):
    """Heads at several cuts of a fixed network: a list of features [B, C, H, W] → a list of logits [B, classes]."""

    def __init__(self, heads: list[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        return [head(own) for head, own in zip(self.heads, features, strict=True)]


class StageNet(nn.Module):
    """The sub-module in training and its head: what the blocks before it put out → logits [B, classes].

    The blocks are shared with the backbone; `part` and `head` learn.

    Args:
        start, stop: the sub-module is blocks[start:stop], from 0.
        drifting: as in the authors' code, `prefix` = blocks[:start] takes part: it does not learn, but runs in the
            mode of the rest, so that training changes its BatchNorm statistics. The input is then images.
        recompute: keep few of the sub-module's activations and compute the rest again in the backward pass.
        auxiliary: classifiers behind blocks amid the sub-module, by their numbers from 1; they run in training mode
            alone, and the output is then a tuple: the logits, and those of each.
    """

    def __init__(
        self,
        backbone: Backbone,
        start: int,
        stop: int,
        head: nn.Module,
        *,
        drifting: bool = False,
        recompute: bool = False,
        auxiliary: nn.ModuleDict | None = None,
    ) -> None:
        super().__init__()
        self.prefix = nn.Sequential(*backbone.blocks[: start if drifting else 0]).requires_grad_(False)
        self.part = nn.Sequential(*backbone.blocks[start:stop]).requires_grad_(True)
        self.head = head.requires_grad_(True)
        self.auxiliary = auxiliary
        self.recompute, self.start = recompute, start

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits of images [B, 3, H, W] if start is 0 or the prefix drifts, else of features [B, C, H', W']."""
        with torch.no_grad():
            x = self.prefix(x)
        if not (self.auxiliary and self.training):
            return self.head(self.run(self.part, x))  # type: ignore[no-any-return]
        begun, found = 0, []
        for block, head in self.auxiliary.items():
            stop = int(block) - self.start
            x = self.run(self.part[begun:stop], x)
            found.append(head(x))
            begun = stop
        return self.head(self.run(self.part[begun:], x)), *found

    def run(self, part: nn.Sequential, x: Tensor) -> Tensor:
        """Some blocks on features."""
        found: Tensor = run_recomputed(part, x) if self.recompute else part(x)
        return found
