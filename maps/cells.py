"""How well the maps of a layer can distinguish places: how many of its cells are inside the picture.

A map of two by two cells covers most of a picture whatever it marks: a box in it says next to nothing of the network.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from data.records import Record
from data.views import View
from evaluation.accuracy import BackboneFile
from maps.explained import Explained
from models.backbones import make_backbone
from utils.letterbox import Letterbox

FEWEST = 4  # cells in each direction, below which a layer is shown and not judged
Structure = tuple[str, float]
"""Backbone and width: with the size of the image they decide where cells are."""


@dataclass(frozen=True)
class Cells:
    """Cells of a layer along a side of the image: the middle of cell j is on pixel stride · j + offset."""

    count: int
    stride: float
    offset: float

    @classmethod
    def spread(cls, count: int, side: int) -> "Cells":
        """So many cells that share out a side of the image evenly."""
        return cls(count, side / count, (side / count - 1) / 2)

    def inside(self, lengths: np.ndarray, side: int) -> np.ndarray:
        """[n] how many of their middles are in pictures of these lengths [n], in the middle of a side of the image."""
        middles, border = self.stride * np.arange(self.count) + self.offset, (side - lengths[:, None]) / 2
        return np.asarray(((middles >= border - 0.5) & (middles <= side - border - 0.5)).sum(1))


def layer_cells(
    files: Sequence[BackboneFile], *, stretched: bool, pooled: bool = False
) -> dict[Structure, dict[int, Cells]]:
    """Cells at every cut of every structure among files of one input size.

    Args:
        stretched: maps are stretched over the image instead of put where their cells are.
        pooled: those of the pool behind the activations, where there is one: what classifiers, and CAM, look at.

    Raises:
        UserError: those of a network are not spaced evenly in the image, and maps are not stretched over it.
    """
    found: dict[Structure, dict[int, Cells]] = {}
    for file in {(structure_of(own), *own.cuts): own for own in files}.values():
        with torch.random.fork_rng(devices=[]):  # its weights do not matter, and the next draw must be what it was
            backbone = make_backbone(file.backbone, file.width, file.in_channels)
        network = Explained(backbone, file.cuts, [nn.Identity()] * len(file.cuts))
        side = file.imgsz
        with torch.no_grad():
            both = network.both(torch.zeros(1, file.in_channels, side, side))
        counts = [min(own[pooled].shape[2:]) for own in both]
        own = found.setdefault(structure_of(file), {})
        for layer, (cut, count) in enumerate(zip(file.cuts, counts, strict=True)):
            if stretched:
                own[cut] = Cells.spread(count, side)
            else:
                frame = network.frame(layer, (side, side), pooled=pooled)
                own[cut] = Cells(count, frame.stride, frame.offset)
    return found


def structure_of(file: BackboneFile) -> Structure:
    """What decides where its cells are."""
    return file.backbone, file.width


def short_sides(view: View, records: Sequence[Record]) -> np.ndarray:
    """[n] the shorter side of each picture inside the square that a network is shown, in pixels of that."""
    if view.source == "objects" or view.fit != "letterbox":
        return np.full(len(records), view.imgsz)
    return np.array([min(Letterbox.fit(record.size_hw, view.imgsz).size_hw) for record in records])


def coarse_cuts(cells: Mapping[int, Cells], lengths: np.ndarray, side: int) -> frozenset[int]:
    """The cuts that have fewer than FEWEST × FEWEST cells inside most pictures, of these lengths [n]."""
    return frozenset(cut for cut, own in cells.items() if np.median(own.inside(lengths, side)) < FEWEST)


def largest_cell(layers: Iterable[tuple[Mapping[int, Cells], frozenset[int]]]) -> float:
    """Pixels of the largest cell of a layer that is judged; 1 where none is.

    Args:
        layers: cut → cells of each network, and its cuts that are too coarse.
    """
    return max((one.stride for own, coarse in layers for cut, one in own.items() if cut not in coarse), default=1.0)
