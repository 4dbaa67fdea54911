"""What maps are worth as such, whatever threshold makes boxes of them: MaxBoxAccV2, PxAP, two boxes a map."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from maps.boxes_from_maps import best_ious
from maps.cases import Cases
from utils.boxes import box_iou
from wsol.acc_afp import Guess, guesses_of
from wsol.box_accuracy import DELTAS, TAUS, BoxAccuracy, hits_by_tau, level_ious, pixel_average_precision
from wsol.tight_loose import tight_and_loose

CORRECT = 0.5
IOUS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of Acc-AFP, as in Wang et al., arXiv 1705.02315


@dataclass(frozen=True)
class MapValues:
    """Of the maps of one method.

    Attributes:
        v2: [cases] mean over IoUs of 0.3, 0.5 and 0.7 of whether some box is right at the threshold that is best on
            other images (MaxBoxAccV2 with its threshold chosen beside the test images); None where these have no box.
        v2_best: MaxBoxAccV2 with the threshold that is best on these very images: what no choice can pass.
        pixel_ap: PxAP.
        loose, tight: [cases] bool whether these boxes are right.
        hits, false: [cases, IOUS] true boxes that one of a map's three boxes meets, and boxes that meet none (Acc-AFP).
        guesses: those boxes, of all cases.
        truth: [n, 4] true boxes of each case, in pixels of the map.
        elsewhere: class → boxes in the images that have none of it, by the index of the image; if they are asked for.
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
    elsewhere: Mapping[int, Sequence[Guess]] = field(default_factory=dict)


def in_steps(maps: np.ndarray) -> np.ndarray:
    """[B, H, W] uint8, 256 steps of each map's own range; what is not finite, or the same all over, is zero."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.nan_to_num((maps - low) / (high - low), nan=0, posinf=0, neginf=0)
    return (scaled * 255).astype(np.uint8)


def best_threshold(parts: Iterable[tuple[np.ndarray, Cases]]) -> float:
    """The fraction of the maximum that is best for all of some maps [B, H, W], which come batch by batch."""
    count, hits = 0, np.zeros((len(DELTAS), len(TAUS)))
    for maps, cases in parts:
        count, hits = count + len(maps), hits + hits_of(in_steps(maps), cases)
    return BoxAccuracy(hits / count, DELTAS).tau


def hits_of(maps: np.ndarray, cases: Cases) -> np.ndarray:
    """[deltas, taus] how many maps [B, H, W] in steps have a right box."""
    return hits_by_tau((one / 255 for one in maps), map(inclusive, cases.boxes))


def inclusive(boxes: np.ndarray) -> np.ndarray:
    """[n, 4] half-open boxes by the corners that belong to them."""
    return boxes - np.array([0, 0, 1, 1])


@dataclass
class Levels:
    """What maps are worth; each is judged as it comes, and none is kept.

    Attributes:
        tau: the fraction of the maximum that was chosen on other maps; None where there are none.
        hits: [deltas, taus] how many maps have a right box.
        pixels, right: [256] how many pixels have each level, and how many of these are true.
        parts: of each batch, the values of its cases.
    """

    tau: float | None = None
    hits: np.ndarray = field(default_factory=lambda: np.zeros((len(DELTAS), len(TAUS))))
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    right: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    parts: list[MapValues] = field(default_factory=list)

    def add(self, maps: np.ndarray, cases: Cases) -> None:
        """Judge a batch [B, H, W]."""
        own, before = in_steps(maps), sum(len(part.loose) for part in self.parts)
        self.hits += hits_of(own, cases)
        self.pixels += np.bincount(own.ravel(), minlength=256)
        self.right += np.bincount(own[cases.truth], minlength=256)
        boxes = [one.astype(float) for one in cases.boxes]
        pairs = [tight_and_loose(one) for one in own]
        loose, tight = (best_ious([pair[place] for pair in pairs], boxes) >= CORRECT for place in (0, 1))
        right = None if self.tau is None else right_at(self.tau, own, cases)
        self.parts.append(MapValues(right, 0.0, 0.0, loose, tight, *met(own, boxes, before)))

    def values(self) -> MapValues:
        """Of all maps together."""
        count = sum(len(part.loose) for part in self.parts)
        chosen = [part.v2 for part in self.parts if part.v2 is not None]
        return MapValues(
            v2=np.concatenate(chosen) if chosen else None,
            v2_best=BoxAccuracy(self.hits / count, DELTAS).best,
            pixel_ap=pixel_average_precision(self.pixels, self.right),
            loose=np.concatenate([part.loose for part in self.parts]),
            tight=np.concatenate([part.tight for part in self.parts]),
            hits=np.concatenate([part.hits for part in self.parts]),
            false=np.concatenate([part.false for part in self.parts]),
            guesses=[guess for part in self.parts for guess in part.guesses],
            truth=[boxes for part in self.parts for boxes in part.truth],
        )


def right_at(tau: float, maps: np.ndarray, cases: Cases) -> np.ndarray:
    """[B] mean over the deltas of whether a box of a map [B, H, W] in steps is right at a fraction of its maximum."""
    ious = [
        level_ious(one, [int(tau * one.max())], inclusive(own), True)[0]
        for one, own in zip(maps, cases.boxes, strict=True)
    ]
    return np.asarray(np.mean([np.array(ious) >= delta for delta in DELTAS], 0))


def met(
    maps: np.ndarray, boxes: list[np.ndarray], before: int
) -> tuple[np.ndarray, np.ndarray, list[Guess], list[np.ndarray]]:
    """[B, IOUS] how many true boxes are met by some of a map's three, and how many of these meet none.

    Followed by these, and the true boxes.

    Args:
        before: cases that came earlier.
    """
    hits, false = (np.zeros((len(boxes), len(IOUS))) for _ in range(2))
    every: list[Guess] = []
    for case, (one, own) in enumerate(zip(maps, boxes, strict=True)):
        guesses = guesses_of(one.astype(float), before + case)
        every += guesses
        ious = np.array([box_iou(guess.box_xyxy, own) for guess in guesses]).reshape(len(guesses), len(own))
        for place, threshold in enumerate(IOUS):
            hits[case, place] = (ious > threshold).any(0).sum()
            false[case, place] = (~(ious > threshold).any(1)).sum()
    return hits, false, every, boxes
