"""What a localisation study measures and keeps: columns of values, of each network and kind of map, case by case."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import torch

from data.records import Record
from data.transforms import MIN_BOX_PIXELS
from maps import baselines
from maps.cases import Cases
from maps.evidence import Evidence
from maps.kept import Kept
from maps.kinds import MAPS, explanations
from maps.measures import Rule, measure
from maps.networks import UNTRAINED, Named
from maps.plan import Plan
from utils.device import side_by_side
from utils.errors import UserError
from utils.seed import mixed_seed

BASELINE = "baseline"
MEAN_BOX = "mean box"
SEED = 0  # of all that is drawn: random maps, LIME's perturbations


Row = dict[str, str | int | float]
Measurements = dict[str, np.ndarray]
Explainer = Callable[[Cases], dict[str, list[Evidence]]]


@dataclass
class Column:
    """Values of one line, seed and kind of map.

    Attributes:
        explain: what gives its maps, among them perhaps other kinds, whose columns have the same one.
        identity: what its maps come from besides the images; None: their values are not kept.
        parts: measure → [cases, cuts] of each batch.
        chosen: which cases it has; None for all.
        coarse: cuts whose maps have too few cells to be judged, or a classifier that learnt nothing.
        untrained: the line of the networks that are like it and learnt nothing.
    """

    line: str
    seed: int
    kind: str
    cuts: tuple[int, ...]
    explain: Explainer | None = None
    identity: str | None = None
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    chosen: np.ndarray | None = None
    coarse: frozenset[int] = frozenset()
    untrained: str = UNTRAINED

    def add(self, values: Measurements) -> None:
        """Append some cases, measured at every cut, [cases, cuts]."""
        for name, own in values.items():
            self.parts.setdefault(name, []).append(own)

    @property
    def values(self) -> dict[str, np.ndarray]:
        """All cases together."""
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}

    def judged(self, name: str) -> np.ndarray:
        """[cases, cuts] of a measure, of the cuts that are judged; of all where none is."""
        own = [place for place, cut in enumerate(self.cuts) if cut not in self.coarse]
        return self.values[name][:, own or slice(None)]


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
        shares: [n] fraction of the image that the boxes take.
        lime: what LIME made of some cases (maps.lime_pictures.Explanation), to be drawn.
    """

    plan: Plan
    columns: list[Column]
    cases: np.ndarray
    shares: np.ndarray
    beside: Beside = field(default_factory=Beside)
    lime: list[Any] = field(default_factory=list)

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


def fill(
    columns: Sequence[Column],
    parts: Iterator[Cases],
    rule: Rule,
    measured: Callable[..., Measurements] = measure,
    kept: Kept | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Explain and measure all cases for all columns; [n, 2] index of the image and class, [n] fraction of the boxes.

    Args:
        measured: `measure`, or what measures less of the same.
        kept: where values of networks are read that were measured before, and written for the next time.

    Raises:
        UserError: there is none.
    """
    kept = kept or Kept()
    shared = [list(own) for _, own in groupby(columns, key=lambda column: column.explain)]
    pairs, shares = [], []
    with side_by_side() as pool:
        for cases in parts:
            pairs.append(np.stack([cases.record, cases.labels.numpy()], 1))
            shares.append(cases.truth.mean((1, 2)))
            list(pool.map(partial(add, cases, rule, measured, kept, kept.content(cases)), shared))
    if not pairs:
        what = f"no box is {MIN_BOX_PIXELS} pixels of the input wide and high, and in view"
        raise UserError(what, where="maps", hint="explain networks of a larger input, or other images")
    return np.concatenate(pairs), np.concatenate(shares)


def add(
    cases: Cases,
    rule: Rule,
    measured: Callable[..., Measurements],
    kept: Kept,
    shown: str,
    columns: Sequence[Column],
) -> None:
    """Append some cases to columns that are explained together.

    Args:
        shown: the content of the cases, where anything is kept.
    """
    explain, identity = columns[0].explain, columns[0].identity
    assert explain is not None, "a column that is filled knows how"

    def make() -> Measurements:
        found = explain(cases)
        return {
            f"{kind} {name}": own
            for kind, maps in found.items()
            for name, own in by_cut([measured(one, cases.truth, cases.boxes, rule) for one in maps]).items()
        }

    kinds = [column.kind for column in columns]
    values = make() if identity is None else kept.of(make, identity, shown, kinds, rule, measured.__name__)
    for column in columns:
        start = f"{column.kind} "
        column.add({name.removeprefix(start): own for name, own in values.items() if name.startswith(start)})


def by_cut(values: Sequence[Measurements]) -> Measurements:
    """[cases, cuts, …] of the values of each cut, [cases, …]."""
    return {name: np.stack([own[name] for own in values], 1) for name in values[0]}


def columns_of(plan: Plan, named: Named) -> list[Column]:
    """A column for each kind of map of a network."""

    def explain(cases: Cases) -> dict[str, list[Evidence]]:
        return explanations(named.network, cases.images.to(plan.device), cases.labels.to(plan.device), plan.kinds)

    def coarse(kind: str) -> frozenset[int]:
        return named.coarse(plan, pooled=MAPS[kind].mapped) if MAPS[kind].layered else frozenset()

    blank = named.blank(plan)
    identity = named.network.identity() if plan.kept.folder else None
    return [
        Column(
            named.line, named.seed, kind, named.network.cuts, explain, identity,
            coarse=coarse(kind) | blank, untrained=named.untrained,
        )
        for kind in plan.kinds
    ]  # fmt: skip


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
        own[MEAN_BOX] = lambda cases: same_for_all(cases, mean_box)
    return [Column(name, SEED, BASELINE, (0,), partial(baseline, make)) for name, make in own.items()]


def baseline(make: Callable[[Cases], np.ndarray], cases: Cases) -> dict[str, list[Evidence]]:
    """Maps [n, H, W] as evidence."""
    return {BASELINE: [Evidence(torch.from_numpy(make(cases)))]}


def same_for_all(cases: Cases, one: np.ndarray) -> np.ndarray:
    """One map for every image."""
    return np.repeat(one[None], len(cases), 0)


def mean_boxes(plan: Plan) -> np.ndarray | None:
    """[H, W] the fraction of training images whose boxes hold a pixel; None where there are none."""
    masks = [cases.truth for cases in plan.images(plan.training, "mean box")] if plan.training else []
    return np.concatenate(masks).mean(0) if masks else None
