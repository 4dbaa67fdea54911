"""The localisation study: every classifier of every backbone file explains the same images, and is measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from data.records import Record
from evaluation.accuracy import BackboneFile, line_names, load_backbone_and_heads
from maps import baselines, lime
from maps.cases import Cases
from maps.evidence import Evidence
from maps.explained import Explained
from maps.kinds import explanations
from maps.measures import Rule, measure, measure_regions
from maps.plan import Plan
from models.backbone import Backbone
from models.backbones import make_backbone
from models.heads import make_head
from models.inference import fold_batchnorm
from utils.console import progress
from utils.device import keep_memory, side_by_side
from utils.seed import mixed_seed, seed_process

BASELINE, UNTRAINED = "baseline", "untrained"
SEED = 0  # of all that is drawn: untrained weights, random maps, LIME's perturbations


Row = dict[str, str | int | float]
Explainer = Callable[[Cases], dict[str, list[Evidence]]]


@dataclass
class Column:
    """Values of one line, seed and kind of map.

    Attributes:
        explain: what gives its maps, among them perhaps other kinds, whose columns have the same one.
        parts: measure → [cases, cuts] of each batch.
        chosen: which cases it has; None for all.
    """

    line: str
    seed: int
    kind: str
    cuts: tuple[int, ...]
    explain: Explainer | None = None
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    chosen: np.ndarray | None = None

    def add(self, values: Sequence[dict[str, np.ndarray]]) -> None:
        """Append some cases, measured at every cut."""
        for name in values[0]:
            self.parts.setdefault(name, []).append(np.stack([own[name] for own in values], 1))

    @property
    def values(self) -> dict[str, np.ndarray]:
        """All cases together."""
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}


@dataclass(frozen=True)
class Beside:
    """What a report says besides its measures.

    Attributes:
        notes: lines of the heading.
        tables: titles and tables.
        figures: numbers of its JSON.
        sheets: name → rows of a CSV among the values by image.
    """

    notes: Sequence[str] = ()
    tables: Sequence[tuple[str, list[list[str]]]] = ()
    figures: dict[str, Any] = field(default_factory=dict)
    sheets: dict[str, list[Row]] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """What was measured.

    Attributes:
        cases: [n, 2] index of the image among them and class of each case.
        shares: [n] share of the image that the boxes take.
    """

    plan: Plan
    columns: list[Column]
    cases: np.ndarray
    shares: np.ndarray
    beside: Beside = field(default_factory=Beside)

    @property
    def records(self) -> list[Record]:
        """The images."""
        return self.plan.split.records

    @property
    def groups(self) -> list[str]:
        """Whose image each case is: a patient's, or its own."""
        return [self.records[index].group or f"image {index}" for index in self.cases[:, 0]]

    def again(self, indices: Sequence[int], title: str) -> dict[int, Cases]:
        """Some of the cases with their images, each by itself, by their indices."""
        images = sorted({int(self.cases[index, 0]) for index in indices})
        rows = {image: iter(np.flatnonzero(self.cases[:, 0] == image).tolist()) for image in images}
        wanted, found = set(indices), {}
        for cases in self.plan.cases([self.records[image] for image in images], title, batch_size=1):
            for number, image in enumerate(cases.record.tolist()):
                index = next(rows[images[image]])  # an image's cases always come in the same order
                if index in wanted:
                    found[index] = cases.at([number])
        return {index: found[index] for index in indices}


def run(plan: Plan) -> Study:
    """Explain and measure; memory does not grow with the images but by their values."""
    keep_memory()
    networks = [load_explained(file, plan) for file in plan.files]
    columns = [*network_columns(plan, networks), *untrained_columns(plan), *baseline_columns(mean_boxes(plan))]
    pairs, shares = fill(columns, plan.cases(plan.split.records, "maps"), plan.rule)
    study = Study(plan, columns, pairs, shares)
    if plan.lime:
        columns += lime_columns(study, networks)
    return study


def fill(columns: Sequence[Column], parts: Iterator[Cases], rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Explain and measure all cases for all columns; [n, 2] index of the image and class, [n] share of the boxes."""
    explainers = list(dict.fromkeys(column.explain for column in columns if column.explain))

    def add(cases: Cases, explain: Explainer) -> None:
        found = explain(cases)
        for column in columns:
            if column.explain is explain:
                column.add([measure(one, cases.truth, cases.boxes, rule) for one in found[column.kind]])

    pairs, shares = [], []
    with side_by_side() as pool:
        for cases in parts:
            pairs.append(np.stack([cases.record, cases.labels.numpy()], 1))
            shares.append(cases.truth.mean((1, 2)))
            list(pool.map(partial(add, cases), explainers))
    return np.concatenate(pairs), np.concatenate(shares)


def network_columns(plan: Plan, networks: Sequence[Explained]) -> list[Column]:
    """A column for each file and kind of map."""
    rows = zip(plan.files, line_names(plan.files), networks, strict=True)
    return [column for file, line, network in rows for column in columns_of(plan, network, line, file.seed)]


def untrained_columns(plan: Plan) -> list[Column]:
    """The network of the first file before it learned anything."""
    return columns_of(plan, load_untrained(plan), UNTRAINED, SEED)


def columns_of(plan: Plan, network: Explained, line: str, seed: int) -> list[Column]:
    """A column for each kind of map of a network."""

    def explain(cases: Cases) -> dict[str, list[Evidence]]:
        return explanations(network, cases.images.to(plan.device), cases.labels.to(plan.device), plan.kinds)

    return [Column(line, seed, kind, network.cuts, explain) for kind in plan.kinds]


def baseline_columns(mean_box: np.ndarray | None) -> list[Column]:
    """Maps that know nothing of a network: one for the whole depth."""

    def random(cases: Cases) -> np.ndarray:
        count, height, width = cases.truth.shape
        seed = mixed_seed(SEED, int(cases.record[0]), int(cases.labels[0]))
        return baselines.random_maps(count, height, width, seed)

    def centre(cases: Cases) -> np.ndarray:
        return same_for_all(cases, baselines.centre_map(*cases.truth.shape[1:]))

    def edges(cases: Cases) -> np.ndarray:
        return baselines.edge_maps(cases.images.numpy())

    own: dict[str, Callable[[Cases], np.ndarray]] = {"random": random, "centre": centre, "edges": edges}
    if mean_box is not None:
        own["mean box"] = lambda cases: same_for_all(cases, mean_box)
    return [Column(name, SEED, BASELINE, (0,), partial(baseline, make)) for name, make in own.items()]


def baseline(make: Callable[[Cases], np.ndarray], cases: Cases) -> dict[str, list[Evidence]]:
    """Maps [n, H, W] as evidence."""
    return {BASELINE: [Evidence(torch.from_numpy(make(cases)))]}


def same_for_all(cases: Cases, one: np.ndarray) -> np.ndarray:
    """One map for every image."""
    return np.repeat(one[None], len(cases), 0)


def mean_boxes(plan: Plan) -> np.ndarray | None:
    """[H, W] the share of training images whose boxes hold a pixel; None where there are none."""
    masks = [cases.truth for cases in plan.images(plan.training, "mean box")] if plan.training else []
    return np.concatenate(masks).mean(0) if masks else None


def lime_columns(study: Study, networks: Sequence[Explained]) -> list[Column]:
    """Explanations by LIME of some cases, spread evenly over all; every classifier sees the same perturbed images."""
    plan, count = study.plan, len(study.cases)
    chosen = np.unique(np.linspace(0, count - 1, min(plan.lime, count)).round().astype(int))
    columns = [
        Column(line, file.seed, "lime", tuple(file.cuts), chosen=chosen)
        for file, line in zip(plan.files, line_names(plan.files), strict=True)
    ]
    classify = partial(probabilities, plan, networks, first_alike(networks))
    cases = study.again(chosen.tolist(), "images for LIME").values()
    with side_by_side() as pool:
        for values in progress(pool.map(partial(lime_values, plan, columns, classify), cases), "LIME", len(cases)):
            for column, own in zip(columns, values, strict=True):
                column.add(own)
    return columns


def probabilities(plan: Plan, networks: Sequence[Explained], twins: Sequence[int], images: Tensor) -> list[Tensor]:
    """[B, classes] of every classifier of every network; those of the same features share their arithmetic."""
    own = images.to(plan.device)
    features = {twin: networks[twin].features(own) for twin in set(twins)}
    logits = [one for network, twin in zip(networks, twins, strict=True) for one in network.logits(features[twin])]
    return [one.softmax(1) if plan.files[0].single_label else one.sigmoid() for one in logits]


def first_alike(networks: Sequence[Explained]) -> list[int]:
    """For each network the first one of the same features: fresh classifiers on them share their arithmetic."""
    return [next(place for place, first in enumerate(networks) if first.sees_like(own)) for own in networks]


def lime_values(
    plan: Plan, columns: Sequence[Column], classify: lime.Classifiers, case: Cases
) -> list[list[dict[str, np.ndarray]]]:
    """One case explained for every classifier, and measured: column → cut → measure."""
    image, label = case.images[0], int(case.labels[0])
    segments = lime.superpixels(image.permute(1, 2, 0).numpy())
    perturbed = lime.Perturbations.draw(segments, seed=SEED)
    batch_size = lime.BATCH if plan.device == "cpu" else lime.LARGE_BATCH
    found = iter(lime.explain(classify, image, label, perturbed, batch_size=batch_size))
    regions = [[lime.explanation(next(found), segments)[None] for _ in column.cuts] for column in columns]
    return [[measure_regions(region, case.truth) for region in own] for own in regions]


def load_explained(file: BackboneFile, plan: Plan) -> Explained:
    """The network of a file with its classifiers, ready to be explained."""
    return ready(file, *load_backbone_and_heads(file), plan)


def load_untrained(plan: Plan) -> Explained:
    """The network of the first file with new weights, the same in every run."""
    return ready(plan.files[0], *new_layers(plan), plan)


def new_layers(plan: Plan) -> tuple[Backbone, list[nn.Module]]:
    """Its backbone and classifiers."""
    file = plan.files[0]
    seed_process(SEED)
    heads = [make_head(file.head, shape, len(file.names), convs=file.convs) for shape in file.shapes]
    return make_backbone(file.backbone, file.width), heads


def ready(file: BackboneFile, backbone: Backbone, heads: Sequence[nn.Module], plan: Plan) -> Explained:
    """A network where it computes, in the order of memory that suits convolutions, BatchNorm folded into them."""
    fold_batchnorm(backbone)
    network = Explained(backbone, file.cuts, heads, aligned=not plan.stretched, single_label=file.single_label)
    return network.to(plan.device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
