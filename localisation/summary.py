"""From values by image to what is reported: means with intervals by layer, and one line against another."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localisation.overlap import LOCALISED, chance_iou, iou_ceiling
from localisation.statistics import Comparison, Resamples, compare, holm, mcnemar
from localisation.study import Column

REPORTED = ("iou", "localised", "coverage", "pointing", "mass", "rank", "coarseness", "mean_size")
IOU_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))


@dataclass(frozen=True)
class Line:
    """The files of one line, of several seeds perhaps, with one kind of map.

    Attributes:
        values: measure → [seeds, cases, cuts].
    """

    name: str
    kind: str
    seeds: tuple[int, ...]
    cuts: tuple[int, ...]
    values: dict[str, np.ndarray]

    def mean(self, measure: str) -> np.ndarray:
        """[cuts] over seeds and cases."""
        return np.asarray(np.nanmean(self.values[measure], (0, 1)))

    def deviation(self, measure: str) -> np.ndarray | None:
        """[cuts] standard deviation (n − 1) over the seeds' means; None of one seed."""
        own = np.nanmean(self.values[measure], 1)
        return np.asarray(own.std(0, ddof=1)) if len(own) > 1 else None

    def localised_at(self, threshold: float) -> np.ndarray:
        """[cuts] share of the cases with an IoU above a threshold."""
        return np.asarray((self.values["iou"] > threshold).mean((0, 1)))


@dataclass(frozen=True)
class Against:
    """One line against another at one cut: IoU, and who localises what the other does not.

    Attributes:
        localised: p of McNemar's exact test at the paper's threshold, seed by seed where there are several: the
            largest.
        adjusted: p of the sign test by Holm over the cuts.
    """

    cut: int
    iou: Comparison
    localised: float
    adjusted: float


def lines_of(columns: Sequence[Column]) -> list[Line]:
    """Columns of one line and kind together, in the order of their seeds."""
    found = []
    for name, kind in dict.fromkeys((column.line, column.kind) for column in columns):
        own = sorted((c for c in columns if (c.line, c.kind) == (name, kind)), key=lambda column: column.seed)
        values = [column.values for column in own]
        stacked = {measure: np.stack([each[measure] for each in values]) for measure in values[0]}
        stacked["localised"] = (stacked["iou"] > LOCALISED).astype(float)
        found.append(Line(name, kind, tuple(column.seed for column in own), own[0].cuts, stacked))
    return found


def against(first: Line, second: Line, resamples: Resamples) -> list[Against]:
    """Compare two lines at the cuts that both have, on the same cases; seeds in pairs.

    Raises:
        ValueError: they have no cut in common, or other numbers of seeds.
    """
    cuts = [cut for cut in first.cuts if cut in second.cuts]
    if not cuts or len(first.seeds) != len(second.seeds):
        raise ValueError(f"{first.name} and {second.name} have no cut in common, or not as many seeds")
    found = []
    for cut in cuts:
        one, other = (line.values["iou"][:, :, line.cuts.index(cut)] for line in (first, second))
        p_values = [mcnemar(a > LOCALISED, b > LOCALISED) for a, b in zip(one, other, strict=True)]
        found.append((cut, compare(one, other, resamples), max(p_values)))
    adjusted = holm([comparison.sign for _, comparison, _ in found])
    return [Against(*own, float(p)) for own, p in zip(found, adjusted, strict=True)]


def bounds(shares: np.ndarray, percentile: int) -> dict[str, float]:
    """What any region of this percentile's size can reach on masks of these shares of the image, and what chance does."""
    size = 1 - percentile / 100
    ceilings = iou_ceiling(shares, size)
    return {
        "iou_ceiling": float(ceilings.mean()),
        "iou_chance": float(chance_iou(shares, size).mean()),
        "localisable": float((ceilings > LOCALISED).mean()),
    }
