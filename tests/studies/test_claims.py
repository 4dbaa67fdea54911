"""What decides a claim on maps: seeds, and pictures within them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from data.records import make_record
from maps.levels import Level, region_levels
from maps.lines import Line
from maps.localise import Study
from maps.measures import Rule
from maps.regions import CONSTANT, Region
from maps.summary import Pair, Summary, against, apart
from studies.claims import (
    BLIND,
    DIRECTION,
    NOT_SEEN,
    REPRODUCED,
    UNDECIDED,
    UNTESTED,
    above_diagonal,
    alone,
    compared_seeds,
    every_claim,
    lime_gain,
    region_gain,
    small_boxes,
)

CUTS = (1, 2, 3, 4)
GAINS = np.array([0.01, 0.02, 0.03, 0.06])


@pytest.fixture
def study() -> Study:
    """Forty pictures of one case each, the boxes of growing size."""
    records = [make_record(Path(f"{n}"), (8, 8)) for n in range(40)]
    plan: Any = SimpleNamespace(split=SimpleNamespace(records=records), rule=Rule(), files=[])
    return Study(plan, [], np.stack([np.arange(40), np.zeros(40, int)], 1), np.linspace(0.01, 0.9, 40))


@pytest.fixture
def pair_of() -> Callable[[np.ndarray, np.ndarray], Pair]:
    """Two lines with some IoU [seeds, cases], and without intervals."""

    def make(first: np.ndarray, second: np.ndarray) -> Pair:
        one, other = (
            Line(name, "gradcam", tuple(range(len(values))), (1,), {"iou": values[..., None]})
            for name, values in (("cl6", first), ("e2e", second))
        )
        bounds = {name: np.array([[0.1], [0.2]]) for name in apart(one, other)}
        return Pair(one, other, against(one, other, bounds, np.arange(40)), {"iou": (0.15, 0.1, 0.2)})

    return make


def regions(line: str, seeds: Sequence[float], *, refits: int = 3) -> list[Region]:
    """Boxes on frozen features: what each seed adds to the IoU; refits hardly differ."""
    draw = np.random.default_rng(len(line))
    easy = np.random.default_rng(0).uniform(0.2, 0.6, 40)
    found = []
    for seed, more in enumerate(seeds):
        for run in range(refits):
            for cut, gain in zip(CUTS, GAINS * line.startswith("cl"), strict=True):
                ious = easy + more + gain + draw.normal(0, 0.001, 40)
                found.append(Region(line, seed, run, cut, float(ious.mean()), 0.0, ious, np.arange(40)))
    return found


@pytest.mark.parametrize(
    ("cl", "e2e", "verdict"),
    [
        ([0.02], [0.0], UNDECIDED),  # three refits of one backbone are one network
        ([0.02, 0.02, 0.03], [0.0, 0.0, 0.01], REPRODUCED),
        ([0.0, 0.1, 0.2], [0.1, 0.2, 0.0], UNDECIDED),
        ([-0.2, -0.21, -0.2], [0.0, 0.01, 0.0], NOT_SEEN),
        ([0.02, 0.02], [0.0], UNDECIDED),
    ],
)
def test_boxes_from_frozen_features_are_judged_by_seed(
    study: Study, cl: list[float], e2e: list[float], verdict: str
) -> None:
    summary = Summary(study, [], [], {}, [*regions("cl6", cl), *regions("e2e", e2e)])
    claim = region_gain(summary)
    assert claim.verdict == verdict
    assert "nan" not in claim.found
    mean = np.mean(cl) - np.mean(e2e) + GAINS.mean()
    assert f"mean {mean:+.3f}" in claim.found


def test_pictures_count_in_boxes_from_frozen_features(study: Study) -> None:
    """Seeds that agree, on pictures that do not."""
    found = [*regions("cl6", [0.0] * 3), *regions("e2e", [0.0] * 3)]
    assert region_gain(Summary(study, [], [], {}, found)).verdict == REPRODUCED
    away = np.where(np.arange(40) % 2, 0.5, -0.5)
    for region in found:
        region.ious[:] += away * region.line.startswith("cl")
    assert region_gain(Summary(study, [], [], {}, found)).verdict == UNDECIDED


def test_small_boxes_are_judged_by_seed(study: Study, pair_of: Callable[..., Pair]) -> None:
    """Every picture is better on average, but only in two seeds of three."""
    draw, summary = np.random.default_rng(0), Summary(study, [], [], {}, [])
    second = draw.uniform(0.2, 0.5, (3, 40))
    more = draw.normal(0.1, 0.005, (3, 40))
    sure, by_seed = pair_of(second + more, second), pair_of(second + more + [[0.2], [0.1], [-0.25]], second)
    assert small_boxes(sure, summary).verdict == REPRODUCED
    claim = small_boxes(by_seed, summary)
    assert claim.verdict == UNDECIDED
    assert float(claim.found.rpartition("sign test of these networks p ")[2]) < 0.05, "shown, but it does not decide"
    assert small_boxes(pair_of(second, second + more), summary).verdict == NOT_SEEN


def test_only_seeds_that_both_have_are_compared(study: Study, pair_of: Callable[..., Pair]) -> None:
    draw, summary = np.random.default_rng(0), Summary(study, [], [], {}, [])
    second = draw.uniform(0.2, 0.5, (3, 40))
    pair = pair_of(np.concatenate([second + 0.1, np.zeros((2, 40))]), second)
    assert small_boxes(pair, summary).verdict == REPRODUCED, "two seeds have no partner"
    assert not alone(pair)
    apart = replace(pair, second=replace(pair.second, seeds=(0, 7, 8)))
    assert alone(apart)
    found = [*regions("cl6", [0.02] * 3), *regions("e2e", [0.0] * 3)]
    assert region_gain(Summary(study, [], [], {}, found[::-1])).verdict == REPRODUCED
    for region in found:
        region.__dict__["seed"] += 3 * region.line.startswith("cl")
    assert region_gain(Summary(study, [], [], {}, found)).verdict == UNDECIDED


@pytest.mark.parametrize(("seeds", "verdict"), [(1, UNDECIDED), (2, REPRODUCED)])
def test_one_seed_decides_nothing(study: Study, pair_of: Callable[..., Pair], seeds: int, verdict: str) -> None:
    """Whatever the pictures say; an interval of one seed is over these alone."""
    second = np.random.default_rng(0).uniform(0.2, 0.5, (seeds, 40))
    pair = pair_of(second + 0.1, second)
    pair.first.intervals["coarseness"] = pair.second.intervals["coarseness"] = np.array([[1.0], [2.0]])
    for line in (pair.first, pair.second):
        line.values["coarseness"] = np.ones((seeds, 40, 1))
    assert above_diagonal("4a–b", "Grad-CAM", pair).verdict == REPRODUCED
    found = {own.figure: own.verdict for own in every_claim(Summary(study, [], [], {}, []), {"gradcam": pair})}
    assert found["4a–b"] == found["4c–d"] == verdict
    assert found["9a–b"] == found["6"] == "not tested"


def level(line: str, rival: str, lows: Sequence[float], measure: str = "iou", kind: str = "gradcam") -> Level:
    return Level(line, kind, measure, rival, tuple(range(1, len(lows) + 1)), np.stack([lows, np.add(lows, 0.1)]))


def test_maps_that_are_nowhere_above_what_costs_no_training_cannot_tell(
    study: Study, pair_of: Callable[..., Pair]
) -> None:
    """However far the one is above the other; one layer of one network that is above both is enough."""
    second = np.random.default_rng(0).uniform(0.2, 0.5, (3, 40))
    pairs = {"gradcam": pair_of(second + 0.1, second)}
    for own in (pairs["gradcam"].first, pairs["gradcam"].second):
        own.intervals["coarseness"], own.values["coarseness"] = np.array([[1.0], [2.0]]), np.ones((3, 40, 1))
    found = [*regions("cl6", [0.02] * 3), *regions("e2e", [0.0] * 3)]

    def verdicts(*levels: Level) -> dict[str, str]:
        of_boxes = [own for own in levels if own.kind == "regions"]
        summary = Summary(study, [], [], {}, found, [own for own in levels if own not in of_boxes], of_boxes)
        return {own.figure: own.verdict for own in every_claim(summary, pairs)}

    behind = [level("cl6", "untrained", [0.1, 0.1]), level("cl6", "mean box", [-0.1, 0.0]),
              level("e2e", "untrained", [0.1, np.nan]), level("e2e", "mean box", [-0.3, -0.1])]  # fmt: skip
    said = verdicts(*behind)
    assert said["4a–b"] == said["8"] == "cannot tell: Grad-CAM maps are nowhere above the mean box in IoU"
    assert (said["6"], said["7"]) == (REPRODUCED, UNDECIDED), "no truth that granulometry could miss"
    assert verdicts(*behind[:3], level("e2e", "mean box", [0.1, -0.1]))["4c–d"] == REPRODUCED
    never_both = [level("cl6", "untrained", [0.1, -0.1]), level("cl6", "mean box", [-0.1, 0.1])]
    assert verdicts(*never_both)["4c–d"].endswith("nowhere above the untrained network and the mean box in IoU")
    assert verdicts(*behind, level("cl6", "mean box", [0.1, 0.1], "coverage"))["4c–d"].startswith(BLIND)
    assert verdicts(level("e3", "mean box", [-0.1, -0.1]))["4c–d"] == REPRODUCED, "another network"
    assert verdicts(level("cl6", "mean box", [np.nan, np.nan]))["4c–d"] == REPRODUCED, "nothing is known"
    boxes = [
        level("cl6", CONSTANT, [-0.1] * 4, "miou", "regions"),
        level("e2e", CONSTANT, [-0.1] * 4, "miou", "regions"),
    ]
    assert verdicts(*boxes)["6"] == f"{BLIND}: boxes from frozen features are nowhere above the {CONSTANT} in IoU"


def test_without_resamples_nothing_is_decided(study: Study, pair_of: Callable[..., Pair]) -> None:
    second = np.random.default_rng(0).uniform(0.2, 0.5, (3, 40))
    found = [*regions("cl6", [0.0] * 3), *regions("e2e", [0.0] * 3)]
    for draws, verdict in ((0, UNDECIDED), (50, REPRODUCED)):
        summary = Summary(study, [], [], {}, found, draws=draws)
        assert region_gain(summary).verdict == small_boxes(pair_of(second + 0.1, second), summary).verdict == verdict


def test_lime_after_a_single_layer() -> None:
    """There is no second one at which the difference could be largest."""
    values = np.random.default_rng(0).uniform(0.2, 0.5, (2, 40, 1))
    one, other = (
        Line(name, "lime", (0, 1), (6,), {"iou": own, "coverage": own})
        for name, own in (("cl1", values + 0.1), ("e2e", values))
    )
    bounds = {name: np.array([[0.1], [0.2]]) for name in apart(one, other)}
    pair = Pair(one, other, against(one, other, bounds, np.arange(40)), {"coverage": (0.15, 0.1, 0.2)})
    assert lime_gain(pair).verdict == DIRECTION


def test_seeds_of_a_report_are_those_that_are_compared() -> None:
    lines = [{"line": name, "seeds": list(range(seeds))} for name, seeds in (("cl6", 5), ("e2e", 3), ("untrained", 9))]
    pairs = [{"first": "cl6", "second": "cl3", "seeds": [[0], [0]]},
             {"first": "cl6", "second": "e2e", "seeds": [[1, 2], [1, 2]]}]  # fmt: skip
    assert compared_seeds({"lines": lines, "pairs": pairs}) == 2
    assert compared_seeds({"lines": lines, "pairs": [{"first": "cl6", "second": "e2e"}]}) == 3, "of before"
    assert compared_seeds({"lines": lines[:1]}) == 5
    assert compared_seeds({"lines": lines[2:]}) == 0


def test_cuts_that_are_not_judged_are_in_no_mean_of_frozen_features(study: Study) -> None:
    """The deepest layer, too coarse to be judged, says the opposite; at the first one a classifier learnt nothing."""
    found = [*regions("cl6", [0.0] * 3), *regions("e2e", [0.0] * 3)]
    for region in found:
        region.ious[:] -= 0.5 * (region.cut in (1, 4) and region.line == "cl6")
    assert region_gain(Summary(study, [], [], {}, found)).verdict == NOT_SEEN
    kept = [replace(own, judged=own.cut not in (1, 4)) for own in found]
    claim = region_gain(Summary(study, [], [], {}, kept))
    assert claim.verdict == DIRECTION, "the fourth layer cannot have the largest difference"
    assert f"mean {GAINS[1:3].mean():+.3f}" in claim.found
    none = [replace(own, judged=False) for own in found]
    assert region_gain(Summary(study, [], [], {}, none)).verdict == UNTESTED
    levels = {own.line: own for own in region_levels(study, [*kept, *regions("untrained", [0.0])], 50)}
    assert levels["cl6"].cuts == (2, 3)
    assert levels["cl6"].bounds.shape == (2, 2)
