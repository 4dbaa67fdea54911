"""What the boxes of every method are worth: CorLoc, localisation error, with intervals, against the best baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from evaluation.learnt import groups_of
from maps.levels import widened
from maps.networks import is_untrained
from maps.statistics import Resamples
from wsol.by_class import CORLOC, ClassValue, class_values, known_class_map
from wsol.compare import NO_NETWORK, Comparison, Network, Trial
from wsol.map_values import IOUS
from wsol.methods import BASELINES, METHODS
from wsol.tight_loose import five_guesses

CORRECT, GUESSES = 0.5, 5
FEW = 20  # classes that have intervals one by one
CAM, CENTRE, MINING = "cam", "centre-box", "mining"
AHEAD, OVER_CENTRE, OVER_UNTRAINED = "ahead", "over_centre", "over_untrained"
OVER_CAM, OVER_CONTROL = "over_cam", "over_control"
ACCURACY, FALSE, BY_CLASS, SUBSET = "accuracy", "false", "corloc", "subset"
Trials = dict[tuple[str, str], list[Trial]]


@dataclass(frozen=True)
class Value:
    """A mean over seeds and cases with its 95 % interval."""

    mean: float
    low: float
    high: float


class Column(NamedTuple):
    """Something of every case: values [seeds, cases], and weights [cases] of what it is the mean of.

    Attributes:
        difference: whether they are differences.
        sides: [seeds, cases] of both sides of a difference whose seeds are no pairs; none of anything else.
    """

    values: np.ndarray
    weights: np.ndarray
    difference: bool = False
    sides: tuple[np.ndarray, ...] = ()

    @classmethod
    def apart(cls, own: np.ndarray, other: np.ndarray) -> "Column":
        """A mean difference, case by case, of two sides [seeds, cases] that each have their own seeds."""
        return cls((own.mean(0) - other.mean(0))[None], np.ones(own.shape[1]), True, (own, other))

    @property
    def mean(self) -> float:
        return float((self.values * self.weights).sum(1).mean() / self.weights.sum())


@dataclass(frozen=True)
class Row:
    """A method on the networks of one line.

    Attributes:
        values: `corloc`, the mean over classes (Deselaers et al., 2012), and where they are few `corloc/CLASS`;
            `subset/NAME`, the same of a subset that the data yaml names;
            `gt_known`, fraction of boxes with an IoU of at least 0.5; `iou`; `ahead`, gt_known minus that of the best
            baseline, the untrained network included, but of no baseline itself; `over_centre`, gt_known minus that of
            the centre box; `over_untrained`, of a trained network, minus that of the same method on untrained ones, or
            of mining minus CAM on these; `over_cam`, minus that of CAM on the same networks; `over_control`, of
            mining, minus that of the same steps with nothing erased. Where classes exclude each other, `class1_error`
            and `class5_error` of the classes alone (Zhou et al., table 1), `top1_error` and `top5_error` of class and
            box (table 2); those of five guesses where there are more than five classes. Of methods that cut maps off
            `v2`, MaxBoxAccV2 at a threshold chosen on other images, `guesses_error`, the top-5 error of a loose
            and a tight box, and where classes are few `accuracy/CLASS/IOU` and `false/CLASS/IOU`, the share of true
            boxes found by three boxes a map and the false ones for each.
        bounds: v2_best and pixel_ap, means over the seeds, and map50 (wsol.by_class); auc of a classifier that
            has learnt on.
        classes: class → its values, for any number of classes.
        by_seed: seed → `gt_known` and `iou` of its network, means over the cases.
        forward: milliseconds of a plain pass, 0 without a network.
        coarse: its maps have too few cells inside the pictures: it is shown, and compared with nothing.
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
    classes: dict[str, ClassValue] = field(default_factory=dict)
    by_seed: dict[str, dict[str, float]] = field(default_factory=dict)
    coarse: bool = False

    @property
    def lowest(self) -> tuple[str, float] | None:
        """The class whose boxes are right least often, and its CorLoc."""
        named = ((name, own.corloc) for name, own in self.classes.items())
        return min(named, key=lambda pair: pair[1], default=None)


def judge(comparison: Comparison, draws: int) -> list[Row]:
    """A row for each method and line."""
    trials: Trials = {}
    for trial in comparison.trials:
        trials.setdefault((trial.method, trial.line), []).append(trial)
    columns = {key: measured(comparison, key, trials) for key in trials}
    groups = groups_of(comparison.plan.split.records)[comparison.cases[:, 0]]
    values = valued(columns, Resamples(len(comparison.cases), groups.tolist(), draws=draws))
    return [row(comparison, own, values[key]) for key, own in trials.items()]


def valued(
    columns: dict[tuple[str, str], dict[str, Column]], resamples: Resamples
) -> dict[tuple[str, str], dict[str, Value]]:
    """Means with intervals of all columns; those of equally many seeds share their resamples."""
    found: dict[tuple[str, str], dict[str, Value]] = {key: {} for key in columns}
    every = [(key, name, column) for key, own in columns.items() for name, column in own.items()]
    for seeds in {len(column.values) for *_, column in every}:
        wanted = [(key, name, column) for key, name, column in every if len(column.values) == seeds]
        values = np.stack([column.values for *_, column in wanted], 2)
        weights = np.stack([column.weights for *_, column in wanted], 1)
        differences = np.array([column.difference for *_, column in wanted])
        bounds = resamples.interval(values, weights=weights, differences=differences)
        for (key, name, column), own in zip(wanted, bounds.T, strict=True):
            if column.sides:
                own = widened(column.values.T, own[:, None], [side[..., None] for side in column.sides])[:, 0]
            found[key][name] = Value(column.mean, *map(float, own))
    return found


def row(comparison: Comparison, own: list[Trial], values: dict[str, Value]) -> Row:
    """What a method reached on the networks of a line."""
    networks = [network for network in comparison.networks if network.line == own[0].line]
    maps = [trial.maps for trial in own if trial.maps]
    bounds = {name: float(np.mean([getattr(one, name) for one in maps])) for name in ("v2_best", "pixel_ap") if maps}
    precision = known_class_map(comparison, own)
    bounds |= {} if precision is None else {"map50": precision}
    areas = [trial.auc for trial in own if trial.auc is not None]
    bounds |= {"auc": float(np.mean(areas))} if areas else {}
    return Row(
        own[0].method, own[0].line, len(own), values, bounds,
        float(np.mean([np.isnan(trial.boxes).any(1).mean() for trial in own])),
        float(np.mean([trial.milliseconds for trial in own])),
        float(np.mean([network.forward for network in networks])) if networks else 0.0,
        max(trial.bytes for trial in own) / 1e6,
        class_values(comparison, own),
        {str(one.seed): {"gt_known": float(correct([one]).mean()), "iou": float(one.ious.mean())} for one in own},
        own[0].coarse,
    )  # fmt: skip


def measured(comparison: Comparison, key: tuple[str, str], trials: Trials) -> dict[str, Column]:
    """Measure → what it is the mean of."""
    own, (_, line) = trials[key], key
    ious = np.array([trial.ious for trial in own])
    labels, names = comparison.cases[:, 1], comparison.plan.names
    everything = np.ones(len(labels))
    found = {"corloc": Column(ious > CORLOC, class_weights(labels))}
    for name, classes in comparison.plan.split.description.subsets.items():
        part = np.isin(labels, [place for place, one in enumerate(names) if one in classes])
        if part.any():
            found[f"{SUBSET}/{name}"] = Column(ious > CORLOC, class_weights(labels) * part)
    if len(present := np.unique(labels)) <= FEW:
        found |= {f"{BY_CLASS}/{names[one]}": Column(ious > CORLOC, 1.0 * (labels == one)) for one in present}
    plain = {"gt_known": correct(own), "iou": ious}
    networks = [network for network in comparison.networks if network.line == line]
    if networks and has_guesses(comparison):
        plain |= errors(own, networks, GUESSES if len(names) > GUESSES else 1)
    if all(trial.maps for trial in own):
        if chosen := [trial.maps.v2 for trial in own if trial.maps and trial.maps.v2 is not None]:
            plain["v2"] = np.array(chosen)
        found |= findings(comparison, own)
    found |= {name: Column(values, everything) for name, values in plain.items()}
    return found | differences(key, networks[0].untrained if networks else None, trials)


def has_guesses(comparison: Comparison) -> bool:
    """Whether a guess is right or wrong: each image is of one class, its own, which excludes the others."""
    plan, images = comparison.plan, comparison.cases[:, 0]
    own = plan.explain is None and not plan.foreign and len(np.unique(images)) == len(images)
    return own and plan.files[0].single_label


def begins_as(method: str) -> str:
    """What a method is on networks that learnt nothing: mining, which would teach them, is CAM there, cut off alike."""
    own = METHODS.choose(method)
    if own.entry.name != MINING:
        return method
    return CAM if own.options["share"] is None else f"{CAM}@{own.options['share']:g}"


def is_control(name: str, method: str) -> bool:
    """Whether a method is another one with nothing erased."""
    own, other = METHODS.choose(method), METHODS.choose(name)
    return own.entry.name == MINING and name != method and other.options == own.options | {"erase": "off"}


def differences(key: tuple[str, str], untrained: str | None, trials: Trials) -> dict[str, Column]:
    """The fraction of right boxes minus that of others on the same cases, where there are these.

    Args:
        untrained: the line of the networks that are like those of this one and learnt nothing.
    """
    (method, line), own, found = key, correct(trials[key]), dict[str, Column]()
    if trials[key][0].coarse:
        return found
    trials = {name: those for name, those in trials.items() if not those[0].coarse}
    centre = trials.get((CENTRE, NO_NETWORK)) if method != CENTRE else None
    first = begins_as(method)
    like = trials.get((first, untrained)) if untrained and untrained != line else None
    cam = trials.get((CAM if first == method else first, line)) if method != CAM else None
    control = next((other for (name, its), other in trials.items() if its == line and is_control(name, method)), None)
    rivals = [*(trials.get((name, NO_NETWORK)) for name in BASELINES), like]
    if method not in BASELINES and not is_untrained(line) and any(rivals):
        found[AHEAD] = Column.apart(own, max((correct(one) for one in rivals if one), key=np.mean))
    if centre:
        found[OVER_CENTRE] = Column.apart(own, correct(centre))
    if like:
        found[OVER_UNTRAINED] = Column.apart(own, correct(like))
    for name, other in ((OVER_CAM, cam), (OVER_CONTROL, control)):
        if other:
            found[name] = Column(own - correct(other), np.ones(own.shape[1]), True)
    return found


def correct(trials: Sequence[Trial]) -> np.ndarray:
    """[seeds, cases] 1 where the IoU is at least a half."""
    return np.array([trial.ious >= CORRECT for trial in trials], float)


def errors(own: list[Trial], networks: list[Network], most: int) -> dict[str, np.ndarray]:
    """Of one guess, of five, and of five that two boxes of each map make: 1 where class and box are not both right.

    Args:
        most: guesses, 1 where five would name every class.
    """
    ranks, counts = np.array([network.ranks for network in networks]), sorted({1, most})
    found = {f"class{guesses}_error": 1.0 - (ranks < guesses) for guesses in counts}
    found |= {f"top{guesses}_error": 1 - correct(own) * (ranks < guesses) for guesses in counts}
    maps = [trial.maps for trial in own if trial.maps]
    if maps and most == GUESSES:
        right = [five_guesses(one, values.loose, values.tight) for one, values in zip(ranks, maps, strict=True)]
        found["guesses_error"] = 1.0 - np.array(right)
    return found


def findings(comparison: Comparison, own: list[Trial]) -> dict[str, Column]:
    """Accuracy and false boxes of each class and IoU, for each true box of the class; nothing of many classes.

    Images without the class are not looked at, as in Cai et al., arXiv 1807.03215; all three boxes of a map count.
    """
    labels, names = comparison.cases[:, 1], comparison.plan.names
    maps, found = [trial.maps for trial in own if trial.maps], {}
    if len(np.unique(labels)) > FEW:
        return {}
    for label in np.unique(labels).tolist():
        true = comparison.true_boxes
        for place, iou in enumerate(IOUS):
            for kind, counts in ((ACCURACY, [one.hits for one in maps]), (FALSE, [one.false for one in maps])):
                share = np.array(counts)[:, :, place] / true
                found[f"{kind}/{names[label]}/{iou:g}"] = Column(share, true * (labels == label))
    return found


def taken_apart(key: str) -> tuple[str, str, str]:
    """Kind, class and IoU of a key that `findings` makes; the name of the class may have slashes."""
    kind, _, rest = key.partition("/")
    label, _, iou = rest.rpartition("/")
    return kind, label, iou


def class_weights(labels: np.ndarray) -> np.ndarray:
    """[cases] weights that turn a mean over cases into the mean over classes of their own means."""
    _, place, counts = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(1 / counts[place])
