"""Accuracy against false positives, of boxes from maps of findings (Wang et al., arXiv 1705.02315)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maps.boxes_from_maps import largest_components
from utils.boxes import box_iou

SHARES = (0.25, 0.5, 0.75)  # of the maximum; the paper says three thresholds and not which
DIGIT = 1e-4  # the last digit of published false positives, which are cut there: 880 of 984 boxes are called 0.8943
SLACK = 1e-6  # of a box: far above what floats lose, far below one


@dataclass(frozen=True)
class Guess:
    """A box of one class in one image; rank 0 is the surest of its map."""

    image: int
    rank: int
    box_xyxy: np.ndarray


@dataclass(frozen=True)
class AccAFP:
    """Fraction of the true boxes that are found, and false boxes for each true one."""

    accuracy: float
    afp: float


def guesses_of(one: np.ndarray, image: int, shares: Sequence[float] = SHARES) -> list[Guess]:
    """At most as many boxes as thresholds around what is high in a map [H, W], the highest mean first.

    A map without anything above zero gives none; boxes that coincide count once.
    """
    if not np.isfinite(one).all() or one.max() <= 0:
        return []
    found: dict[tuple[float, ...], float] = {}
    regions = np.stack([one >= share * one.max() for share in shares])
    for box in largest_components(regions, np.broadcast_to(one, regions.shape)):
        if box is not None:
            x1, y1, x2, y2 = box.astype(int)
            found[tuple(box.tolist())] = float(one[y1:y2, x1:x2].mean())
    order = sorted(found, key=lambda box: -found[box])
    return [Guess(image, rank, np.array(box, np.float32)) for rank, box in enumerate(order)]


def ranked(guesses: Sequence[Guess], order: Sequence[int]) -> list[Guess]:
    """The list that is walked: all boxes of rank 0 in the order of the images, then those of rank 1, and so on."""
    place = {image: number for number, image in enumerate(order)}
    return sorted(guesses, key=lambda guess: (guess.rank, place[guess.image]))


def acc_afp(
    walk: Sequence[Guess],
    truth: Sequence[np.ndarray],
    threshold: float,
    *,
    bound: float = np.inf,
    annotated: int | None = None,
) -> AccAFP:
    """Take boxes from a list until one more would pass a bound on the false positives.

    Args:
        walk: `ranked` guesses of one class.
        truth: [n, 4] true boxes of that class for each image.
        threshold: IoU above which a guess is right.
        bound: as it is published: false positives that are the same up to DIGIT are still within it.
        annotated: boxes of all classes, 984 in ChestX-ray14, that the false positives are divided by, as the published
            ones are (Wang et al., supplement, table 7). None: they are divided by the true boxes of the class, and
            boxes in images without it are not looked at (Cai et al., arXiv 1807.03215, table 2).

    Raises:
        ValueError: no image has a box of the class.
    """
    positives = sum(len(boxes) for boxes in truth)
    if not positives:
        raise ValueError("no image has a box of this class")
    whole = positives if annotated is None else annotated
    most = (bound + DIGIT) * whole - SLACK
    hit: set[tuple[int, int]] = set()
    false = 0
    for guess in walk:
        own = truth[guess.image]
        if annotated is None and not len(own):
            continue
        right = np.flatnonzero(box_iou(guess.box_xyxy, own) > threshold)
        if not len(right):
            if false + 1 > most:
                break
            false += 1
        hit |= {(guess.image, int(index)) for index in right}
    return AccAFP(len(hit) / positives, false / whole)
