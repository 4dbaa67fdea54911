"""What the boxes of every method are worth: CorLoc, localisation error, with intervals, against the best baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localisation.statistics import Resamples
from localisation.study import UNTRAINED
from localisers.compare import NO_NETWORK, Comparison, Network, Trial
from localisers.methods import BASELINES
from localisers.tight_loose import five_guesses

CORLOC, CORRECT, GUESSES = 0.5, 0.5, 5


@dataclass(frozen=True)
class Value:
    """A mean over seeds and cases with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Row:
    """A method on the networks of one line.

    Attributes:
        values: CorLoc as the mean over classes (Deselaers et al., 2012), gt_known: share of boxes with an IoU of at
            least 0.5, iou, and where classes exclude each other top1_error and top5_error (Zhou et al., table 2).
            Of methods that cut maps off also v2: MaxBoxAccV2 at a threshold chosen on training images, and with it
            guesses_error: the top-5 error of a loose and a tight box.
        bounds: v2_best and pixel_ap, means over the seeds.
        ahead: gt_known less that of the best baseline, itself and its network untrained included; None of a baseline.
        forward: milliseconds of a plain pass, 0 without a network.
    """

    method: str
    line: str
    seeds: int
    values: dict[str, Value]
    bounds: dict[str, float]
    ahead: Value | None
    no_box: float
    milliseconds: float
    forward: float
    megabytes: float


def judge(comparison: Comparison, draws: int) -> list[Row]:
    """A row for each method and line."""
    groups = groups_of(comparison)
    resamples = Resamples(len(groups), groups, draws=draws)
    trials: dict[tuple[str, str], list[Trial]] = {}
    for trial in comparison.trials:
        trials.setdefault((trial.method, trial.line), []).append(trial)
    return [row(comparison, own, trials, resamples) for own in trials.values()]


def groups_of(comparison: Comparison) -> list[str]:
    """Whose image each case is: a patient's, or its own."""
    records = comparison.plan.split.records
    return [records[index].group or f"image {index}" for index in comparison.cases[:, 0]]


def row(
    comparison: Comparison, own: list[Trial], trials: dict[tuple[str, str], list[Trial]], resamples: Resamples
) -> Row:
    """What a method reached on the networks of a line."""
    method, line = own[0].method, own[0].line
    networks = [network for network in comparison.networks if network.line == line]
    columns = measured(comparison, own, networks)
    values = {name: valued(resamples, column) for name, column in columns.items()}
    rivals = [trials[key] for name in BASELINES if (key := (name, NO_NETWORK)) in trials]
    rivals += [trials[key] for key in [(method, UNTRAINED)] if key in trials]
    hits = [correct(rival).mean(0) for rival in rivals]
    is_baseline = method in BASELINES or line == UNTRAINED
    ahead = None if is_baseline or not hits else correct(own) - max(hits, key=np.mean)
    return Row(
        method, line, len(own), values, bounds_of(own), None if ahead is None else valued(resamples, ahead),
        float(np.mean([np.isnan(trial.boxes).any(1).mean() for trial in own])),
        float(np.mean([trial.milliseconds for trial in own])),
        float(np.mean([network.forward for network in networks])) if networks else 0.0,
        max(trial.bytes for trial in own) / 1e6,
    )  # fmt: skip


def bounds_of(own: list[Trial]) -> dict[str, float]:
    """What stands beside the intervals; nothing of a method without maps."""
    maps = [trial.maps for trial in own if trial.maps]
    return {name: float(np.mean([getattr(one, name) for one in maps])) for name in ("v2_best", "pixel_ap") if maps}


def correct(trials: Sequence[Trial]) -> np.ndarray:
    """[seeds, cases] 1 where the IoU is at least a half."""
    return np.array([trial.ious >= CORRECT for trial in trials], float)


def measured(comparison: Comparison, own: list[Trial], networks: list[Network]) -> dict[str, np.ndarray]:
    """Measure → [seeds, cases], each the mean over the cases of something."""
    ious = np.array([trial.ious for trial in own])
    found = {"corloc": (ious > CORLOC) * class_weights(comparison.cases[:, 1]), "gt_known": correct(own), "iou": ious}
    maps = [trial.maps for trial in own if trial.maps]
    if maps:
        found["v2"] = np.array([one.v2 for one in maps])
    if networks and comparison.plan.files[0].single_label:
        ranks = np.array([network.ranks for network in networks])
        found |= {f"top{guesses}_error": 1 - correct(own) * (ranks < guesses) for guesses in (1, GUESSES)}
        if maps:
            right = [five_guesses(own, one.loose, one.tight) for own, one in zip(ranks, maps, strict=True)]
            found["guesses_error"] = 1.0 - np.array(right)
    return found


def class_weights(labels: np.ndarray) -> np.ndarray:
    """[cases] weights that turn a mean over cases into the mean over classes of their own means."""
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / len(classes) / counts[place])


def valued(resamples: Resamples, column: np.ndarray) -> Value:
    """Mean and interval of values [seeds, cases]."""
    low, high = resamples.interval(column[..., None])[:, 0]
    return Value(float(column.mean()), float(low), float(high))
