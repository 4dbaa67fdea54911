"""Maps of a detector's answers, at each tap of its backbone and over the image; one forward pass serves all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor

from maps.detector_cases import BoxCases, Choose, Targets
from maps.detector_network import ExplainedDetector
from maps.drise import Masks, drise
from maps.evidence import NO_INFLUENCE, NOT_FOUND, Evidence
from maps.gradient_maps import Rule, grad_cam, layer_cam, saliency
from utils.tables import Entry, Table


@dataclass(frozen=True)
class Look:
    """A detector's view of some cases: all that a kind of map may be made of.

    Attributes:
        pixels: [n, 3, H, W] the image of each case; they ask for gradients if a kind wants them.
        read: [n, C, h, w] at each tap: what the neck reads.
        by_read: the same of the gradient of each case's score logit, through the neck and the heads alone: what
            deeper blocks make of the same features counts at their own taps.
        targets: which answer is explained.
        masks: of D-RISE.
    """

    network: ExplainedDetector
    cases: BoxCases
    pixels: Tensor
    read: list[Tensor]
    by_read: list[Tensor]
    targets: Targets
    masks: Masks

    @cached_property
    def found(self) -> np.ndarray:
        """[n] whether there is an answer to explain."""
        return (self.targets.prediction >= 0).cpu().numpy()

    def absent(self, tap: int | None = None) -> np.ndarray:
        """[n] codes of Evidence, of the map of a tap (its place), or of the image."""
        missed = np.where(self.found, 0, NOT_FOUND)
        if tap is None:
            return missed
        moved = self.by_read[tap].abs().amax((1, 2, 3)).cpu().numpy() > 0
        return np.where(self.found & ~moved, NO_INFLUENCE, missed)

    def at_tap(self, tap: int, raw: Tensor) -> Evidence:
        """What is positive of a map [n, h, w] made of a tap's features."""
        frame = self.network.frame(tap, self.pixels.shape[2:])
        return Evidence(raw.relu(), raw, frame, self.absent(tap))

    def over_image(self, maps: Tensor, raw: Tensor | None = None) -> Evidence:
        """A map [n, H, W] of the image itself."""
        return Evidence(maps, raw, absent=self.absent())


@dataclass(frozen=True)
class DetectorMap(Entry):
    """A kind of map of a detector.

    Attributes:
        make: what gives it: a map for each tap, or one over the image.
        at_taps: whether there is one for each tap.
        to_pixels: whether it wants the gradient with respect to the image.
        masked: whether it takes masks of the image.
    """

    make: Callable[[Look], list[Evidence]]
    at_taps: bool = True
    to_pixels: bool = False
    masked: bool = False

    def cuts(self, taps: tuple[int, ...]) -> tuple[int, ...]:
        """Where its maps are: at the taps, or at 0, the image itself."""
        return taps if self.at_taps else (0,)


def look(
    network: ExplainedDetector, cases: BoxCases, choose: Choose, masks: Masks, device: str, *, to_pixels: bool
) -> Look:
    """Read the images, choose what is explained, go back to the taps."""
    pixels = cases.images.detach().to(device, memory_format=torch.channels_last).requires_grad_(to_pixels)
    with torch.set_grad_enabled(to_pixels):
        read = network.read(pixels)
    with torch.enable_grad():
        leaves = [own.detach().requires_grad_() for own in read]
        answers = network.answers(leaves)
        targets = choose(answers, cases)
        by_read = torch.autograd.grad(targets.logits(answers).sum(), leaves)
    return Look(network, cases, pixels, read, list(by_read), targets, masks)


def by_rule(rule: Rule, seen: Look) -> list[Evidence]:
    """A map at each tap, of what the neck reads there and its gradients."""
    rows = zip(seen.read, seen.by_read, strict=True)
    return [seen.at_tap(tap, rule(own.detach(), by)) for tap, (own, by) in enumerate(rows)]


def saliencies(seen: Look) -> list[Evidence]:
    """Absolute gradient with respect to the image (Simonyan et al., arXiv 1312.6034), the largest over the channels.

    Through all taps at once: the gradients there continue through the backbone.
    """
    (by_pixels,) = torch.autograd.grad(seen.read, seen.pixels, seen.by_read, retain_graph=True)
    return [seen.over_image(saliency(by_pixels).maps)]


def drises(seen: Look) -> list[Evidence]:
    """D-RISE, above its lowest value: what a mask of anything reaches is no evidence for a place."""
    with torch.no_grad():
        raw = seen.pixels.new_zeros(len(seen.cases), *seen.pixels.shape[2:])
        for rows in seen.cases.by_image():
            asked = [row for row in rows if seen.found[row]]
            if asked:
                boxes, classes = seen.targets.boxes_xyxy[asked], seen.targets.classes[asked]
                raw[asked] = drise(seen.network, seen.pixels[asked[0]], boxes, classes, seen.masks)
    return [seen.over_image(raw - raw.amin((1, 2), keepdim=True))]


DETECTOR_MAPS = Table[DetectorMap](
    "map of a detector",
    "--maps",
    [
        DetectorMap("gradcam", "Grad-CAM", partial(by_rule, grad_cam)),
        DetectorMap("layercam", "LayerCAM", partial(by_rule, layer_cam)),
        DetectorMap("saliency", "saliency", saliencies, at_taps=False, to_pixels=True),
        DetectorMap("drise", "D-RISE", drises, at_taps=False, masked=True),
    ],
)


def detector_explanations(
    network: ExplainedDetector, cases: BoxCases, kinds: Sequence[str], choose: Choose, masks: Masks, device: str
) -> dict[str, list[Evidence]]:
    """Maps of several kinds of DETECTOR_MAPS, at every tap or over the image, of the answers that `choose` names."""
    entries = [DETECTOR_MAPS.pick(kind) for kind in kinds]
    seen = look(network, cases, choose, masks, device, to_pixels=any(entry.to_pixels for entry in entries))
    return {entry.name: entry.make(seen) for entry in entries}
