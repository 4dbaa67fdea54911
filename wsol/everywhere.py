"""What is said of each class in each image that has a box of any: probabilities, and boxes where the class is not."""

import numpy as np
import torch

from maps.kinds import Explained
from maps.plan import Plan
from wsol.acc_afp import Guess, guesses_of
from wsol.localiser import Localiser
from wsol.map_values import in_steps


@torch.no_grad()
def chances(plan: Plan, network: Explained) -> np.ndarray:
    """[images, classes] probability of each class by the last classifier; NaN of images without a box."""
    found = np.full((len(plan.split.records), len(plan.files[0].names)), np.nan)
    for part in plan.images(plan.split.records, "every class"):
        logits = network(part.images.to(plan.device))[-1].cpu()
        found[part.record] = (logits.softmax(1) if network.single_label else logits.sigmoid()).double().numpy()
    return found


def boxes_elsewhere(plan: Plan, localise: Localiser, cases: np.ndarray, title: str) -> dict[int, list[Guess]]:
    """Class → boxes from its maps in the images that have none of it, by the index of the image.

    Args:
        cases: [n, 2] index of the image and class, of those that have one.
    """
    there = set(map(tuple, cases.tolist()))
    found: dict[int, list[Guess]] = {label: [] for label in np.unique(cases[:, 1]).tolist()}
    for part in plan.images(plan.split.records, title):
        for label, own in found.items():
            rows = [row for row, image in enumerate(part.record.tolist()) if (image, label) not in there]
            if not rows:
                continue
            maps = in_steps(localise.maps(part.images[rows], torch.full((len(rows),), label)))
            for row, one in zip(rows, maps, strict=True):
                own += guesses_of(one.astype(float), int(part.record[row]))
    return found
