"""Whether a classifier learnt anything: its figure beside chance and the majority class, with an interval."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from data.records import Record
from evaluation.classification import METRICS, Array, bootstrap, classification_metrics

DRAWS = 1000
SEED = 0
NOT_TESTED = "not tested"
LEAST_GROUPS = 5  # images or patients below which no interval says anything
TOO_FEW = f"fewer than {LEAST_GROUPS} images or patients cannot show"


def enough(groups: Array) -> bool:
    """Whether there are so many images, or patients, [N] that an interval over them says anything."""
    return len(np.unique(groups)) >= LEAST_GROUPS


def judged_by(single_label: bool) -> str:
    """The figure that decides: accuracy where there is one class an image, else macro AUC."""
    return "accuracy" if single_label else "auc"


def groups_of(records: Sequence[Record]) -> Array:
    """[N] number of the group of each image: those of one patient, or cut out of one picture, are drawn together."""
    return np.unique([record.group or str(record.image) for record in records], return_inverse=True)[1]


def figures(scores: Array, targets: Array, single_label: bool, groups: Array, border: float = 0.0) -> dict[str, float]:
    """The measures of evaluation.classification, and what they are to be compared with.

    `low` and `high` are the 95 % interval of the figure that decides, over resampled groups; `chance` is what guessing
    reaches, `majority` what naming the most frequent class for every image does: 0.5 both of the AUC, which a constant
    answer cannot raise. `border` is there where the grey outside the pictures says anything. `learnt` is 1 if `low` is
    above all of these, else 0. `few` is there, 1, where an interval over so few groups says nothing; `learnt` is 0
    then. Measures that nothing defines are 0; `undefined` is there, 1, where the one that decides is such.

    Args:
        scores: [N, C] logits.
        targets: [N, C] 0 or 1.
        groups: [N] whole numbers.
        border: the accuracy that this grey alone reaches (data.objects.border_level); 0 where there is none.
    """
    measured = classification_metrics(scores, targets, single_label)
    found = {"accuracy": 0.0, "auc": 0.0, "map": 0.0} | measured
    name = judged_by(single_label)
    low, high = bootstrap(scores, targets, single_label, DRAWS, SEED, (name,), groups).get(name, (0.0, 0.0))
    chance = 1 / targets.shape[1] if single_label else 0.5
    majority = float(targets.mean(0).max()) if single_label else 0.5
    few = not enough(groups)
    learnt = low > max(chance, majority, border) and not few
    undefined = name not in measured
    found |= {"low": low, "high": high, "chance": chance, "majority": majority, "learnt": float(learnt)}
    further = {"border": border, "few": float(few), "undefined": float(undefined)}
    return found | {key: value for key, value in further.items() if value}


def top_or_auc(own: Mapping[str, float], single_label: bool) -> str:
    """The figure that decides with its interval, where there is one: `top-1 0.910 [0.880, 0.930]`."""
    name = judged_by(single_label)
    if own.get("undefined"):
        return f"{METRICS[name].short} not defined, as no class is in some images and not in others"
    bounds = f" [{own['low']:.3f}, {own['high']:.3f}]" if "low" in own else ""
    return f"{METRICS[name].short} {own.get(name, 0):.3f}{bounds}"


def outcome(own: Mapping[str, float]) -> str:
    """`learnt`, `learnt nothing`, or that there are too few images to show either."""
    return "learnt" if own.get("learnt") else f"{TOO_FEW} it" if own.get("few") else "learnt nothing"


def verdict(own: Mapping[str, float], single_label: bool) -> str:
    """One line: the figure with its interval, chance and majority beside it, and whether anything was learnt."""
    name = judged_by(single_label)
    further = "".join(f", {value:.3f} at {key.partition('@')[2]} px" for key, value in own.items() if f"{name}@" in key)
    return f"{outcome(own)}: {top_or_auc(own, single_label)}{further}; {compared(own)}"


def compared(own: Mapping[str, float]) -> str:
    """What a figure has to be above: `chance 0.500, majority 0.560`, perhaps `grey border 0.720`."""
    border = f", grey border {own['border']:.3f}" if "border" in own else ""
    return f"chance {own['chance']:.3f}, majority {own['majority']:.3f}{border}"


def why_not(own: Mapping[str, float], single_label: bool) -> str | None:
    """`the classifiers learnt nothing (AUC 0.53)`, of top-1 with the majority class beside it; None where they did."""
    if own.get("learnt"):
        return None
    name = judged_by(single_label)
    what = "learnt nothing" if "learnt" in own else "were never compared with chance"
    beside = f", majority class {own['majority']:.2f}" if single_label and "majority" in own else ""
    beside += f", grey border {own['border']:.2f}" if "border" in own else ""
    value = "not defined" if own.get("undefined") else f"{own.get(name, 0):.2f}"
    figure = f"({METRICS[name].short} {value}{beside})"
    return (
        f"{TOO_FEW} whether the classifiers learnt {figure}" if own.get("few") else f"the classifiers {what} {figure}"
    )


class Judged(NamedTuple):
    """The figures of a classifier of a network, after a block."""

    line: str
    seed: int
    block: int
    figures: Mapping[str, float]


def doubtful(classifiers: Iterable[Judged], single_label: bool) -> list[str]:
    """A line for each network with classifiers that were no better than chance or the majority class.

    Of several it names the best one.
    """
    by_line: dict[str, list[Judged]] = {}
    for own in classifiers:
        by_line.setdefault(own.line, []).append(own)
    found, name = [], judged_by(single_label)
    for line, every in by_line.items():
        poor = [own for own in every if why_not(own.figures, single_label)]
        if poor:
            best = max(poor, key=lambda own: own.figures.get(name, 0))
            count = f"{len(poor)} of {len(every)} classifiers, the best of them " if len(poor) > 1 else ""
            found.append(f"{line}: {count}seed {best.seed}, b{best.block}: {why_not(best.figures, single_label)}")
    return found


def taken(stages: Sequence[dict[str, float]], upto: str | None) -> Sequence[dict[str, float]]:
    """The stages whose blocks up to one (`b11`, None for all) were taken over; all where no cut comes before it."""
    number = int(upto.removeprefix("b")) if upto else None
    return [own for own in stages if number is None or own["cut"] <= number] or stages


def lesson_in(content: Mapping[str, Any], upto: str | None) -> dict[str, Any]:
    """What a detector's file is to say of the backbone whose blocks up to one it takes over from a file.

    Args:
        content: of that file: a backbone's, or a detector's, which hands on its own.

    Returns:
        Figures of the last classifier on these blocks, with `method` and `judged_by`; empty where the file has none, or
        is older than what these figures are called.
    """
    stages = content.get("metrics")
    if stages and "single_label" in content and "cut" in stages[-1]:
        about = {"method": content["method"], "judged_by": judged_by(content["single_label"])}
        return about | taken(stages, upto)[-1]
    return dict(content.get("lesson", {}))


def of_backbone(lesson: Mapping[str, Any]) -> list[str]:
    """A line on the backbone under a detector or a segmenter; none where its file says nothing."""
    if not lesson:
        return []
    single_label = lesson["judged_by"] == judged_by(True)
    return [f"its backbone: {why_not(lesson, single_label) or verdict(lesson, single_label)}"]


def nothing_learnt(*lessons: Mapping[str, Any]) -> str | None:
    """Why networks from these backbones cannot be compared, or None: one learnt nothing, and they are not all one."""
    if all(own == lessons[0] for own in lessons):
        return None
    found = (why_not(own, own["judged_by"] == judged_by(True)) for own in lessons if own)
    return next((why for why in found if why), None)
