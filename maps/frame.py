"""Where the cells of a feature map are in the image.

Stretching a map over the image, as libraries for Grad-CAM do, is right only where each convolution pads by half its
kernel. The six-layer network pads by 3: most cells of its deepest maps look at the padding, and stretched to the image
the others shrink towards its centre.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Frame:
    """The middle of cell j of a map is on pixel stride · j + offset of the image, in both directions.

    The middle is that of the pixels that the cell depends on.
    """

    stride: float = 1.0
    offset: float = 0.0

    @property
    def about(self) -> str:
        """Where the cells are, for messages."""
        return f"{self.stride:g}·j {self.offset:+g}"

    def placed(self, maps: Tensor, height: int, width: int) -> Tensor:
        """[B, h, w] → [B, height, width] of the image: bilinear between the middles; beyond the last ones, as they."""
        return self.at(maps, torch.arange(height), torch.arange(width))

    def at(self, maps: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """[…, h, w] → […, rows, columns] at pixels of the image, whole or between."""
        across = self._weights(columns, maps.shape[-1]).to(maps)
        return self._weights(rows, maps.shape[-2]).to(maps) @ maps @ across.T

    def _weights(self, pixels: Tensor, cells: int) -> Tensor:
        """[pixels, cells] of each cell at each pixel: 1 in its middle, 0 in that of the next."""
        places = ((pixels - self.offset) / self.stride).clamp(0, cells - 1)
        return (1 - (places[:, None] - torch.arange(cells)).abs()).clamp(min=0)
