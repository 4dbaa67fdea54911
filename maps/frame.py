"""Where the cells of a feature map lie in the image.

Stretching a map over the image, as libraries for Grad-CAM do, is right only where each convolution pads by half its
kernel. The six-layer network pads by 3: most cells of its deepest maps look at the padding, and stretched to the image
the others shrink towards its centre.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.models.googlenet import Inception
from torchvision.models.inception import InceptionA, InceptionB, InceptionC

WINDOWS = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# Modules of branches that end side by side: what each does to the places of the cells.
BRANCHES: dict[type[nn.Module], tuple[int, int, int]] = {
    Inception: (1, 1, 0),
    InceptionA: (1, 1, 0),
    InceptionB: (3, 2, 0),
    InceptionC: (1, 1, 0),
}
BESIDE = "downsample"  # the branch of a residual block that runs beside its convolutions (torchvision's name)


@dataclass(frozen=True)
class Frame:
    """The middle of cell j of a map lies on pixel stride · j + offset of the image, in both directions.

    The middle is that of the pixels that the cell depends on.
    """

    stride: float = 1.0
    offset: float = 0.0

    def after(self, kernel: int, stride: int, padding: int) -> "Frame":
        """The frame once a window has slid over the map."""
        return Frame(self.stride * stride, self.offset + self.stride * ((kernel - 1) / 2 - padding))

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


def frame_of(modules: Iterable[nn.Module]) -> Frame:
    """The frame of what modules make of an image, one after another.

    Raises:
        ValueError: a window is not square.
    """
    frame = Frame()
    for module in modules:
        for window in windows(module):
            frame = frame.after(*window)
    return frame


def windows(module: nn.Module) -> list[tuple[int, int, int]]:
    """Kernel, stride and padding of what a map goes through, in order; of branches, what they do together."""
    if type(module) in BRANCHES:
        return [BRANCHES[type(module)]]
    if isinstance(module, WINDOWS):
        kernel, stride, padding = (side(getattr(module, key)) for key in ("kernel_size", "stride", "padding"))
        return [((kernel - 1) * side(getattr(module, "dilation", 1)) + 1, stride, padding)]
    return [window for name, child in module.named_children() if name != BESIDE for window in windows(child)]


def side(value: int | tuple[int, ...]) -> int:
    """The one number behind a pair."""
    if isinstance(value, int):
        return value
    if len(set(value)) > 1:
        raise ValueError(f"a window of {value} is not square")
    return value[0]
