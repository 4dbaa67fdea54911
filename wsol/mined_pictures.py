"""Attention mining step by step on single cases: what is seen once earlier finds are erased (figure 2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from maps.overlay import FOUND, outlined, overlaid, picture, written
from maps.plan import Plan
from utils.draw import save_page
from wsol.localiser import Localiser, MinedMaps

BEST, WORST = 3, 1  # cases


@dataclass(frozen=True)
class MinedCase:
    """One case, mined.

    Attributes:
        image: [3, H, W] in 0–1.
        true, found: boxes [n, 4] and [4] in its pixels; NaN where none was found.
        steps: [H, W] maps, and their mean, filled in, at the end.
    """

    image: Tensor
    true: np.ndarray
    found: np.ndarray
    iou: float
    steps: list[np.ndarray]


def mined_cases(plan: Plan, localise: Localiser, pairs: np.ndarray, ious: np.ndarray) -> list[MinedCase]:
    """The cases with the best boxes and those with the worst; nothing of methods that do not mine.

    Args:
        pairs: [cases, 2] index of the image among those explained, and class.
        ious: [cases] of the box that was found.
    """
    if not isinstance(localise.maps, MinedMaps):
        return []
    order = np.argsort(-ious, kind="stable")
    chosen = dict.fromkeys([*order[:BEST].tolist(), *order[-WORST:].tolist()])
    maps = localise.maps
    return [mined_case(plan, localise, maps, pairs[index], float(ious[index])) for index in chosen]


def mined_case(plan: Plan, localise: Localiser, maps: MinedMaps, pair: np.ndarray, iou: float) -> MinedCase:
    """One of them."""
    image, label = pair.tolist()
    parts = plan.cases([plan.split.records[image]], "mined maps", batch_size=1)
    cases = next(own for own in parts if int(own.labels[0]) == label)
    steps = maps.steps(cases.images, cases.labels)
    height, width = cases.truth.shape[1:]
    found = localise.boxes(steps[-1])[0] * [width, height, width, height]
    return MinedCase(cases.images[0], cases.boxes[0], found, iou, [own[0] for own in steps])


def save_mining(cases: Sequence[MinedCase], path: Path) -> None:
    """A row a case: the picture, the map of each step, and the mean of all with true boxes (green) and box (red)."""
    pictures: list[np.ndarray] = []
    for own in cases:
        image, height = picture(own.image), own.image.shape[1]
        right = "failure, " if own.iou < 0.5 else ""
        pictures.append(written(outlined(image, own.true, height), f"{right}IoU {own.iou:.2f}"))
        pictures += [overlaid(image, step) for step in own.steps]
        last = outlined(pictures.pop(), own.true, height)
        pictures.append(last if np.isnan(own.found).any() else outlined(last, own.found[None], height, FOUND))
    count = len(cases[0].steps)
    titles = ["true boxes", *(f"step {number}" for number in range(1, count)), "all steps"]
    save_page(pictures, path, titles, columns=count + 1)
