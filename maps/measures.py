"""What is measured on each map: how well it falls on the true boxes, and how coarse it is.

To add a measure, write a file with a function that takes Measured maps and gives a number for each, and add a
MeasureEntry to MEASURES. Columns, charts, tables, JSON, values by image and help follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from maps.binary import PERCENTILES, above, iou_by_size, ranks, region_size
from maps.boxes_from_maps import RULES, best_ious, boxes_from_maps
from maps.evidence import NO_INFLUENCE, NOT_FOUND, Evidence
from maps.granulometry import coarseness, mean_size, radii_for, spectrum
from maps.overlap import LOCALISED, coverage, mass_accuracy, pointing, precision, rank_accuracy, region_iou
from utils.tables import Entry, Table

FOUND = 0.5  # the IoU from which on a box counts as found (Pascal VOC)
SWEEP = tuple(f"iou_{percentile}" for percentile in PERCENTILES)


@dataclass(frozen=True)
class Rule:
    """How maps are measured.

    Attributes:
        percentile: of PERCENTILES, above which a pixel counts.
        seed: decides among equal pixels.
        radii: of the disks of granulometry; () for those that suit the image's size.
    """

    percentile: int = 80
    seed: int = 0
    radii: tuple[int, ...] = ()


@dataclass(frozen=True)
class Regions:
    """Regions [N, H, W] bool that come without a map, and the pixels that are true."""

    region: np.ndarray
    truth: np.ndarray


@dataclass(frozen=True)
class Measured:
    """Maps at the size of their images, with what several measures need.

    Attributes:
        evidence: as it was made, [N, h, w].
        truth: [N, H, W] bool.
        boxes: true ones [n, 4] of each image, in pixels.
    """

    evidence: Evidence
    truth: np.ndarray
    boxes: Sequence[np.ndarray]
    rule: Rule

    @cached_property
    def _sized(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Maps, and what they were before rectification."""
        sized = self.evidence.at(*self.truth.shape[1:])
        return sized.maps.float().cpu().numpy(), None if sized.raw is None else sized.raw.float().cpu().numpy()

    @cached_property
    def broken(self) -> np.ndarray:
        """[N] bool: the same all over, or not finite."""
        own = self._sized[0]
        return ~np.isfinite(own).all((1, 2)) | is_even(own) | is_even(self.evidence.maps.float().cpu().numpy())

    @cached_property
    def maps(self) -> np.ndarray:
        """[N, H, W], none below zero, all finite."""
        return np.nan_to_num(self._sized[0])

    @cached_property
    def ranks(self) -> np.ndarray:
        """[N, H, W] int32: how many pixels of its map are higher than each."""
        within = self._sized[1]
        return ranks(self.maps, None if within is None else np.nan_to_num(within), self.rule.seed)

    @cached_property
    def region(self) -> np.ndarray:
        """[N, H, W] bool: the highest pixels, as many as the rule says."""
        return above(self.ranks, region_size(self.truth[0].size, self.rule.percentile))

    @cached_property
    def survivors(self) -> np.ndarray:
        """[N, radii] pixels of the region that survive openings."""
        return spectrum(self.region, self.radii)

    @property
    def radii(self) -> tuple[int, ...]:
        """Of the disks of these openings."""
        return self.rule.radii or radii_for(max(self.truth.shape[1:]))


Place = Literal["table", "chart", "region chart", "baselines", "values", "compared", "differences"]
SHOWN: tuple[Place, ...] = ("table", "chart", "baselines", "values")


@dataclass(frozen=True)
class MeasureEntry(Entry):
    """A measure of maps.

    Attributes:
        about: a sentence on what it says, for whoever reads a report.
        of: Measured maps → [N], a number each. One that is for regions looks at `region` and `truth` alone.
        broken: what a map counts that shows nothing; None: what `of` gives.
        digits: behind the point, in tables.
        higher: whether more is better; None: neither, and what costs no training is no level to pass.
        maps: of maps.
        regions: of regions without a map, as LIME gives them.
        absences: of maps that may be absent: how many are; the others are NaN there.
        places: where it is shown: `table` and `chart` by depth, `region chart` of regions, `baselines` their table,
            `values` those of each image as CSV, `compared` one line against another in JSON, `differences` as table.

    Raises:
        ValueError: a column of the reports has this name.
    """

    of: Callable[[Any], np.ndarray]
    broken: float | None = 0.0
    digits: int = 3
    higher: bool | None = True
    maps: bool = True
    regions: bool = False
    absences: bool = False
    places: tuple[Place, ...] = SHOWN
    about: str = ""

    def __post_init__(self) -> None:
        if self.name in (*SWEEP, "survivors", "advantage"):
            raise ValueError(f"a measure cannot be called {self.name!r}: reports have a column of that name")


def of_region(of: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[Regions | Measured], np.ndarray]:
    """A measure that needs no more than the region and what is true."""
    return lambda own: of(own.region, own.truth)


def that_are(code: int) -> Callable[[Measured], np.ndarray]:
    """Whether maps are absent for a reason."""
    return lambda own: (np.asarray(own.evidence.absent) == code).astype(float)


def is_localised(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] 1 where the IoU is above the paper's threshold."""
    return (region_iou(regions, truth) > LOCALISED).astype(float)


def is_found(regions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """[N] 1 where the IoU is what a detection needs to count as right."""
    return (region_iou(regions, truth) >= FOUND).astype(float)


MEASURES = Table(
    "measure",
    "measures",
    (
        MeasureEntry(
            "iou", "IoU with the box", of_region(region_iou), regions=True,
            places=(*SHOWN, "region chart", "compared", "differences"),
            about="Intersection over union of the region, the highest pixels of a map, with all pixels in the "
            "true boxes of its class.",
        ),
        MeasureEntry(
            "localised", f"localisation accuracy (IoU > {LOCALISED})", of_region(is_localised), regions=True,
            places=("table", "chart", "baselines"),
            about="Fraction of the cases whose IoU is above 0.2: the paper's localisation accuracy.",
        ),
        MeasureEntry(
            "found", f"IoU criterion (IoU ≥ {FOUND})", of_region(is_found), regions=True, places=("values",),
        ),
        MeasureEntry(
            "box_iou", "IoU of the box made from the map",
            lambda own: best_ious(boxes_from_maps(own.maps, RULES["cam20"]), own.boxes), places=("chart", "values"),
            about="IoU of one box, around the largest connected part of what is above a fifth of the way from the "
            "map's minimum to its maximum, with the true box that it fits best.",
        ),
        MeasureEntry(
            "coverage", "fraction of the box that is covered", of_region(coverage), regions=True,
            places=("table", "region chart", "baselines", "values", "compared"),
            about="Fraction of the pixels in the true boxes that the region holds.",
        ),
        MeasureEntry(
            "precision", "fraction of the region inside the box", of_region(precision), maps=False, regions=True,
            places=("region chart", "values"),
            about="Fraction of the region's pixels that are in a true box.",
        ),
        MeasureEntry(
            "pointing", "pointing game", lambda own: pointing(own.maps, own.truth),
            about="Fraction of the cases whose highest pixel is in a true box.",
        ),
        MeasureEntry(
            "mass", "fraction of the evidence inside the box", lambda own: mass_accuracy(own.maps, own.truth),
            places=("table", "values"),
            about="Fraction of all positive values of a map that is in the true boxes.",
        ),
        MeasureEntry(
            "rank", "relevance rank accuracy",
            lambda own: rank_accuracy(above(own.ranks, own.truth.sum((1, 2))), own.truth), places=("values",),
            about="Share that is in the true boxes of as many highest pixels as these boxes have.",
        ),
        MeasureEntry(
            "coarseness", "granulometry: mean surviving pixels", lambda own: coarseness(own.survivors),
            broken=np.nan, digits=0, higher=None, places=("table", "chart", "values", "compared", "differences"),
            about="Pixels of the region that survive openings by disks, a mean over their radii: more is coarser. "
            "Not of empty maps.",
        ),
        MeasureEntry(
            "mean_size", "granulometry: mean radius", lambda own: mean_size(own.survivors, own.radii),
            broken=np.nan, higher=None, places=(),
            about="Mean radius of the disks that a region's pixels survive, in pixels.",
        ),
        MeasureEntry(
            "degenerate", "fraction of the maps that are empty", lambda own: own.broken.astype(float),
            broken=None, higher=False, places=("table", "values"),
            about="Fraction of the maps that are the same all over or hold numbers that are not finite; they count "
            "as wrong.",
        ),
        MeasureEntry(
            "no_influence", "fraction of the cases that the features have no influence on", that_are(NO_INFLUENCE),
            higher=None, maps=False, absences=True, places=("table", "values"),
            about="Fraction of the cases in which the features of a layer cannot change what is explained; they are "
            "not measured.",
        ),
        MeasureEntry(
            "not_found", "fraction of the cases that were not found", that_are(NOT_FOUND),
            higher=False, maps=False, absences=True, places=("table", "values"),
            about="Fraction of the true boxes that no detection hits; they are not measured.",
        ),
    ),
)  # fmt: skip


def shown_in(place: Place) -> list[MeasureEntry]:
    """The measures of a table, chart or file."""
    return [own for own in MEASURES.values() if place in own.places]


def measure(evidence: Evidence, truth: np.ndarray, boxes: Sequence[np.ndarray], rule: Rule) -> dict[str, np.ndarray]:
    """Values [N] of each of MEASURES, and `survivors` [N, radii], of maps at the size of the true masks [N, H, W].

    `iou` is that of the rule's percentile, `iou_5` … of the others; `box_iou` is that of a box made from the map
    (a fifth of the way from its minimum to its maximum) with the best of an image's true boxes [n, 4]; `rank` and
    `mass` are the accuracies of Arras et al.; `degenerate` is 1 for a map that is the same all over or not finite: it
    counts as all wrong, and has no granulometry, NaN. What is absent is not measured, NaN, but counted:
    `no_influence`, `not_found`.

    Raises:
        ValueError: a measure gives no number for each map.
    """
    own = Measured(evidence, truth, boxes, rule)
    values = swept(own)
    for entry in MEASURES.values():
        if entry.maps:
            found = a_number_each(entry, own, len(truth))
            values[entry.name] = found if entry.broken is None else np.where(own.broken, entry.broken, found)
    values["survivors"] = np.where(own.broken[:, None], np.nan, own.survivors)  # a region of nothing is drawn at random
    return values if evidence.absent is None else without_absent(values, own, evidence.absent)


def sweep(evidence: Evidence, truth: np.ndarray, boxes: Sequence[np.ndarray], rule: Rule) -> dict[str, np.ndarray]:
    """`iou_5` … of `measure` alone."""
    return swept(Measured(evidence, truth, boxes, rule))


def swept(own: Measured) -> dict[str, np.ndarray]:
    """The IoU [N] at each percentile."""
    counts = [region_size(own.truth[0].size, percentile) for percentile in PERCENTILES]
    found = np.where(own.broken[:, None], 0.0, iou_by_size(own.ranks, own.truth, counts))
    return dict(zip(SWEEP, found.T, strict=True))


def without_absent(found: dict[str, np.ndarray], own: Measured, absent: np.ndarray) -> dict[str, np.ndarray]:
    """Values [N, …] with NaN where a map is absent, and what counts these."""
    blank = {name: column.astype(float) for name, column in found.items()}
    for column in blank.values():
        column[absent > 0] = np.nan
    return blank | {entry.name: entry.of(own) for entry in MEASURES.values() if entry.absences}


def a_number_each(entry: MeasureEntry, own: Measured, count: int) -> np.ndarray:
    """[N] of a measure."""
    found = np.asarray(entry.of(own))
    if found.shape != (count,):
        raise ValueError(f"measure {entry.name!r} gives {found.shape} for {count} maps, not ({count},)")
    return found


def is_even(maps: np.ndarray) -> np.ndarray:
    """[N] whether a map [N, h, w] is the same all over; asked before it is enlarged too, which may round."""
    return np.asarray(np.ptp(maps, (1, 2)) == 0)


def measure_regions(regions: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Values [N] for regions [N, H, W] that come without a map; one that is empty has nothing right."""
    own = Regions(regions, truth)
    return {entry.name: np.nan_to_num(entry.of(own)) for entry in MEASURES.values() if entry.regions}
