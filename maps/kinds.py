"""Kinds of maps by name.

To add one, write a file with a function that takes a Network (maps/explained.py), images and labels and gives Evidence
for each layer or classifier, and add a MapEntry to MAPS. Help, checks, captions, legends and columns follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from maps.detector_kinds import DETECTOR_MAPS
from maps.evidence import Evidence, resized
from maps.explained import Explained, Network, chosen
from maps.gradient_maps import (
    Rule,
    by_rule,
    cams,
    grad_cam,
    grad_cam_pp,
    grad_cams,
    hires_cam,
    integrated_gradients,
    is_mapped,
    layer_cam,
    saliencies,
    saliency,
    smooth_grads,
    smoothed,
)
from maps.perturbed_maps import occlusions, rises, score_cams
from utils.tables import Entry, Table

__all__ = [
    "MAPS", "Evidence", "Explained", "MapEntry", "Network", "cams", "chosen", "explanations", "grad_cams", "is_mapped",
    "resized", "saliencies", "smoothed", "title_of",
]  # fmt: skip

Maker = Callable[[Any, Tensor, Tensor], list[Evidence]]
"""Network, images [B, 3, H, W], labels [B] → maps at each layer, or of each classifier."""
BESIDE = {"lime": "LIME", "baseline": "baseline"}  # lines of a report that are no kind of map, and their titles


@dataclass(frozen=True)
class MapEntry(Entry):
    """A kind of map.

    Attributes:
        make: see Maker.
        paper: where it is from.
        rule: of maps from activations and gradients, which all come from one pass; None for others.
        layered: a map for each layer; else for each classifier, at the size of the image.
        mapped: for classifiers that end in a global pool and a linear layer.
        smooth: pictures of it are smoothed.

    Raises:
        ValueError: a line of the reports has this name.
    """

    make: Maker
    paper: str = ""
    rule: Rule | None = None
    layered: bool = True
    mapped: bool = False
    smooth: bool = False

    def __post_init__(self) -> None:
        if self.name in BESIDE:
            raise ValueError(f"a map cannot be called {self.name!r}: reports have a line of that name")


def of_gradients(name: str, title: str, rule: Rule, paper: str) -> MapEntry:
    """A kind that is made of the activations and gradients of each layer."""
    return MapEntry(name, title, partial(by_rule, rule), paper, rule)


MAPS = Table(
    "map",
    "--maps",
    (
        of_gradients("gradcam", "Grad-CAM", grad_cam, "arXiv 1610.02391"),
        MapEntry("saliency", "saliency", saliencies, "arXiv 1312.6034", layered=False, smooth=True),
        MapEntry("cam", "CAM", cams, "arXiv 1512.04150", mapped=True),
        of_gradients("gradcampp", "Grad-CAM++", grad_cam_pp, "arXiv 1710.11063"),
        of_gradients("hirescam", "HiResCAM", hires_cam, "arXiv 2011.08891"),
        of_gradients("layercam", "LayerCAM", layer_cam, "IEEE TIP 30, 2021"),
        MapEntry("scorecam", "Score-CAM", score_cams, "arXiv 1910.01279"),
        MapEntry("ig", "integrated gradients", integrated_gradients, "arXiv 1703.01365", layered=False, smooth=True),
        MapEntry("smoothgrad", "SmoothGrad", smooth_grads, "arXiv 1706.03825", layered=False),
        MapEntry("occlusion", "occlusion", occlusions, "arXiv 1311.2901", layered=False),
        MapEntry("rise", "RISE", rises, "arXiv 1806.07421", layered=False),
    ),
)


def title_of(kind: str) -> str:
    """A kind of map, or another line of a report, as captions name it."""
    known = next((table[kind] for table in (MAPS, DETECTOR_MAPS) if kind in table), None)
    return known.title if known else BESIDE.get(kind, kind)


def explanations(network: Network, images: Tensor, labels: Tensor, kinds: Sequence[str]) -> dict[str, list[Evidence]]:
    """Maps of several of MAPS; those from activations and gradients share one pass, and saliency shares it too."""
    rules = {kind: rule for kind in kinds if (rule := MAPS[kind].rule)}
    found: dict[str, list[Evidence]] = {}
    if rules:
        if MAPS["saliency"].name in kinds:
            by_layer, by_image = network.by_both(images, labels)
            found["saliency"] = [saliency(own) for own in by_image]
        else:
            by_layer = network.by_layer(images, labels)
        for kind, rule in rules.items():
            raw = [rule(*own) for own in by_layer]
            found[kind] = [network.evidence(own, layer, images.shape[2:]) for layer, own in enumerate(raw)]
    return {kind: found[kind] if kind in found else MAPS[kind].make(network, images, labels) for kind in kinds}
