"""What maps are worth as such, whatever threshold makes boxes of them: MaxBoxAccV2, PxAP, two boxes a map."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from maps.boxes_from_maps import best_ious, box_iou
from maps.cases import Cases
from wsol.acc_afp import Guess, guesses_of
from wsol.box_accuracy import DELTAS, box_accuracy, level_ious, pixel_average_precision
from wsol.tight_loose import tight_and_loose

CORRECT = 0.5
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of Acc-AFP, as in Wang et al., arXiv 1705.02315


@dataclass(frozen=True)
class MapValues:
    """Of the maps of one method.

    Attributes:
        v2: [cases] mean over IoUs of 0.3, 0.5 and 0.7 of whether some box is right at the threshold that is best on
            training images (MaxBoxAccV2 with its threshold chosen beside the test images); None where these have none.
        v2_best: MaxBoxAccV2 with the threshold that is best on these very images: what no choice can pass.
        pixel_ap: PxAP.
        loose, tight: [cases] bool whether these boxes are right.
        hits, false: [cases, IOUS] true boxes that one of a map's three boxes meets, and boxes that meet none (Acc-AFP).
        guesses: those boxes, of all cases.
        truth: [n, 4] true boxes of each case, in pixels of the map.
    """

    v2: np.ndarray | None
    v2_best: float
    pixel_ap: float
    loose: np.ndarray
    tight: np.ndarray
    hits: np.ndarray
    false: np.ndarray
    guesses: Sequence[Guess] = ()
    truth: Sequence[np.ndarray] = ()


@dataclass
class Levels:
    """Maps in 256 steps of their own range, with the true boxes."""

    maps: list[np.ndarray] = field(default_factory=list)
    boxes: list[np.ndarray] = field(default_factory=list)
    truth: list[np.ndarray] = field(default_factory=list)

    def add(self, maps: np.ndarray, cases: Cases) -> None:
        """Append some; what is not finite, or the same all over, is zero."""
        low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = np.nan_to_num((maps - low) / (high - low), nan=0, posinf=0, neginf=0)
        self.maps.append((scaled * 255).astype(np.uint8))
        self.truth.append(cases.truth)
        self.boxes += [own - np.array([0, 0, 1, 1]) for own in cases.boxes]  # corners that belong to the box

    def best_threshold(self) -> float:
        """The fraction of the maximum that is best for all of them."""
        return box_accuracy(np.concatenate(self.maps) / 255, self.boxes).tau

    def values(self, tau: float | None) -> MapValues:
        """Judge the maps, at a threshold that was chosen on others, if there is one, and at every one."""
        maps = np.concatenate(self.maps)
        ious = [
            level_ious(one, [int(tau * one.max())], own, True)[0]
            for one, own in zip(maps if tau is not None else (), self.boxes, strict=tau is not None)
        ]
        pairs = [tight_and_loose(one) for one in maps]
        half_open = [own + np.array([0, 0, 1, 1]) for own in self.boxes]
        loose, tight = (best_ious([pair[place] for pair in pairs], half_open) >= CORRECT for place in (0, 1))
        return MapValues(
            None if tau is None else np.mean([np.array(ious) >= delta for delta in DELTAS], 0),
            box_accuracy(maps / 255, self.boxes).best,
            pixel_average_precision(maps, np.concatenate(self.truth)),
            loose,
            tight,
            *self.met(half_open),
        )

    def met(self, boxes: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, list[Guess], list[np.ndarray]]:
        """[cases, IOUS] how many true boxes are met by some of a map's three, and how many of these meet none.

        Followed by these, and the true boxes.
        """
        hits, false = (np.zeros((len(boxes), len(IOUS))) for _ in range(2))
        every: list[Guess] = []
        for case, (one, own) in enumerate(zip(np.concatenate(self.maps), boxes, strict=True)):
            guesses = guesses_of(one.astype(float), case)
            every += guesses
            ious = np.array([box_iou(guess.box_xyxy, own) for guess in guesses]).reshape(len(guesses), len(own))
            for place, threshold in enumerate(IOUS):
                hits[case, place] = (ious > threshold).any(0).sum()
                false[case, place] = (~(ious > threshold).any(1)).sum()
        return hits, false, every, boxes
