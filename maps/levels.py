"""What costs no training as a level to pass: which rows of a table are above the untrained network and the mean box."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.learnt import groups_of
from maps.lines import Line, bounds_together
from maps.localise import BASELINE, MEAN_BOX, Study
from maps.measures import MEASURES
from maps.networks import UNTRAINED, is_untrained
from maps.regions import CONSTANT, Region, judged_cuts, judged_on
from maps.statistics import Resamples, mean_known

LEVEL = 0.95


@dataclass(frozen=True)
class Level:
    """A trained line against something that was not trained, in one measure.

    Attributes:
        cuts: those that are judged.
        bounds: [2, cuts] 95 % of the mean difference, case by case.
    """

    line: str
    kind: str
    measure: str
    rival: str
    cuts: tuple[int, ...]
    bounds: np.ndarray

    @property
    def not_above(self) -> list[int]:
        """Cuts whose difference is not sure to be above 0."""
        return [cut for cut, low in zip(self.cuts, self.bounds[0], strict=True) if low <= 0]

    @property
    def unknown(self) -> list[int]:
        """Cuts whose difference has no interval."""
        return [cut for cut, low in zip(self.cuts, self.bounds[0], strict=True) if np.isnan(low)]


def levels(study: Study, lines: Sequence[Line], draws: int) -> list[Level]:
    """Every trained line against the untrained networks like it and against the mean box, where more is better.

    Images (or patients) are resampled; where there are several seeds, Student's t of their means is added in
    quadrature, of both sides by themselves: seeds of trained and of untrained networks are no pairs.
    """
    parts = [(line, rival, name) for line in lines if line.trained for rival in rivals(line, lines)
             for name in judged_measures(line, rival)]  # fmt: skip
    wanted: dict[bytes, list[tuple[Line, Line, str]]] = defaultdict(list)
    for part in parts:
        wanted[b"" if part[0].chosen is None else part[0].chosen.tobytes()].append(part)
    return [level for own in wanted.values() for level in of_same_cases(study, own, draws)]


def rivals(line: Line, lines: Sequence[Line]) -> Iterator[Line]:
    """The untrained networks like those of a line, and the mean box."""
    yield from (own for own in lines if (own.name, own.kind) in ((line.untrained, line.kind), (MEAN_BOX, BASELINE)))


def judged_measures(line: Line, rival: Line) -> list[str]:
    """The measures that both have, of which more is better."""
    both = line.values.keys() & rival.values.keys()
    return [own.name for own in MEASURES.values() if own.higher and own.name in both]


def of_same_cases(study: Study, parts: Sequence[tuple[Line, Line, str]], draws: int) -> Iterator[Level]:
    """Levels of lines that have the same cases."""
    sides = [(line.at_judged(name), rival_values(line, rival, name)) for line, rival, name in parts]
    apart = [mean_known(own)[None] - mean_known(other)[None] for own, other in sides]
    found = bounds_together(study, apart, parts[0][0].chosen, draws, [True] * len(apart))
    for (line, rival, name), sides_of, one, bound in zip(parts, sides, apart, found, strict=True):
        yield Level(line.name, line.kind, name, rival.name, line.judged, widened(one[0], bound, sides_of))


def rival_values(line: Line, rival: Line, name: str) -> np.ndarray:
    """[seeds, cases, cuts] of a rival at the cuts of a line that are judged; a baseline is the same at all of them."""
    own = rival.values[name]
    if rival.kind != BASELINE:
        return own[..., [rival.cuts.index(cut) for cut in line.judged]]
    own = own if line.chosen is None else own[:, line.chosen]
    return np.repeat(own[..., :1], len(line.judged), 2)


def widened(apart: np.ndarray, bounds: np.ndarray, sides: Sequence[np.ndarray]) -> np.ndarray:
    """[2, cuts] bounds of a mean difference over cases [N, cuts] with the seeds of both sides [seeds, N, cuts]."""
    centre = mean_known(apart)
    seeds = sum(half_width(own) ** 2 for own in sides)
    low, high = (np.sqrt((bound - centre) ** 2 + seeds) for bound in bounds)
    return np.stack([centre - low, centre + high])


def half_width(values: np.ndarray) -> np.ndarray:
    """[cuts] half of Student's interval of the seeds' means [seeds, N, cuts]; 0 of one seed, which says nothing."""
    count = len(values)
    if count < 2:
        return np.zeros(values.shape[2])
    spread = mean_known(values, 1).std(0, ddof=1) / np.sqrt(count)
    return np.asarray(stats.t.ppf((1 + LEVEL) / 2, count - 1) * spread)


def sentence(found: Sequence[Level]) -> str:
    """Which rows do not beat what was not trained; levels of one table."""
    if not found:
        return ""
    judged, beaten, parts = [own for own in found if own.cuts], list[str](), list[str]()
    nowhere = ", ".join(dict.fromkeys(own.line for own in found if not own.cuts))
    unjudged = [f"Judged at no cut: {nowhere}."] if nowhere else []
    if judged and all(len(own.unknown) == len(own.cuts) for own in judged):
        return " ".join(["Without intervals nothing is said of what costs no training.", *unjudged])
    for rival in dict.fromkeys(own.rival for own in judged):
        of_rival = [own for own in judged if own.rival == rival]
        behind, unknown = (
            [f"{own.line} at {spans(cuts, own.cuts)}" for own, cuts in zip(of_rival, every, strict=True) if cuts]
            for every in ([own.not_above for own in of_rival], [own.unknown for own in of_rival])
        )
        if not (behind or unknown):
            beaten.append(rival_name(rival))
            continue
        above = any(len(own.cuts) > len(own.not_above) + len(own.unknown) for own in of_rival)
        parts.append(verdict("above", rival_name(rival), behind, unknown, above=above))
    if beaten:
        parts.insert(0, verdict("above", ", ".join(beaten), [], [], above=True))
    return " ".join([*parts, *unjudged]) + " (Paired 95 % intervals of the difference.)"


def verdict(word: str, rival: str, behind: Sequence[str], unknown: Sequence[str], *, above: bool) -> str:
    """Which rows of a table beat a rival, by the lower bounds of their differences: > 0, ≤ 0, or none at all.

    Args:
        word: what it is to beat it: `above`.
        behind, unknown: rows whose bound is ≤ 0; those that have none.
        above: whether there are others.
    """
    said = [f"Not {word} {rival}: {', '.join(behind)}."] if behind else []
    said += [f"No interval of the difference from {rival}: {', '.join(unknown)}."] if unknown else []
    if above and not behind:
        said.insert(0, f"Every {'other' if unknown else 'judged'} row is {word} {rival}.")
    return " ".join(said)


def rival_name(rival: str) -> str:
    """In a sentence."""
    _, _, which = rival.partition(f"{UNTRAINED}, ")
    if rival in (MEAN_BOX, CONSTANT):
        return f"the {rival}"
    return f"the {UNTRAINED} network" + (f" ({which})" if which else "")


def spans(cuts: Sequence[int], of: Sequence[int]) -> str:
    """`every block`, or `b1–b3 and b5`."""
    if len(cuts) == len(of) > 1:
        return "every block"
    groups: list[list[int]] = []
    for cut in cuts:
        if groups and of.index(cut) == of.index(groups[-1][-1]) + 1:
            groups[-1].append(cut)
        else:
            groups.append([cut])
    words = [f"b{own[0]}" if len(own) == 1 else f"b{own[0]}–b{own[-1]}" for own in groups]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def region_levels(study: Study, regions: Sequence[Region], draws: int) -> list[Level]:
    """Boxes from frozen features against those from untrained ones and the constant box, mean IoU image by image.

    At the cuts that are judged; a line that has none has a level without cuts, as of maps.
    """
    groups = groups_of(judged_on(study.plan))[regions[0].record].tolist() if regions else []
    lines = dict.fromkeys(region.line for region in regions)
    trained = [name for name in lines if name != CONSTANT and not is_untrained(name)]
    found = []
    for name in trained:
        beside = next(region.untrained for region in regions if region.line == name)
        cuts = sorted({region.cut for region in regions if region.line == name})
        judged = judged_cuts(regions, name)
        places = [cuts.index(cut) for cut in judged]
        for rival in (own for own in (beside, CONSTANT) if own in lines):
            sides = [np.stack([ious_at(regions, own, cut) for cut in cuts], 2) for own in (name, rival)]
            one = sides[0].mean(0) - sides[1].mean(0)
            resamples = Resamples(len(one), groups, draws=draws, seed=study.plan.rule.seed)
            bound = resamples.interval(one[None], differences=True)
            found.append(Level(name, "regions", "miou", rival, tuple(judged), widened(one, bound, sides)[:, places]))
    return found


def ious_at(regions: Sequence[Region], line: str, cut: int) -> np.ndarray:
    """[seeds, N] IoU of each image at a cut, seeds ascending, means over the runs on one backbone.

    The constant box is one at all cuts.
    """
    runs: dict[int, list[np.ndarray]] = defaultdict(list)
    for own in regions:
        if own.line == line and own.cut in (cut, 0):
            runs[own.seed].append(own.ious)
    return np.stack([np.mean(own, 0) for _, own in sorted(runs.items())])
