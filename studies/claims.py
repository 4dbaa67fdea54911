"""What the paper claims (Wang & Farrahi, arXiv 2311.12704), and whether this study shows it.

The rules were written before the first study ran. Later came that a difference whose interval contains 0 shows nothing.

There are five answers. `reproduced`: the rule is fulfilled. `direction only`: the difference has the paper's direction,
but the rule asks for more. `not seen`: it has the other direction. `undecided`: the interval contains both. `not
tested`: there are no such maps, or one of the networks had learnt nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from evaluation.accuracy import BackboneFile, untaught
from maps.lines import Line
from maps.statistics import cluster_means, mean_known, sign_test
from maps.summary import Against, Pair, Summary
from maps.tables import SEEDS_BY, Claim, shown

REPRODUCED, DIRECTION, NOT_SEEN = "reproduced", "direction only", "not seen"
UNDECIDED, UNTESTED = "undecided", "not tested"
TOO_NARROW = "intervals of resampled seeds, which are too narrow"
LEVEL = 0.05
SHARE = 0.74  # the lower of the paper's two


def doubted(report: dict[str, Any]) -> str | None:
    """Why no verdict of a report on maps counts, or None: its intervals over seeds are those of resampled ones."""
    several = any(len(line["seeds"]) > 1 for line in report["lines"])
    return None if not several or report.get("seeds_by") == SEEDS_BY else TOO_NARROW


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
        return [replace(own, found="–", verdict=f"{UNTESTED}: {why}") for own in every_claim(summary, {})]
    pairs = {pair.kind: pair for pair in reversed(summary.pairs) if cascade_against_e2e(pair)}
    return every_claim(summary, pairs) if pairs else []


def has_both(files: Sequence[BackboneFile]) -> bool:
    """Whether a cascaded and an end-to-end network are there."""
    return all(any(file.method.startswith(kind) for file in files) for kind in ("cl", "e2e"))


def every_claim(summary: Summary, pairs: dict[str, Pair]) -> list[Claim]:
    """The claims, judged by the pair of each kind of map where there is one."""
    maps, gradients = pairs.get("gradcam"), pairs.get("saliency")
    return [
        above_diagonal("4a–b", "Grad-CAM", maps),
        ahead_everywhere("4c–d", "Grad-CAM", maps),
        above_diagonal("9a–b", "saliency", gradients),
        ahead_everywhere("9c–d", "saliency", gradients),
        lime_gain(pairs.get("lime")),
        coarse_to_fine(maps),
        small_boxes(maps, summary),
        region_gain(summary),
    ]


def cascade_against_e2e(pair: Pair) -> bool:
    """Whether a pair is what the paper compares."""
    return pair.first.name.startswith("cl") and pair.second.name.startswith("e2e")


def above_diagonal(figure: str, kind: str, pair: Pair | None) -> Claim:
    """Most images have a higher IoU with CL, after the last block."""
    claim = f"74 % (natural images) and 86 % (chest X-rays) of the images have a higher IoU with CL ({kind})"
    rule = f"reproduced: at least {SHARE:.0%} above the diagonal after the last block; direction: more than half"
    if pair is None:
        return Claim(figure, claim, rule, "no such maps", UNTESTED)
    last, (low, high) = pair.of("iou")[-1], share_bounds(pair)
    found = (
        f"{last.values.above:.1%} [{low:.1%}, {high:.1%}] (ties: {last.values.ties:.1%}), "
        f"sign test p {shown(last.adjusted)}"
    )
    return Claim(figure, claim, rule, found, verdict(low, high, last.values.above >= SHARE, 0.5))


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
    found = f"above 0 at {sure} of {len(rows)} cuts; mean over cuts {mean:+.3f} [{low:+.3f}, {high:+.3f}]; by cut "
    return Claim(figure, claim, rule, found + listed(rows), verdict(low, high, sure == len(rows)))


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
    largest = int(np.argmax([row.values.mean for row in rows]))
    over = f"mean {mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    found = f"difference of coverage {listed(rows)}, largest at b{rows[largest].cut}; {over}"
    return Claim("5", claim, rule, found, verdict(low, high, everywhere and largest == 1))


def coarse_to_fine(pair: Pair | None) -> Claim:
    """CL's features go from coarse to fine; those of E2E keep their granulometry."""
    claim = "CL's maps go from coarse to fine with depth, those of E2E stay as they are"
    rule = (
        "reproduced: CL's granulometry after the last block is below that after the first, intervals apart, and "
        "changes at least twice as much as E2E's; direction: it falls, and more than E2E's"
    )
    if pair is None:
        return Claim("7", claim, rule, "no such maps", UNTESTED)
    falls = [fall(line) for line in (pair.first, pair.second)]
    first, last = pair.first.ends
    low, high = pair.first.intervals["coarseness"]
    texts = [
        f"{line.name} {' '.join(f'{own:.0f}' for own in mean_known(line.at_judged('coarseness'), (0, 1)))}"
        for line in (pair.first, pair.second)
    ]
    own = verdict(low[first] - high[last], high[first] - low[last], abs(falls[0]) >= 2 * abs(falls[1]))
    own = NOT_SEEN if own == DIRECTION and falls[0] >= falls[1] else own
    return Claim("7", claim, rule, "; ".join(texts), own)


def fall(line: Line) -> float:
    """Change of the granulometry from the first cut to the last, as a fraction of the first."""
    means, (first, last) = line.mean("coarseness"), line.ends
    return float(means[last] / means[first] - 1)


def small_boxes(pair: Pair | None, summary: Summary) -> Claim:
    """CL's maps of small objects are tighter."""
    claim = "On small objects CL's maps are tighter"
    rule = (
        "reproduced: on the third with the smallest boxes CL's IoU is higher after the last block, sign test p < 0.05"
    )
    if pair is None:
        return Claim("8", claim, rule, "no such maps", UNTESTED)
    small = summary.small
    one, other = (values[small] for values in pair.ious(pair.cuts[-1]))
    difference = cluster_means(one - other, np.array(summary.study.groups)[small].tolist())
    higher, lower, p = int((difference > 0).sum()), int((difference < 0).sum()), sign_test(difference)
    means = f"mean IoU {one.mean():.3f} against {other.mean():.3f}"
    found = f"{means}, {higher} higher, {lower} lower, p {shown(p)}"
    own = UNDECIDED if p >= LEVEL else REPRODUCED if higher > lower else NOT_SEEN
    return Claim("8", claim, rule, found, own)


def region_gain(summary: Summary) -> Claim:
    """Frozen features of CL give better boxes, most so at layer 4."""
    claim = "One convolution on CL's frozen features gives better regions, by most at layer 4"
    rule = (
        "reproduced: CL's mIoU is higher at every cut, and the difference largest at the fourth; direction: on average"
    )
    runs = summary.runs("miou")
    own = next((runs[line] for line in runs if line.startswith("cl")), {})
    other = next((runs[line] for line in runs if line.startswith("e2e")), {})
    cuts = [cut for cut in own if cut in other]
    if not cuts:
        return Claim("6", claim, rule, "no boxes from frozen features (--regions)", UNTESTED)
    gains = [float(np.mean(own[cut]) - np.mean(other[cut])) for cut in cuts]
    one, two = (np.mean([side[cut] for cut in cuts], 0) for side in (own, other))  # a mean over the cuts for each run
    several = min(len(one), len(two)) > 1
    low, high = stats.ttest_ind(one, two, equal_var=False).confidence_interval() if several else (np.nan, np.nan)
    found = "difference of the mIoU " + " ".join(f"{gain:+.3f}" for gain in gains) + f"; mean [{low:+.3f}, {high:+.3f}]"
    everywhere = min(gains) > 0 and int(np.argmax(gains)) == min(3, len(gains) - 1)
    return Claim("6", claim, rule, found, verdict(low, high, everywhere))
