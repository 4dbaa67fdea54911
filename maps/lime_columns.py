"""Explanations by LIME of some cases of a study; every classifier sees the same perturbed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from maps import lime
from maps.cases import Cases
from maps.explained import Explained
from maps.lime_pictures import EXAMPLES, SHOWN, Explanation
from maps.localise import SEED, Column, Study, by_cut
from maps.measures import measure_regions
from maps.networks import Named
from maps.plan import Plan
from utils.console import progress
from utils.device import side_by_side

KIND = "lime"


def lime_columns(study: Study, named: Sequence[Named]) -> list[Column]:
    """Explanations of some cases, spread evenly over all, by every classifier of every network."""
    plan, count = study.plan, len(study.cases)
    chosen = np.unique(np.linspace(0, count - 1, min(plan.lime, count)).round().astype(int))
    columns = [
        Column(
            own.line, own.seed, KIND, own.network.cuts, chosen=chosen, coarse=own.blank(plan), untrained=own.untrained
        )
        for own in named
    ]
    again = study.again(chosen.tolist(), "images for LIME")
    shown = set(chosen[np.linspace(0, len(chosen) - 1, SHOWN).round().astype(int)].tolist())
    identities = [own.network.identity() if plan.kept.folder else "" for own in named]
    explainer = Explainer(plan, columns, [own.network for own in named], identities)
    with side_by_side() as pool:
        for own in progress(pool.map(explainer.explained, again.items()), "LIME", len(again)):
            for column, rows in zip(columns, own.coefficients, strict=True):
                regions = [lime.explanation(row, own.segments)[None] for row in rows]
                column.add(by_cut([measure_regions(region, own.case.truth) for region in regions]))
            if own.index in shown:
                study.lime.append(own)
    return columns


def classifiers(plan: Plan, networks: Sequence[Explained]) -> lime.Classifiers:
    """What gives the probabilities of every classifier of every network."""
    return partial(probabilities, plan, networks, first_alike(networks))


def probabilities(plan: Plan, networks: Sequence[Explained], twins: Sequence[int], images: Tensor) -> list[Tensor]:
    """[B, classes] of every classifier of every network; those of the same features share their arithmetic."""
    own = images.to(plan.device)
    features = {twin: networks[twin].features(own) for twin in set(twins)}
    logits = [one for network, twin in zip(networks, twins, strict=True) for one in network.logits(features[twin])]
    return [one.softmax(1) if plan.files[0].single_label else one.sigmoid() for one in logits]


def first_alike(networks: Sequence[Explained]) -> list[int]:
    """For each network the first one of the same features: fresh classifiers on them share their arithmetic."""
    return [next(place for place, first in enumerate(networks) if first.sees_like(own)) for own in networks]


@dataclass(frozen=True)
class Explainer:
    """Explains cases for every classifier of the networks of columns.

    Attributes:
        identities: of the networks, by which their explanations are kept.
    """

    plan: Plan
    columns: Sequence[Column]
    networks: Sequence[Explained]
    identities: Sequence[str]

    def explained(self, numbered: tuple[int, Cases]) -> Explanation:
        """One case."""
        index, case = numbered
        image, label = case.images[0], int(case.labels[0])
        segments = lime.superpixels(image.permute(1, 2, 0).numpy())
        perturbed = lime.Perturbations.draw(segments, seed=SEED)
        found = self.coefficients(case, perturbed)
        examples = perturbed.apply(image, slice(1, 1 + EXAMPLES))
        with torch.inference_mode():
            last = classifiers(self.plan, self.networks[:1])(examples)[-1][:, label].tolist()
        return Explanation(index, case, segments, self.columns, found, examples.numpy(), last)

    def coefficients(self, case: Cases, perturbed: lime.Perturbations) -> list[np.ndarray]:
        """[cuts, superpixels] of each network; those whose own are not kept see the same images together."""
        shown = self.plan.kept.content(case)
        parts = [(own, shown, KIND, perturbed.on.shape) for own in self.identities]
        found = {place: kept for place, own in enumerate(parts) if (kept := self.plan.kept.find(*own)) is not None}
        left = [place for place in range(len(parts)) if place not in found]
        if left:
            classify = classifiers(self.plan, [self.networks[place] for place in left])
            batch_size = lime.BATCH if self.plan.device == "cpu" else lime.LARGE_BATCH
            rows = lime.explain(classify, case.images[0], int(case.labels[0]), perturbed, batch_size=batch_size)
            ends = np.cumsum([0, *(len(self.columns[place].cuts) for place in left)])
            for place, (start, stop) in zip(left, pairwise(ends), strict=True):
                found[place] = {KIND: rows[start:stop]}
                self.plan.kept.keep(found[place], *parts[place])
        return [found[place][KIND] for place in range(len(parts))]
