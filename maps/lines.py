"""Values by image, joined over seeds: what is reported of each line."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from maps.localise import BASELINE, Column, Study
from maps.networks import UNTRAINED, is_untrained
from maps.statistics import Resamples, mean_known


@dataclass(frozen=True)
class Line:
    """The files of one line, of several seeds perhaps, with one kind of map.

    Attributes:
        values: measure → [seeds, cases, cuts].
        chosen: which cases it has; None for all.
        coarse: cuts whose maps have too few cells to be judged, or a classifier that learnt nothing.
        untrained: the line of the networks that are like it and learnt nothing.
        intervals: measure → [2, cuts] bounds of the mean, 95 %.
    """

    name: str
    kind: str
    seeds: tuple[int, ...]
    cuts: tuple[int, ...]
    values: dict[str, np.ndarray]
    chosen: np.ndarray | None = None
    coarse: frozenset[int] = frozenset()
    untrained: str = UNTRAINED
    intervals: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def trained(self) -> bool:
        """Neither a baseline nor an untrained network."""
        return self.kind != BASELINE and not is_untrained(self.name)

    @property
    def judged(self) -> tuple[int, ...]:
        """The cuts that have enough cells, and no classifier that learnt nothing."""
        return tuple(cut for cut in self.cuts if cut not in self.coarse)

    @property
    def ends(self) -> tuple[int, int]:
        """Places of the first and the last cut that are judged; of all cuts where none is."""
        own = self.judged or self.cuts
        return self.cuts.index(own[0]), self.cuts.index(own[-1])

    def at_judged(self, measure: str) -> np.ndarray:
        """[seeds, cases, cuts] of a measure at the cuts that are judged."""
        return self.values[measure][..., [self.cuts.index(cut) for cut in self.judged]]

    def of_seeds(self, seeds: Sequence[int]) -> "Line":
        """The same with some of its seeds, in this order."""
        places = [self.seeds.index(seed) for seed in seeds]
        return replace(self, seeds=tuple(seeds), values={name: own[places] for name, own in self.values.items()})

    def mean(self, measure: str) -> np.ndarray:
        """[cuts] over seeds and cases."""
        return mean_known(self.values[measure], (0, 1))

    def deviation(self, measure: str) -> np.ndarray | None:
        """[cuts] standard deviation (n − 1) over the seeds' means; None of one seed."""
        own = mean_known(self.values[measure], 1)
        return np.asarray(own.std(0, ddof=1)) if len(own) > 1 else None

    def localised_at(self, threshold: float) -> np.ndarray:
        """[cuts] fraction of the cases with an IoU above a threshold."""
        return mean_known(above(self.values["iou"], threshold), (0, 1))


def shown_name(line: Line) -> str:
    """A line's name, with its seeds where they are several."""
    return f"{line.name} ({len(line.seeds)} seeds)" if len(line.seeds) > 1 else line.name


def above(values: np.ndarray, threshold: float) -> np.ndarray:
    """1 where a value is above a threshold, else 0; NaN where there is none."""
    return np.where(np.isnan(values), np.nan, values > threshold)


def lines_of(columns: Sequence[Column]) -> list[Line]:
    """Columns of one line and kind together, in the order of their seeds."""
    found = []
    for name, kind in dict.fromkeys((column.line, column.kind) for column in columns):
        own = sorted((c for c in columns if (c.line, c.kind) == (name, kind)), key=lambda column: column.seed)
        values = [column.values for column in own]
        stacked = {measure: np.stack([each[measure] for each in values]) for measure in values[0]}
        found.append(Line(name, kind, tuple(column.seed for column in own), own[0].cuts, stacked, own[0].chosen,
                          own[0].coarse, own[0].untrained))  # fmt: skip
    return found


def bounds_together(
    study: Study, values: Sequence[np.ndarray], chosen: np.ndarray | None, draws: int, differences: Sequence[bool]
) -> list[np.ndarray]:
    """[2, cuts] 95 % of each mean of values [seeds, cases, cuts], from one set of resamples.

    Args:
        chosen: which cases these are; None for all.
        differences: which of the values are differences.
    """
    groups = np.array(study.groups)
    own = groups if chosen is None else groups[chosen]
    resamples = Resamples(len(own), own.tolist(), draws=draws, seed=study.plan.rule.seed)
    cuts = [part.shape[2] for part in values]
    both = resamples.interval(np.concatenate(list(values), 2), differences=np.repeat(differences, cuts))
    return np.split(both, np.cumsum(cuts)[:-1], axis=1)
