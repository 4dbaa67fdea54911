"""The ranked list of boxes, walked until the false ones pass a published bound (Cai et al., arXiv 1807.03215, §3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.chestxray import csv_rows
from data.parsing import numbers
from utils.errors import UserError
from wsol.acc_afp import acc_afp, ranked
from wsol.compare import Comparison, Network, Trial

COLUMNS = ("method", "class", "iou", "accuracy", "afp")
REFERENCE = "reference"
DENOMINATORS = {
    "class": "False positives are over the true boxes of the class, in images that have it (Cai et al.). Those that "
    "Wang et al. publish, as in configs/chestxray8.csv, are over the boxes of all classes, 984, and bound the lists as "
    "they are.",
    "all": "False positives are over the boxes of all classes, in all images that have any, as Wang et al. publish "
    "them (configs/chestxray8.csv).",
}  # what false boxes are counted over → how a report says it


@dataclass(frozen=True)
class Published:
    """Accuracy and average false positives of a class at an IoU, as somebody published them."""

    method: str
    label: str
    iou: float
    accuracy: float
    afp: float


@dataclass(frozen=True)
class Ranked:
    """What a method reaches before its false positives pass the published ones; of the reference, what it says."""

    method: str
    line: str
    label: str
    iou: float
    accuracy: float
    afp: float


def read_published(path: Path | None, names: Sequence[str]) -> list[Published]:
    """A csv with the columns method, class, iou, accuracy, afp; nothing without one.

    Raises:
        UserError: unreadable, no such columns, a cell that is no number, or no class of these.
    """
    if path is None:
        return []
    rows = csv_rows(path)
    header, where = next(rows, ([], str(path)))
    hint = f"give a csv with the columns {', '.join(COLUMNS)}"
    if missing := [name for name in COLUMNS if name not in header]:
        raise UserError(f"no column {', '.join(missing)}", where=where, hint=hint)
    found = []
    for row, place in rows:
        cells = dict(zip(header, row, strict=False))
        values = numbers((cells.get(name) for name in COLUMNS[2:]), 3)
        if values is None:
            raise UserError(f"{row} instead of two names and three numbers", where=place, hint=hint)
        found.append(Published(cells["method"], cells["class"], *values))
    if not any(own.label in names for own in found):
        lines = ", ".join(sorted({own.label for own in found})) or "nothing"
        raise UserError(f"has {lines}, none of the classes", where=path, hint=f"name them {', '.join(names)}")
    return found


def ranked_lists(comparison: Comparison, published: Sequence[Published], over: str = "class") -> list[Ranked]:
    """The reference and each method that cuts maps off, for the classes and IoUs that both have.

    Images are ordered by the class's probability, surest first. Means over seeds.

    Args:
        over: of DENOMINATORS; `all` takes a comparison that was made everywhere.
    """
    walked_by = {"class": walk, "all": walk_everywhere}[over]
    names, labels = list(comparison.plan.names), comparison.cases[:, 1]
    here = [own for own in published if own.label in names and names.index(own.label) in labels]
    found = [Ranked(own.method, REFERENCE, own.label, own.iou, own.accuracy, own.afp) for own in here]
    trials: dict[tuple[str, str], list[Trial]] = {}
    for trial in comparison.trials:
        if trial.maps:
            trials.setdefault((trial.method, trial.line), []).append(trial)
    for (method, line), own in trials.items():
        for bound in here:
            walked = [walked_by(comparison, trial, names.index(bound.label), bound) for trial in own]
            accuracy, afp = np.mean(walked, 0).tolist()
            found.append(Ranked(method, line, bound.label, bound.iou, accuracy, afp))
    return found


def walk(comparison: Comparison, trial: Trial, label: int, bound: Published) -> tuple[float, float]:
    """Accuracy of one class of a trial, and false positives over its boxes, in images that have it."""
    if trial.maps is None:
        raise ValueError("no maps")
    own = np.flatnonzero(comparison.cases[:, 1] == label).tolist()
    there, network = set(own), network_of(comparison, trial)
    scores = network.scores if network else None
    order = own if scores is None else sorted(own, key=lambda case: -scores[case])
    truth = [boxes if case in there else boxes[:0] for case, boxes in enumerate(trial.maps.truth)]
    guesses = [guess for guess in trial.maps.guesses if guess.image in there]
    found = acc_afp(ranked(guesses, order), truth, bound.iou, bound=bound.afp)
    return found.accuracy, found.afp


def walk_everywhere(comparison: Comparison, trial: Trial, label: int, bound: Published) -> tuple[float, float]:
    """The same with false positives over the boxes of all classes, in all images that have any."""
    if trial.maps is None:
        raise ValueError("no maps")
    images = comparison.cases[:, 0].tolist()
    there = set(np.flatnonzero(comparison.cases[:, 1] == label).tolist())
    truth = [np.zeros((0, 4))] * (max(images) + 1)
    for case in there:
        truth[images[case]] = trial.maps.truth[case]
    guesses = [replace(own, image=images[own.image]) for own in trial.maps.guesses if own.image in there]
    network, order = network_of(comparison, trial), sorted(set(images))
    if network and network.chances is not None:
        order.sort(key=network.chances[:, label].__getitem__, reverse=True)
    walked = ranked([*guesses, *trial.maps.elsewhere[label]], order)
    found = acc_afp(walked, truth, bound.iou, bound=bound.afp, annotated=int(comparison.true_boxes.sum()))
    return found.accuracy, found.afp


def network_of(comparison: Comparison, trial: Trial) -> Network | None:
    """The network of a trial; None where it needs none."""
    own = (one for one in comparison.networks if (one.line, one.seed) == (trial.line, trial.seed))
    return next(own, None)


def ranked_table(found: Sequence[Ranked]) -> list[list[str]]:
    """Table 2 of the paper: a row for each IoU and method, a column a class, `accuracy-false positives`.

    Raises:
        UserError: two of them are on one IoU, method, network and class, and differ.
    """
    labels, values = list(dict.fromkeys(own.label for own in found)), dict[tuple[float, str, str, str], str]()
    for own in found:
        key, value = (own.iou, own.method, own.line, own.label), f"{own.accuracy:.2f}-{own.afp:.2f}"
        if values.setdefault(key, value) != value:
            what = f"{own.method} of {own.line} at {own.iou:g} is {values[key]} and {value} for {own.label}"
            raise UserError(what, where="table 2", hint="give files of different sizes, or one of them")
    table = [["T(IoU)", "method", "features", *labels]]
    for iou in sorted({own.iou for own in found}):
        for method, line in dict.fromkeys((own.method, own.line) for own in found):
            cells = [values.get((iou, method, line, label), "–") for label in labels]
            table.append([f"{iou:g}", method, line, *cells])
    return table
