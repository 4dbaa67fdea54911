"""What a class is seen by is taken away step by step, and the maps of all steps become one (§2.1 and §3.2)."""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

STEPS, LEVEL = 3, 0.5
NEIGHBOURS = np.ones((3, 3))


@dataclass
class Mined:
    """Maps and masks of some images and classes, step after step.

    Attributes:
        maps: [N, h, w] of each step, what was erased before it being zero (eq. 7).
        masks: [N, h, w] bool before the first step, after it, and so on; False where something was erased.
        raw: maps as they are instead of rectified and over their maximum.
    """

    masks: list[Tensor]
    raw: bool = False
    maps: list[Tensor] = field(default_factory=list)

    @classmethod
    def start(cls, count: int, height: int, width: int, *, raw: bool = False) -> "Mined":
        """Nothing is erased yet."""
        return cls([torch.ones(count, height, width, dtype=torch.bool)], raw)

    def step(self, cams: Tensor) -> None:
        """Take the maps that the network as it is now gives for the classes [N, h, w], and erase what is highest."""
        seen = cams * self.masks[-1]
        scaled = normalised(seen)
        self.maps.append(seen if self.raw else scaled)
        self.masks.append(self.masks[-1] & ~found(scaled, self.masks[-1]))

    def heatmap(self) -> Tensor:
        """[N, h, w] the mean of all steps, each filled in where earlier ones had been erased (eq. 8).

        With `raw` maps of a network that did not change it is the plain map: all that mining gains comes from
        training between the steps, or from scaling every step by itself.
        """
        total = torch.zeros_like(self.maps[0])
        for number, own in enumerate(self.maps):
            total += own
            for earlier, mask in zip(self.maps[:number], self.masks[1:], strict=False):
                total += earlier * ~mask
        return total / len(self.maps)


def normalised(maps: Tensor) -> Tensor:
    """[N, h, w] rectified, each over its maximum: what was erased stays zero. One without a positive value is zero."""
    own = maps.relu()
    return own / own.amax((1, 2), keepdim=True).clamp(min=torch.finfo(own.dtype).tiny)


def found(maps: Tensor, left: Tensor) -> Tensor:
    """[N, h, w] bool: of what is above half of the maximum, the 8-connected part that holds the maximum.

    Args:
        maps: normalised.
        left: what is not erased yet.
    """
    regions = []
    for one, mask in zip(maps.detach().cpu().numpy(), left.cpu().numpy(), strict=True):
        if one.max() <= 0:
            regions.append(np.zeros(one.shape, bool))
            continue
        labels, _ = ndimage.label((one > LEVEL) & mask, NEIGHBOURS)
        regions.append(labels == labels[np.unravel_index(one.argmax(), one.shape)])
    return torch.from_numpy(np.stack(regions))
