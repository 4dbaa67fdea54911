"""What units, concepts and objects a classifier of pooled features leans on (arXiv 1512.04150, §4.2 and 4.3)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.svm import LinearSVC
from torch import nn

from utils.errors import UserError
from wsol.svm import SEED, C, unit

UNITS, SHARE, HALF = 3, 0.2, 0.5
SETTLED = 0.01  # share of new negatives below which mining ends


def class_units(head: nn.Module, count: int = UNITS) -> np.ndarray:
    """[classes, count] the units that weigh most for each class, the heaviest first (figure 13)."""
    linear = list(head.children())[-1]
    if not isinstance(linear, nn.Linear):
        raise ValueError("the classifier does not end in a linear layer")
    found: np.ndarray = linear.weight.detach().cpu().numpy().argsort(1)[:, ::-1][:, :count]
    return found


@dataclass(frozen=True)
class Concept:
    """A linear function of features [N, D]; positive where the concept is there."""

    weights: np.ndarray
    bias: float

    def scores(self, features: np.ndarray) -> np.ndarray:
        """[N] of features of any length."""
        return np.asarray(unit(features) @ self.weights + self.bias)


def learn_concept(
    features: np.ndarray,
    tagged: np.ndarray,
    name: str = "concept",
    *,
    apart: np.ndarray | None = None,
    rounds: int = 10,
    seed: int = 0,
) -> Concept:
    """A detector of what images with a tag have in common, against the hardest of all others.

    It starts with as many negatives as positives, drawn at random. In each round those that it scores highest among
    all others join them, until hardly any are new.

    Args:
        features: [N, D] pooled features.
        tagged: [N] bool.
        name: of the tag, for messages.
        apart: [N] bool: images that are neither positives nor negatives.

    Raises:
        UserError: no image has the tag, or all have.
    """
    positive = np.flatnonzero(tagged)
    others = np.flatnonzero(~tagged if apart is None else ~(tagged | apart))
    if not len(positive) or not len(others):
        what = "no image has the tag" if not len(positive) else "no image is without the tag or its words"
        raise UserError(what, where=name, hint="choose another tag")
    negative = np.random.default_rng(seed).choice(others, min(len(positive), len(others)), replace=False)
    for _ in range(rounds):
        own = fit(features, positive, negative)
        hardest = others[np.argsort(-own.scores(features[others]))[: len(positive)]]
        fresh = np.setdiff1d(hardest, negative)
        if len(fresh) <= SETTLED * len(negative):
            break
        negative = np.union1d(negative, fresh)
    return own


def fit(features: np.ndarray, positive: np.ndarray, negative: np.ndarray) -> Concept:
    """A linear SVM on some of the rows."""
    rows, wanted = np.concatenate([positive, negative]), np.repeat([1, 0], [len(positive), len(negative)])
    svm = LinearSVC(C=C, class_weight="balanced", random_state=SEED).fit(unit(features[rows]), wanted)
    return Concept(svm.coef_[0], float(svm.intercept_[0]))


@dataclass(frozen=True)
class Informative:
    """An object in the images of a scene class.

    Attributes:
        frequency: share of all images of the scene, with or without objects, that have it.
        overlapping: share of all images of the scene in which at least half of it is in the map's high region.
        covered: share of it that is there, the mean over the images that have it.
    """

    name: int
    frequency: float
    overlapping: float
    covered: float


Seen = tuple[int, np.ndarray, int, np.ndarray]
"""Scene class of an image, its map [H, W], an object in it, and the object's pixels [H, W] bool."""


def informative_objects(
    seen: Iterable[Seen], images: Mapping[int, int], share: float = SHARE
) -> dict[int, list[Informative]]:
    """Scene class → its objects, those first that overlap most often with the high region of its maps (figure 9).

    Args:
        seen: each object of each image once.
        images: scene class → how many images there are of it, with or without objects.
        share: of a map's range, above which it is high.
    """
    covered: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for scene, one, name, pixels in seen:
        region = one > one.min() + share * np.ptp(one)
        covered[scene][name].append(float(region[pixels].mean()) if pixels.any() else 0.0)
    found = {
        scene: [
            Informative(
                name,
                len(own) / images[scene],
                float((np.array(own) >= HALF).sum() / images[scene]),
                float(np.mean(own)),
            )
            for name, own in objects.items()
        ]
        for scene, objects in covered.items()
    }
    return {scene: sorted(own, key=lambda one: (-one.overlapping, one.name)) for scene, own in found.items()}
