"""What is measured on each map: how well it falls on the true boxes, and how coarse it is."""

from dataclasses import dataclass

import numpy as np

from maps.binary import PERCENTILES, above, iou_by_size, ranks, region_size
from maps.boxes_from_maps import RULES, best_ious, boxes_from_maps
from maps.granulometry import coarseness, mean_size, radii_for, spectrum
from maps.kinds import NO_INFLUENCE, NOT_FOUND, Evidence
from maps.overlap import coverage, mass_accuracy, pointing, precision, rank_accuracy, region_iou

SWEEP = tuple(f"iou_{percentile}" for percentile in PERCENTILES)


@dataclass(frozen=True)
class Rule:
    """How maps are measured: above which of PERCENTILES a pixel counts, and the seed that decides among equal ones."""

    percentile: int = 80
    seed: int = 0


def measure(evidence: Evidence, truth: np.ndarray, boxes: list[np.ndarray], rule: Rule) -> dict[str, np.ndarray]:
    """Values [N] of each measure, and `survivors` [N, radii], of maps at the size of the true masks [N, H, W].

    `iou` is that of the rule's percentile, `iou_50` … of the others; `box_iou` is that of a box made from the map
    (a fifth of its maximum) with the best of an image's true boxes [n, 4]; `rank` and `mass` are the accuracies of
    Arras et al.; `degenerate` is 1 for a map that is the same all over or not finite: it counts as all wrong. What is
    absent is not measured, NaN, but counted: `no_influence`, `not_found`.
    """
    height, width = truth.shape[1:]
    sized = evidence.at(height, width)
    maps = sized.maps.float().cpu().numpy()
    within = None if sized.raw is None else sized.raw.float().cpu().numpy()
    broken = ~np.isfinite(maps).all((1, 2)) | is_even(maps) | is_even(evidence.maps.float().cpu().numpy())
    maps = np.nan_to_num(maps)
    order = ranks(maps, None if within is None else np.nan_to_num(within), rule.seed)
    counts = [region_size(height * width, percentile) for percentile in PERCENTILES]
    own = above(order, counts[PERCENTILES.index(rule.percentile)])
    survivors = spectrum(own, radii_for(max(height, width)))
    values = dict(zip(SWEEP, iou_by_size(order, truth, counts).T, strict=True))
    values |= {
        "iou": values[f"iou_{rule.percentile}"],
        "box_iou": best_ious(boxes_from_maps(maps, RULES["cam20"]), boxes),
        "coverage": coverage(own, truth),
        "pointing": pointing(maps, truth),
        "mass": mass_accuracy(maps, truth),
        "rank": rank_accuracy(above(order, truth.sum((1, 2))), truth),
    }
    values = {name: np.where(broken, 0.0, column) for name, column in values.items()}
    sizes = {"coarseness": coarseness(survivors), "mean_size": mean_size(survivors)}
    found = {**values, **sizes, "degenerate": broken.astype(float), "survivors": survivors}
    return found if evidence.absent is None else without_absent(found, evidence.absent)


def without_absent(found: dict[str, np.ndarray], absent: np.ndarray) -> dict[str, np.ndarray]:
    """Values [N, …] with NaN where a map is absent, and why it is."""
    blank = {name: np.where(absent.reshape(-1, *[1] * (own.ndim - 1)) > 0, np.nan, own) for name, own in found.items()}
    counted = {"no_influence": NO_INFLUENCE, "not_found": NOT_FOUND}
    return blank | {name: (absent == code).astype(float) for name, code in counted.items()}


def is_even(maps: np.ndarray) -> np.ndarray:
    """[N] whether a map [N, h, w] is the same all over; asked before it is enlarged too, which may round."""
    return np.asarray(np.ptp(maps, (1, 2)) == 0)


def measure_regions(regions: np.ndarray, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Values [N] for regions [N, H, W] that come without a map; one that is empty has nothing right."""
    own = {"iou": region_iou, "coverage": coverage, "precision": precision}
    return {name: np.nan_to_num(of(regions, truth)) for name, of in own.items()}
