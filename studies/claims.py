"""What the paper claims (Wang & Farrahi, arXiv 2311.12704), and whether this study shows it.

The rules were written before the first study ran. Later came that a difference whose interval contains 0 shows nothing,
and that one network of each kind says nothing of how they are trained.

There are six answers. `reproduced`: the rule is fulfilled. `direction only`: the difference has the paper's direction,
but the rule asks for more. `not seen`: it has the other direction. `undecided`: the interval contains both, or there is
one seed. `not tested`: there are no such maps, or one of the networks had learnt nothing. `cannot tell`: nowhere do the
maps of either network overlap the boxes more than those of untrained networks and than the mean box do, so that they
show nothing of where a network looks.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from evaluation.accuracy import BackboneFile, line_names, trained_as, untaught
from evaluation.learnt import groups_of
from maps.kinds import title_of
from maps.levels import Level, ious_at, rival_name
from maps.lines import Line
from maps.regions import judged_cuts, judged_on
from maps.statistics import Resamples, compare, mean_known
from maps.summary import Against, Pair, Summary, paired
from maps.tables import SEEDS_BY, Claim, shown
from utils.text import NOTHING

KINDS = ("cl", "e2e")
REPRODUCED, DIRECTION, NOT_SEEN = "reproduced", "direction only", "not seen"
UNDECIDED, UNTESTED, BLIND = "undecided", "not tested", "cannot tell"
TOO_NARROW = "intervals of resampled seeds, which are too narrow"
GRANULOMETRY = "7"
SHARE = 0.74  # the lower of the paper's two


def doubted(report: dict[str, Any]) -> str | None:
    """Why no verdict of a report on maps counts, or None: its intervals over seeds are those of resampled ones."""
    several = any(len(line["seeds"]) > 1 for line in report["lines"])
    return None if not several or report.get("seeds_by") == SEEDS_BY else TOO_NARROW


def counted(report: dict[str, Any], verdict: str) -> str:
    """A verdict of a report on maps as far as it counts: without several seeds, nothing is decided."""
    if why := doubted(report):
        return f"{UNTESTED}: {why}"
    return UNDECIDED if compared_seeds(report) < 2 and not verdict.startswith(UNTESTED) else verdict


def blind_in(report: dict[str, Any], kind: str, lines: Sequence[str]) -> str | None:
    """`blind` of a report on maps: of lines with a kind of map."""
    found = []
    for own in report.get("levels", ()):
        if own["map"] == kind and own["line"] in lines:
            bounds = np.array([own["low"], own["high"]], float)
            found.append(Level(own["line"], kind, own["measure"], own["against"], tuple(own["cuts"]), bounds))
    return blind(found)


def compared_seeds(report: dict[str, Any]) -> int:
    """Seeds of the networks that the claims of a report on maps compare; 0 without such.

    Those that both have; where the report has no pair of a cascaded and an end-to-end network that says so, those of
    the side that has fewer.
    """
    for pair in report.get("pairs", ()):
        if "seeds" in pair and of_kinds(pair["first"], pair["second"]):
            return len(pair["seeds"][0])
    lines = [(trained_as(own["line"]), len(own["seeds"])) for own in report["lines"]]
    sides = [[seeds for line, seeds in lines if line.startswith(kind)] for kind in KINDS]
    return min((max(own) for own in sides if own), default=0)


def verdict(low: float, high: float, whole: bool, zero: float = 0.0) -> str:
    """What an interval of a difference says.

    Args:
        whole: whether what the rule asks for besides is there.
    """
    if np.isnan(low):
        return UNDECIDED
    if low > zero:
        return REPRODUCED if whole else DIRECTION
    return NOT_SEEN if high < zero else UNDECIDED


def judged(summary: Summary) -> list[Claim]:
    """Every claim on maps, for the first pair of a cascaded and an end-to-end line; nothing without such a pair."""
    files = summary.study.plan.files
    if why := untaught(files) if has_both(files) else None:
        return [replace(own, found=NOTHING, verdict=f"{UNTESTED}: {why}") for own in every_claim(summary, {})]
    pairs = {pair.kind: pair for pair in reversed(summary.pairs) if of_kinds(pair.first.name, pair.second.name)}
    return every_claim(summary, pairs) if pairs else []


def has_both(files: Sequence[BackboneFile]) -> bool:
    """Whether a cascaded and an end-to-end network are there."""
    lines = [trained_as(line) for line in line_names(files)]
    return all(any(line.startswith(kind) for line in lines) for kind in KINDS)


def every_claim(summary: Summary, pairs: dict[str, Pair]) -> list[Claim]:
    """The claims, judged by the pair of each kind of map where there is one."""
    maps, gradients, lime = (pairs.get(kind) for kind in ("gradcam", "saliency", "lime"))
    found = [
        (above_diagonal("4a–b", "Grad-CAM", maps), maps),
        (ahead_everywhere("4c–d", "Grad-CAM", maps), maps),
        (above_diagonal("9a–b", "saliency", gradients), gradients),
        (ahead_everywhere("9c–d", "saliency", gradients), gradients),
        (lime_gain(lime), lime),
        (coarse_to_fine(maps), maps),
        (small_boxes(maps, summary), maps),
    ]
    return [*(settled(own, pair, summary) for own, pair in found), seen_above(region_gain(summary), summary)]


def settled(own: Claim, pair: Pair | None, summary: Summary) -> Claim:
    """A claim on a pair of lines, as far as their seeds and what costs no training let it be judged.

    Granulometry has no truth that a map could miss.
    """
    if alone(pair):
        return replace(own, verdict=UNDECIDED)
    if pair is None or own.figure == GRANULOMETRY:
        return own
    why = blind(
        [one for one in summary.levels if one.kind == pair.kind and one.line in (pair.first.name, pair.second.name)]
    )
    return replace(own, verdict=f"{BLIND}: {why}") if why else own


def seen_above(own: Claim, summary: Summary) -> Claim:
    """The claim on boxes from frozen features, if these are above what costs no training anywhere."""
    lines = [line for line in summary.runs("miou") if trained_as(line).startswith(KINDS)]
    why = blind([one for one in summary.region_levels if one.line in lines])
    return replace(own, verdict=f"{BLIND}: {why}") if why and own.verdict not in (UNDECIDED, UNTESTED) else own


def blind(levels: Sequence[Level]) -> str | None:
    """Why some lines show nothing of where networks look: at no cut is one above everything that costs no training.

    None where one is, or nothing is known of it.

    Args:
        levels: of these lines; only those of the IoU count.
    """
    found = [own for own in levels if own.measure in ("iou", "miou") and own.cuts and len(own.unknown) < len(own.cuts)]
    above = [set(own.cuts) - {*own.not_above, *own.unknown} for own in found]
    lines = {own.line: [cuts for one, cuts in zip(found, above, strict=True) if one.line == own.line] for own in found}
    if not found or any(set.intersection(*own) for own in lines.values()):
        return None
    rivals = dict.fromkeys(own.rival for own in found)
    never = [
        name for name in rivals if not any(cuts for own, cuts in zip(found, above, strict=True) if own.rival == name)
    ]
    what = "boxes from frozen features" if found[0].measure == "miou" else f"{title_of(found[0].kind)} maps"
    return f"{what} are nowhere above {' and '.join(map(rival_name, never or rivals))} in IoU"


def alone(pair: Pair | None) -> bool:
    """Whether a side is a single network: what another seed would give is not known."""
    return pair is not None and len(paired(pair.first, pair.second)[0].seeds) < 2


def of_kinds(first: str, second: str) -> bool:
    """Whether two lines are what the paper compares, a cascade and end to end."""
    return all(trained_as(line).startswith(kind) for line, kind in zip((first, second), KINDS, strict=True))


def above_diagonal(figure: str, kind: str, pair: Pair | None) -> Claim:
    """Most images have a higher IoU with CL, after the last block that is judged."""
    claim = f"74 % (natural images) and 86 % (chest X-rays) of the images have a higher IoU with CL ({kind})"
    rule = f"reproduced: at least {SHARE:.0%} above the diagonal after the last judged block; direction: more than half"
    if pair is None:
        return Claim(figure, claim, rule, "no such maps", UNTESTED)
    last, (low, high) = pair.of("iou")[-1], share_bounds(pair)
    share = f"{last.values.above:.1%} [{low:.1%}, {high:.1%}]" if last.values.ties < 1 else "none"
    found = f"{share} after b{last.cut} (ties: {last.values.ties:.1%}), {sign_test_of(last.adjusted)}"
    return Claim(figure, claim, rule, found, verdict(low, high, last.values.above >= SHARE, 0.5))


def sign_test_of(p: float) -> str:
    """Its p, and what it is of: with several seeds the interval says more."""
    return f"sign test of these networks p {shown(p)}"


def share_bounds(pair: Pair) -> tuple[float, float]:
    """95 % bounds of the share above the diagonal after the last block, taking the share of ties as it is."""
    decided, interval = 1 - pair.of("iou")[-1].values.ties, pair.of("advantage")[-1].values.interval
    if not decided or np.isnan(interval[0]):
        return 0.0, 1.0
    low, high = (min(1.0, max(0.0, (1 + bound / decided) / 2)) for bound in interval)
    return low, high


def ahead_everywhere(figure: str, kind: str, pair: Pair | None) -> Claim:
    """CL localises better at every layer."""
    claim = f"CL localises better at every layer ({kind})"
    rule = "reproduced: the interval of the IoU's difference is above 0 at every cut; direction: that of its mean"
    if pair is None:
        return Claim(figure, claim, rule, "no such maps", UNTESTED)
    rows, (mean, low, high) = pair.of("iou"), pair.overall["iou"]
    sure = sum(row.values.interval[0] > 0 for row in rows)
    found = f"above 0 at {sure} of {len(rows)} cuts; mean over cuts {bounded(mean, low, high)}; by cut "
    return Claim(figure, claim, rule, found + listed(rows), verdict(low, high, sure == len(rows)))


def bounded(mean: float, low: float, high: float) -> str:
    """`+0.010 [+0.005, +0.015]`; the mean alone where there is no interval."""
    return f"{mean:+.3f}" + ("" if np.isnan(low) else f" [{low:+.3f}, {high:+.3f}]")


def listed(rows: Sequence[Against]) -> str:
    """Mean differences, cut by cut."""
    return " ".join(f"{row.values.mean:+.3f}" for row in rows)


def lime_gain(pair: Pair | None) -> Claim:
    """LIME's explanations cover more of the box with CL, most at layer 2."""
    claim = "LIME's explanations cover more of the box with CL at every layer, most so at layer 2"
    rule = "reproduced: intervals above 0 at every cut, largest at the second; direction: that of the mean over cuts"
    if pair is None:
        return Claim("5", claim, rule, "no LIME (--lime)", UNTESTED)
    rows, (mean, low, high) = pair.of("coverage"), pair.overall["coverage"]
    everywhere = all(row.values.interval[0] > 0 for row in rows)
    largest, second = int(np.argmax([row.values.mean for row in rows])), pair.first.cuts[1:2]  # none of a single cut
    found = f"difference of coverage {listed(rows)}, largest at b{rows[largest].cut}; mean {bounded(mean, low, high)}"
    return Claim("5", claim, rule, found, verdict(low, high, everywhere and rows[largest].cut in second))


def coarse_to_fine(pair: Pair | None) -> Claim:
    """CL's features go from coarse to fine; those of E2E keep their granulometry."""
    claim = "CL's maps go from coarse to fine with depth, those of E2E stay as they are"
    rule = (
        "reproduced: CL's granulometry after the last block is below that after the first, intervals apart, and "
        "changes at least twice as much as E2E's; direction: it falls, and more than E2E's"
    )
    if pair is None:
        return Claim(GRANULOMETRY, claim, rule, "no such maps", UNTESTED)
    falls = [fall(line) for line in (pair.first, pair.second)]
    first, last = pair.first.ends
    low, high = pair.first.intervals["coarseness"]
    texts = [
        f"{line.name} {' '.join(f'{own:.0f}' for own in mean_known(line.at_judged('coarseness'), (0, 1)))}"
        for line in (pair.first, pair.second)
    ]
    own = verdict(low[first] - high[last], high[first] - low[last], abs(falls[0]) >= 2 * abs(falls[1]))
    own = NOT_SEEN if own == DIRECTION and falls[0] >= falls[1] else own
    return Claim(GRANULOMETRY, claim, rule, "; ".join(texts), own)


def fall(line: Line) -> float:
    """Change of the granulometry from the first cut to the last, as a fraction of the first."""
    means, (first, last) = line.mean("coarseness"), line.ends
    return float(means[last] / means[first] - 1)


def small_boxes(pair: Pair | None, summary: Summary) -> Claim:
    """CL's maps of small objects are tighter."""
    claim = "On small objects CL's maps are tighter"
    rule = (
        "reproduced: on the third with the smallest boxes the interval of the IoU's difference after the last judged "
        "block > 0"
    )
    if pair is None:
        return Claim("8", claim, rule, "no such maps", UNTESTED)
    small, cut = summary.small, pair.cuts[-1]
    one, other = (own.values["iou"][:, small, own.cuts.index(cut)] for own in paired(pair.first, pair.second))
    groups = np.array(summary.study.groups)[small].tolist()
    resamples = Resamples(len(groups), groups, draws=summary.draws)
    own = compare(one - other, resamples.interval(one - other, differences=True), groups)
    means = f"mean IoU {mean_known(one, None):.3f} against {mean_known(other, None):.3f}"
    found = f"{means} after b{cut}, difference {bounded(own.mean, *own.interval)}, {sign_test_of(own.sign)}"
    return Claim("8", claim, rule, found, verdict(*own.interval, True))


def region_gain(summary: Summary) -> Claim:
    """Frozen features of CL give better boxes, most so at layer 4."""
    claim = "One convolution on CL's frozen features gives better regions, by most at layer 4"
    rule = (
        "reproduced: the interval of the mIoU's difference, mean over the judged cuts, is above 0, CL's mIoU is higher "
        "at each of them, and the difference largest at the fourth; direction: that of the mean"
    )
    runs = summary.runs("miou")
    one, other = (next((line for line in runs if trained_as(line).startswith(kind)), "") for kind in KINDS)
    layers = sorted(runs.get(one, {}).keys() & runs.get(other, {}).keys())
    if not layers:
        return Claim("6", claim, rule, "no boxes from frozen features (--regions)", UNTESTED)
    cuts = [cut for cut in layers if all(cut in judged_cuts(summary.regions, line) for line in (one, other))]
    if not cuts:
        return Claim("6", claim, rule, "no layer in common that is judged", UNTESTED)
    seeds = ({own.seed for own in summary.regions if own.line == line} for line in (one, other))
    shared = set.intersection(*seeds)
    kept = [own for own in summary.regions if own.seed in shared] or summary.regions
    sides = [np.stack([ious_at(kept, line, cut) for cut in cuts], 2) for line in (one, other)]
    gains = (sides[0].mean((0, 1)) - sides[1].mean((0, 1))).tolist()
    low, high = bounds_of_seeds(summary, sides) if len(shared) > 1 else (np.nan, np.nan)
    found = "difference of the mIoU " + " ".join(f"{gain:+.3f}" for gain in gains)
    found += f"; mean {bounded(float(np.mean(gains)), low, high)}"
    fourth = layers[3] if len(layers) > 3 else None
    everywhere = min(gains) > 0 and cuts[int(np.argmax(gains))] == fourth
    return Claim("6", claim, rule, found, verdict(low, high, everywhere))


def bounds_of_seeds(summary: Summary, sides: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % of the difference of boxes from frozen features.

    Args:
        sides: [seeds, images, cuts] IoU of each side, the same seeds.
    """
    one, other = (own.mean(2) for own in sides)
    groups = groups_of(judged_on(summary.study.plan))[summary.regions[0].record].tolist()
    low, high = Resamples(len(groups), groups, draws=summary.draws).interval(one - other, differences=True)
    return float(low), float(high)
