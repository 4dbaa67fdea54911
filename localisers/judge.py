"""What the boxes of every method are worth: CorLoc, localisation error, with intervals, against the best baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from localisation.statistics import Resamples
from localisation.study import UNTRAINED
from localisers.compare import NO_NETWORK, Comparison, Network, Trial
from localisers.map_values import IOUS
from localisers.methods import BASELINES
from localisers.tight_loose import five_guesses

CORLOC, CORRECT, GUESSES = 0.5, 0.5, 5
FEW = 20  # classes that are told one by one
AHEAD, ACCURACY, FALSE, BY_CLASS = "ahead", "accuracy", "false", "corloc"
Trials = dict[tuple[str, str], list[Trial]]


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
        values: `corloc`, the mean over classes (Deselaers et al., 2012), and where they are few `corloc/CLASS`;
            `gt_known`, share of boxes with an IoU of at
            least 0.5; `iou`; `ahead`, gt_known less that of the best baseline, the untrained network included, but of
            no baseline itself. Where classes exclude each other `top1_error` and `top5_error` (Zhou et al., table 2).
            Of methods that cut maps off `v2`, MaxBoxAccV2 at a threshold chosen on training images, `guesses_error`,
            the top-5 error of a loose and a tight box, and where classes are few `accuracy/CLASS/IOU` and
            `false/CLASS/IOU`, the share of true boxes found by three boxes a map and the false ones for each.
        bounds: v2_best and pixel_ap, means over the seeds.
        forward: milliseconds of a plain pass, 0 without a network.
    """

    method: str
    line: str
    seeds: int
    values: dict[str, Value]
    bounds: dict[str, float]
    no_box: float
    milliseconds: float
    forward: float
    megabytes: float


def judge(comparison: Comparison, draws: int) -> list[Row]:
    """A row for each method and line."""
    trials: Trials = {}
    for trial in comparison.trials:
        trials.setdefault((trial.method, trial.line), []).append(trial)
    columns = {key: measured(comparison, key, trials) for key in trials}
    values = valued(columns, Resamples(len(comparison.cases), groups_of(comparison), draws=draws))
    return [row(comparison, own, values[key]) for key, own in trials.items()]


def groups_of(comparison: Comparison) -> list[str]:
    """Whose image each case is: a patient's, or its own."""
    records = comparison.plan.split.records
    return [records[index].group or f"image {index}" for index in comparison.cases[:, 0]]


def valued(
    columns: dict[tuple[str, str], dict[str, np.ndarray]], resamples: Resamples
) -> dict[tuple[str, str], dict[str, Value]]:
    """Means with intervals of all columns [seeds, cases]; those of equally many seeds share their resamples."""
    found: dict[tuple[str, str], dict[str, Value]] = {key: {} for key in columns}
    for seeds in {len(column) for own in columns.values() for column in own.values()}:
        wanted = [
            (key, name, column) for key, own in columns.items() for name, column in own.items() if len(column) == seeds
        ]
        low, high = resamples.interval(np.stack([column for *_, column in wanted], 2))
        for place, (key, name, column) in enumerate(wanted):
            found[key][name] = Value(float(column.mean()), float(low[place]), float(high[place]))
    return found


def row(comparison: Comparison, own: list[Trial], values: dict[str, Value]) -> Row:
    """What a method reached on the networks of a line."""
    networks = [network for network in comparison.networks if network.line == own[0].line]
    maps = [trial.maps for trial in own if trial.maps]
    bounds = {name: float(np.mean([getattr(one, name) for one in maps])) for name in ("v2_best", "pixel_ap") if maps}
    return Row(
        own[0].method, own[0].line, len(own), values, bounds,
        float(np.mean([np.isnan(trial.boxes).any(1).mean() for trial in own])),
        float(np.mean([trial.milliseconds for trial in own])),
        float(np.mean([network.forward for network in networks])) if networks else 0.0,
        max(trial.bytes for trial in own) / 1e6,
    )  # fmt: skip


def measured(comparison: Comparison, key: tuple[str, str], trials: Trials) -> dict[str, np.ndarray]:
    """Measure → [seeds, cases], each the mean over the cases of something."""
    own, (method, line) = trials[key], key
    ious = np.array([trial.ious for trial in own])
    labels, names = comparison.cases[:, 1], comparison.plan.files[0].names
    found = {"corloc": (ious > CORLOC) * class_weights(labels), "gt_known": correct(own), "iou": ious}
    if len(present := np.unique(labels)) <= FEW:
        found |= {f"{BY_CLASS}/{names[one]}": (ious > CORLOC) * share_weights(labels == one) for one in present}
    networks = [network for network in comparison.networks if network.line == line]
    if networks and comparison.plan.files[0].single_label:
        found |= errors(own, networks)
    if all(trial.maps for trial in own):
        found |= {"v2": np.array([trial.maps.v2 for trial in own if trial.maps])} | findings(comparison, own)
    rivals = [*((name, NO_NETWORK) for name in BASELINES), (method, UNTRAINED)]
    hits = [correct(trials[rival]).mean(0) for rival in rivals if rival in trials]
    if hits and method not in BASELINES and line != UNTRAINED:
        found[AHEAD] = correct(own) - max(hits, key=np.mean)
    return found


def correct(trials: Sequence[Trial]) -> np.ndarray:
    """[seeds, cases] 1 where the IoU is at least a half."""
    return np.array([trial.ious >= CORRECT for trial in trials], float)


def errors(own: list[Trial], networks: list[Network]) -> dict[str, np.ndarray]:
    """Of one guess, of five, and of five that two boxes of each map make: 1 where class and box are not both right."""
    ranks = np.array([network.ranks for network in networks])
    found = {f"top{guesses}_error": 1 - correct(own) * (ranks < guesses) for guesses in (1, GUESSES)}
    maps = [trial.maps for trial in own if trial.maps]
    if maps:
        right = [five_guesses(one, values.loose, values.tight) for one, values in zip(ranks, maps, strict=True)]
        found["guesses_error"] = 1.0 - np.array(right)
    return found


def findings(comparison: Comparison, own: list[Trial]) -> dict[str, np.ndarray]:
    """Accuracy and false boxes of each class and IoU, for each true box of the class; nothing of many classes.

    Images without the class are not looked at, as in Cai et al., arXiv 1807.03215; all three boxes of a map count.
    """
    labels, names = comparison.cases[:, 1], comparison.plan.files[0].names
    maps, found = [trial.maps for trial in own if trial.maps], {}
    if len(np.unique(labels)) > FEW:
        return {}
    for label in np.unique(labels).tolist():
        weights = (labels == label) * len(labels) / comparison.true_boxes[labels == label].sum()
        for place, iou in enumerate(IOUS):
            found[f"{ACCURACY}/{names[label]}/{iou:g}"] = np.array([one.hits[:, place] for one in maps]) * weights
            found[f"{FALSE}/{names[label]}/{iou:g}"] = np.array([one.false[:, place] for one in maps]) * weights
    return found


def share_weights(among: np.ndarray) -> np.ndarray:
    """[cases] weights that turn a mean over cases into the mean over some of them."""
    return np.asarray(among * len(among) / among.sum())


def class_weights(labels: np.ndarray) -> np.ndarray:
    """[cases] weights that turn a mean over cases into the mean over classes of their own means."""
    classes, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / len(classes) / counts[place])
