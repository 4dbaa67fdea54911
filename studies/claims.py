"""What the paper claims (Wang & Farrahi, arXiv 2311.12704), and whether this study shows it.

The rules below were written before the first study ran. Three answers: `reproduced`, as the rule says; `direction
only`, where the sides differ in the paper's direction by less than the rule asks for; `not seen`. And a fourth,
`not tested`: there are no such maps, or one of the networks had learnt nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import stats

from evaluation.accuracy import BackboneFile, untaught
from maps.summary import Line, Pair, Summary
from maps.tables import Claim, shown

REPRODUCED, DIRECTION, NOT_SEEN, UNTESTED = "reproduced", "direction only", "not seen", "not tested"
LEVEL = 0.05
SHARE = 0.74  # the lower of the paper's two


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
        small_boxes(maps, summary.small),
        region_gain(summary),
    ]


def cascade_against_e2e(pair: Pair) -> bool:
    """Whether a pair is what the paper compares."""
    return pair.first.name.startswith("cl") and pair.second.name.startswith("e2e")


def above_diagonal(figure: str, kind: str, pair: Pair | None) -> Claim:
    """Most images have a higher IoU with CL, after the last block."""
    claim = f"74 % (natural images) and 86 % (chest X-rays) of the images have a higher IoU with CL ({kind})"
    rule = (
        f"reproduced: at least {SHARE:.0%} above the diagonal after the last block; direction: more than half, p < 0.05"
    )
    if pair is None:
        return Claim(figure, claim, rule, "no such maps", UNTESTED)
    last = pair.of("iou")[-1]
    sure = last.values.above > 0.5 and last.adjusted < LEVEL
    verdict = REPRODUCED if sure and last.values.above >= SHARE else DIRECTION if sure else NOT_SEEN
    found = (
        f"{last.values.above:.1%}{share_bounds(pair)} (ties apart: {last.values.ties:.1%}), "
        f"sign test p {shown(last.adjusted)}"
    )
    return Claim(figure, claim, rule, found, verdict)


def share_bounds(pair: Pair) -> str:
    """95 % bounds of the share above the diagonal after the last block, taking the share of ties as it is."""
    decided, interval = 1 - pair.of("iou")[-1].values.ties, pair.of("advantage")[-1].values.interval
    if not decided or np.isnan(interval[0]):
        return ""
    low, high = (min(1.0, max(0.0, (1 + bound / decided) / 2)) for bound in interval)
    return f" [{low:.1%}, {high:.1%}]"


def ahead_everywhere(figure: str, kind: str, pair: Pair | None) -> Claim:
    """CL localises better at every layer."""
    claim = f"CL localises better at every layer ({kind})"
    rule = (
        "reproduced: the interval of the IoU difference lies above 0 at every cut; direction: its mean over cuts does"
    )
    if pair is None:
        return Claim(figure, claim, rule, "no such maps", UNTESTED)
    rows = pair.of("iou")
    means = [row.values.mean for row in rows]
    sure = sum(row.values.interval[0] > 0 for row in rows)
    found = f"above 0 at {sure} of {len(rows)} cuts, difference " + " ".join(f"{mean:+.3f}" for mean in means)
    verdict = REPRODUCED if sure == len(rows) else DIRECTION if np.mean(means) > 0 else NOT_SEEN
    return Claim(figure, claim, rule, found, verdict)


def lime_gain(pair: Pair | None) -> Claim:
    """LIME's explanations cover more of the box with CL, most at layer 2."""
    claim = "LIME's explanations cover more of the box with CL at every layer, most so at layer 2"
    rule = "reproduced: intervals above 0 at every cut, largest at the second; direction: the mean over cuts is above 0"
    if pair is None:
        return Claim("5", claim, rule, "no LIME (--lime)", UNTESTED)
    rows = pair.of("coverage")
    means = [row.values.mean for row in rows]
    everywhere = all(row.values.interval[0] > 0 for row in rows)
    largest = int(np.argmax(means))
    verdict = REPRODUCED if everywhere and largest == 1 else DIRECTION if np.mean(means) > 0 else NOT_SEEN
    found = (
        "difference of coverage " + " ".join(f"{mean:+.3f}" for mean in means) + f", largest at b{rows[largest].cut}"
    )
    return Claim("5", claim, rule, found, verdict)


def coarse_to_fine(pair: Pair | None) -> Claim:
    """CL's features go from coarse to fine; those of E2E keep their granulometry."""
    claim = "CL's maps go from coarse to fine with depth, those of E2E stay as they are"
    rule = (
        "reproduced: CL's granulometry after the last block lies below that after the first, intervals apart, and "
        "changes at least twice as much as E2E's; direction: it falls, and more than E2E's"
    )
    if pair is None:
        return Claim("7", claim, rule, "no such maps", UNTESTED)
    falls = [fall(line) for line in (pair.first, pair.second)]
    low, high = pair.first.intervals["coarseness"]
    apart = high[-1] < low[0]
    if apart and abs(falls[0]) >= 2 * abs(falls[1]):
        verdict = REPRODUCED
    else:
        verdict = DIRECTION if falls[0] < min(0, falls[1]) else NOT_SEEN
    texts = [
        f"{line.name} {' '.join(f'{own:.0f}' for own in line.mean('coarseness'))}" for line in (pair.first, pair.second)
    ]
    return Claim("7", claim, rule, "; ".join(texts), verdict)


def fall(line: Line) -> float:
    """Change of the granulometry from the first cut to the last, as a share of the first."""
    means = line.mean("coarseness")
    return float(means[-1] / means[0] - 1)


def small_boxes(pair: Pair | None, small: np.ndarray) -> Claim:
    """CL's maps of small objects are tighter."""
    claim = "On small objects CL's maps are tighter"
    rule = (
        "reproduced: on the third with the smallest boxes CL's IoU is higher after the last block, sign test p < 0.05"
    )
    if pair is None:
        return Claim("8", claim, rule, "no such maps", UNTESTED)
    one, other = pair.ious(pair.cuts[-1])
    difference = (one - other)[small]
    higher, lower = int((difference > 0).sum()), int((difference < 0).sum())
    p = float(stats.binomtest(higher, max(1, higher + lower)).pvalue) if higher + lower else 1.0
    means = f"mean IoU {one[small].mean():.3f} against {other[small].mean():.3f}"
    found = f"{means}, {higher} higher, {lower} lower, p {shown(p)}"
    sure = higher > lower and p < LEVEL
    verdict = REPRODUCED if sure else DIRECTION if difference.mean() > 0 else NOT_SEEN
    return Claim("8", claim, rule, found, verdict)


def region_gain(summary: Summary) -> Claim:
    """Frozen features of CL give better boxes, most so at layer 4."""
    claim = "One convolution on CL's frozen features gives better regions, by most at layer 4"
    rule = (
        "reproduced: CL's mIoU is higher at every cut, and the difference largest at the fourth; direction: it is "
        "higher on average"
    )
    runs = summary.runs("miou")
    own = next((runs[line] for line in runs if line.startswith("cl")), {})
    other = next((runs[line] for line in runs if line.startswith("e2e")), {})
    cuts = [cut for cut in own if cut in other]
    if not cuts:
        return Claim("6", claim, rule, "no boxes from frozen features (--regions)", UNTESTED)
    gains = [float(np.mean(own[cut]) - np.mean(other[cut])) for cut in cuts]
    found = "difference of the mIoU " + " ".join(f"{gain:+.3f}" for gain in gains)
    everywhere = min(gains) > 0 and int(np.argmax(gains)) == min(3, len(gains) - 1)
    return Claim("6", claim, rule, found, REPRODUCED if everywhere else DIRECTION if np.mean(gains) > 0 else NOT_SEEN)
