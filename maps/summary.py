"""From values by image to what is reported: means with intervals by layer, and one line against another."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from data.transforms import MIN_BOX_PIXELS
from evaluation.accuracy import PROBED, trained_as
from maps.kinds import title_of
from maps.levels import Level, levels, region_levels
from maps.lines import Line, bounds_together, lines_of
from maps.localise import BASELINE, Study
from maps.measures import MEASURES, shown_in
from maps.overlap import LOCALISED, chance_iou, iou_ceiling
from maps.regions import Region
from maps.statistics import DRAWS, Comparison, compare, holm, mcnemar, mean_known
from utils.text import counted

OVER_CUTS = " over cuts"
IOU_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
SMALL = 1 / 3  # of the cases, those with the least boxes
THESE = "P values are of these networks: in contrast to the intervals, they do not count what another seed would give"


@dataclass(frozen=True)
class Against:
    """One line against another in one measure at one cut.

    Attributes:
        values: first minus second.
        localised: of the IoU, p of McNemar's exact test at the paper's threshold; of several seeds the largest.
        adjusted: p of the sign test by Holm over the cuts.
    """

    measure: str
    cut: int
    values: Comparison
    localised: float | None
    adjusted: float


@dataclass(frozen=True)
class Pair:
    """Two lines with the same kind of map, compared.

    Attributes:
        overall: measure → mean difference over the cuts that are judged, and its 95 % interval.
    """

    first: Line
    second: Line
    rows: list[Against]
    overall: dict[str, tuple[float, float, float]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Of the maps."""
        return self.first.kind

    @property
    def cuts(self) -> list[int]:
        """Those that both have."""
        return common_cuts(self.first, self.second)

    def of(self, measure: str) -> list[Against]:
        """The rows of a measure, by cut."""
        return [row for row in self.rows if row.measure == measure]

    def ious(self, cut: int) -> tuple[np.ndarray, np.ndarray]:
        """[cases] IoU of both at a cut, means over the seeds that are compared."""
        lines = paired(self.first, self.second)
        first, second = (mean_known(own.values["iou"][:, :, own.cuts.index(cut)]) for own in lines)
        return first, second


@dataclass(frozen=True)
class Summary:
    """All lines with their intervals, the pairs, what was learned on frozen features, and what costs no training.

    Attributes:
        notes: which cases are left out, which lines are compared in part, or not at all, and why.
        draws: resamples behind the intervals; 0: there are none.
    """

    study: Study
    lines: list[Line]
    pairs: list[Pair]
    bounds: dict[str, float]
    regions: list[Region]
    levels: list[Level] = field(default_factory=list)
    region_levels: list[Level] = field(default_factory=list)
    notes: Sequence[str] = ()
    draws: int = DRAWS

    @property
    def kinds(self) -> list[str]:
        """Of maps, baselines not counted."""
        return [kind for kind in dict.fromkeys(line.kind for line in self.lines) if kind != BASELINE]

    def of(self, kind: str) -> list[Line]:
        """The lines with maps of a kind."""
        return [line for line in self.lines if line.kind == kind]

    def runs(self, measure: str) -> dict[str, dict[int, list[float]]]:
        """Line → cut → miou or map50 of every run on frozen features."""
        found: dict[str, dict[int, list[float]]] = {}
        for region in self.regions:
            found.setdefault(region.line, {}).setdefault(region.cut, []).append(getattr(region, measure))
        return found

    @property
    def small(self) -> np.ndarray:
        """[cases] bool: the third with the smallest boxes."""
        return np.asarray(self.study.shares <= np.quantile(self.study.shares, SMALL))


def summarise(study: Study, draws: int, regions: Sequence[Region] = ()) -> Summary:
    """Join seeds, resample images (or patients), compare.

    Args:
        draws: resamples behind the intervals.
        regions: what was learned on frozen features.

    Returns:
        No pairs and no levels where a network learnt nothing: its maps say nothing of how it was trained.
    """
    lines = lines_of(study.columns)
    couples = [(first, reference(lines, first)) for first in lines if first.trained]
    taught = study.plan.untaught() is None
    couples = [couple for couple in couples if taught and couple[0] is not couple[1]]
    notes = list(dict.fromkeys(filter(None, (hidden(study), *(unlike(*couple) for couple in couples)))))
    couples = [couple for couple in couples if comparable(*couple)]
    if any(len(paired(*couple)[0].seeds) > 1 for couple in couples):
        notes.append(THESE)
    found = intervals(study, lines, couples, draws)
    for line in lines:
        line.intervals.update(found[id(line)])
    pairs = [pair_of(one, two, found[id(one), id(two)], np.array(study.groups)) for one, two in couples]
    percentile = study.plan.rule.percentile
    beside, boxes = (levels(study, lines, draws), region_levels(study, regions, draws)) if taught else ([], [])
    return Summary(study, lines, pairs, bounds(study.shares, percentile), list(regions), beside, boxes, notes, draws)


def hidden(study: Study) -> str | None:
    """How many cases are left out because nothing of their boxes is to be seen; None where all are there."""
    missing = study.plan.asked - len(study.cases)
    what = f"cases are left out, whose boxes have a side below {MIN_BOX_PIXELS} pixels of the input or are not in view"
    return counted(missing, what) if missing > 0 else None


def pair_of(first: Line, second: Line, found: dict[str, np.ndarray], groups: np.ndarray) -> Pair:
    """Two lines, compared at every cut and over all cuts."""
    overall = {
        measure.removesuffix(OVER_CUTS): (
            float(mean_known(values, None)),
            float(found[measure][0, 0]),
            float(found[measure][1, 0]),
        )
        for measure, values in apart(first, second).items()
        if measure.endswith(OVER_CUTS)
    }
    return Pair(first, second, against(first, second, found, groups), overall)


def reference(lines: Sequence[Line], first: Line) -> Line:
    """What a line is compared with: one trained end to end, with heads of the same kind if it can be; else the last."""
    own = [line for line in lines if line.kind == first.kind and line.trained]
    ends = [line for line in own if trained_as(line.name).startswith("e2e")]
    alike = [line for line in ends if line.name.endswith(PROBED) == first.name.endswith(PROBED)]
    return next(iter(alike or ends or own[-1:]))


def comparable(first: Line, second: Line) -> bool:
    """Whether they have a cut and a seed in common, or a cut and one seed each."""
    return bool(common_cuts(first, second)) and bool(paired(first, second)[0].seeds)


def paired(first: Line, second: Line) -> tuple[Line, Line]:
    """Both with the seeds that both have; as they are where each has one, which is then no pair."""
    if first.seeds == second.seeds or len(first.seeds) == len(second.seeds) == 1:
        return first, second
    shared = [seed for seed in first.seeds if seed in second.seeds]
    return first.of_seeds(shared), second.of_seeds(shared)


def unlike(first: Line, second: Line) -> str | None:
    """Why two lines are not compared, or with fewer seeds than they have; None if they are as they are."""
    names = f"{first.name} and {second.name}"
    if not common_cuts(first, second):
        return f"{names} are not compared by {title_of(first.kind)}: they have no layer in common that is judged"
    shared = paired(first, second)[0].seeds
    if not shared:
        return f"{names} are not compared: no seed of theirs is the same"
    if len(shared) == max(len(first.seeds), len(second.seeds)):
        return None
    which = f"seed {shared[0]}" if len(shared) == 1 else f"seeds {', '.join(map(str, shared))}"
    return f"{names} are compared with {which}, which both have"


def common_cuts(first: Line, second: Line) -> list[int]:
    """The cuts that both have, and at which both are judged."""
    return [cut for cut in first.judged if cut in second.judged]


def intervals(
    study: Study, lines: Sequence[Line], couples: Sequence[tuple[Line, Line]], draws: int
) -> dict[object, dict[str, np.ndarray]]:
    """Bounds of every mean and difference, from one set of resamples for all that have the same cases and seeds.

    Returns:
        id of the line, or ids of the couple → measure → [2, cuts].
    """
    wanted: dict[tuple[int, bytes], list[tuple[object, str, np.ndarray]]] = defaultdict(list)
    chosen: dict[bytes, np.ndarray | None] = {}
    for owner, values, rows in (*map(of_line, lines), *(of_couple(*couple) for couple in couples)):
        key = b"" if rows is None else rows.tobytes()
        chosen[key] = rows
        for measure, own in values.items():
            wanted[len(own), key].append((owner, measure, own))
    found: dict[object, dict[str, np.ndarray]] = defaultdict(dict)
    for (_, key), parts in wanted.items():
        differences = [isinstance(owner, tuple) for owner, *_ in parts]
        bounds = bounds_together(study, [values for *_, values in parts], chosen[key], draws, differences)
        for (owner, measure, _), bound in zip(parts, bounds, strict=True):
            found[owner][measure] = bound
    return found


def of_line(line: Line) -> tuple[object, dict[str, np.ndarray], np.ndarray | None]:
    """Whose bounds, measure → [seeds, cases, cuts], which cases."""
    return id(line), {measure: line.values[measure] for measure in MEASURES if measure in line.values}, line.chosen


def of_couple(first: Line, second: Line) -> tuple[object, dict[str, np.ndarray], np.ndarray | None]:
    """The same of what a couple differs by."""
    return (id(first), id(second)), apart(first, second), first.chosen


def apart(first: Line, second: Line) -> dict[str, np.ndarray]:
    """Measure → [seeds, cases, common cuts] first minus second, the seeds that both have in pairs.

    And `advantage`, the sign of the IoU's difference, and some measures' means over the cuts, [seeds, cases, 1].
    """
    cuts = common_cuts(first, second)
    first, second = paired(first, second)
    one, other = ([line.cuts.index(cut) for cut in cuts] for line in (first, second))
    shared = [own.name for own in shown_in("compared") if own.name in first.values]
    found = {measure: first.values[measure][..., one] - second.values[measure][..., other] for measure in shared}
    overall = [measure for measure in ("iou", "coverage") if measure in found]
    over = {measure + OVER_CUTS: mean_known(found[measure], 2)[..., None] for measure in overall}
    return found | over | {"advantage": np.sign(found["iou"])}


def against(first: Line, second: Line, found: dict[str, np.ndarray], groups: np.ndarray) -> list[Against]:
    """Compare two lines on the same cases, at the cuts that both have.

    Args:
        groups: [all cases] whose image each is.
    """
    rows, own_groups = [], (groups if first.chosen is None else groups[first.chosen]).tolist()
    cuts = common_cuts(first, second)
    for measure, values in apart(first, second).items():
        if measure.endswith(OVER_CUTS):
            continue
        own = [compare(values[..., column], found[measure][:, column], own_groups) for column in range(len(cuts))]
        adjusted = holm([one.sign for one in own])
        localised = [localised_p(first, second, cut, own_groups) if measure == "iou" else None for cut in cuts]
        rows += [
            Against(measure, cut, one, p, float(sign))
            for cut, one, p, sign in zip(cuts, own, localised, adjusted, strict=True)
        ]
    return rows


def localised_p(first: Line, second: Line, cut: int, groups: Sequence[object]) -> float:
    """P of McNemar's test at a cut; of several seeds the largest."""
    one, other = (line.values["iou"][:, :, line.cuts.index(cut)] for line in paired(first, second))
    known, own = ~np.isnan(one + other), np.array(groups)
    right = zip(one > LOCALISED, other > LOCALISED, known, strict=True)
    return max(mcnemar(a[both], b[both], own[both].tolist()) for a, b, both in right)


def bounds(shares: np.ndarray, percentile: int) -> dict[str, float]:
    """What regions of a percentile's size can reach on masks of these fractions of the image, and what chance does."""
    size = 1 - percentile / 100
    ceilings = iou_ceiling(shares, size)
    return {
        "iou_ceiling": float(ceilings.mean()),
        "iou_chance": float(chance_iou(shares, size).mean()),
        "localisable": float((ceilings > LOCALISED).mean()),
    }
