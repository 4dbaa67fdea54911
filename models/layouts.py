"""How networks lay out their features, and the maps [B, C, H, W] between the blocks of a backbone."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Layout:
    """Features of a network at some place.

    Attributes:
        kind: `map` [B, C, H, W]; `last` [B, H, W, C]; `tokens` [B, P + H·W, C], cells row by row.
        side: H at the size that the network was watched at.
        channels: C.
        prefix: P, tokens without a place: of the class, of distillation, registers.
    """

    kind: Literal["map", "last", "tokens"]
    side: int
    channels: int
    prefix: int = 0

    @property
    def width(self) -> int:
        """Channels of the map: of the cells, and behind them those of each token without a place."""
        return self.channels * (1 + self.prefix)

    def to_map(self, x: Tensor, size: Size) -> Tensor:
        """Features in this layout, of so many cells, as a map.

        A token without a place is repeated at every cell, as further channels: classifiers see it beside the cell, as
        in the readout of DPT (Ranftl et al., arXiv 2103.13413, §3), and no block loses it. What it adds to a class
        activation map is the same everywhere.

        Raises:
            ValueError: there are other numbers of tokens than cells.
        """
        if self.kind == "map":
            return x
        if self.kind == "last":
            return x.permute(0, 3, 1, 2)
        if x.shape[1] != self.prefix + size[0] * size[1]:
            raise ValueError(f"{x.shape[1]} tokens for {size[0]}×{size[1]} cells")
        cells = x[:, self.prefix :].transpose(1, 2).unflatten(2, size)
        if not self.prefix:
            return cells
        placeless = x[:, : self.prefix].flatten(1)[:, :, None, None].expand(-1, -1, *size)
        return torch.cat([cells, placeless], 1)

    def from_map(self, x: Tensor) -> Tensor:
        """A map as features in this layout: the inverse of to_map."""
        if self.kind == "map":
            return x
        if self.kind == "last":
            return x.permute(0, 2, 3, 1)
        cells = x[:, : self.channels].flatten(2).transpose(1, 2)
        placeless = x[:, self.channels :, 0, 0].unflatten(1, (self.prefix, self.channels)) if self.prefix else None
        return cells if placeless is None else torch.cat([placeless, cells], 1)


def layout_of(features: object, prefix: int) -> Layout | None:
    """The layout of what a network makes of one square image; None where no map can be made of it.

    Args:
        prefix: tokens without a place, where there are tokens.
    """
    if not isinstance(features, Tensor) or features.shape[0] != 1:
        return None
    if features.ndim == 4:
        _, one, two, three = features.shape
        return Layout("map", two, one) if two == three else Layout("last", one, three) if one == two else None
    if features.ndim != 3:
        return None
    side = math.isqrt(max(0, features.shape[1] - prefix))
    return Layout("tokens", side, features.shape[2], prefix) if side and side**2 + prefix == features.shape[1] else None


class Adapted(nn.Module):
    """Steps of a network in its own layout, between maps [B, C, H, W].

    Args:
        enter, leave: the layouts that the steps take and put out.
    """

    def __init__(self, steps: nn.Sequential, enter: Layout, leave: Layout) -> None:
        super().__init__()
        self.steps, self.enter, self.leave = steps, enter, leave

    def forward(self, x: Tensor) -> Tensor:
        height, width = (round(side * self.leave.side / self.enter.side) for side in x.shape[2:])
        return self.leave.to_map(self.steps(self.enter.from_map(x)), (height, width))
