"""Kinds of features of several networks, each with linear SVMs: accuracy, and the maps of its weights.

`python -m wsol.feature_svms --weights FILE… --features gap average fc7 --data YAML` gives table 5 and figure 8 of
Zhou et al., arXiv 1512.04150, on any data: with one class an image accuracy, with several mean average precision. The
penalty is chosen by cross-validation on the training images.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from evaluation.accuracy import BackboneFile, line_names
from evaluation.learnt import groups_of
from maps.kinds import Explained
from maps.networks import load_explained
from maps.overlay import overlaid, picture
from maps.plan import Plan
from utils.console import console
from utils.draw import picture_file, save_page
from utils.errors import UserError, run_cli
from utils.files import json_text, write_text
from utils.flags import positive
from utils.parser import Parser
from utils.plots import canvas, write_figure
from wsol.deep_features import add_penalty
from wsol.features import (
    FEATURES,
    Feature,
    add_imgsz,
    add_outputs,
    add_training,
    around,
    described,
    evidence_of,
    parsed,
    planned,
    tagged,
    unlearned,
)
from wsol.svm import FOLDS, LinearClasses, Validated, check_folds, counted_instead, fit_tags, quality, validated

CLASSES, EACH = 4, 3  # on the page of maps


@dataclass(frozen=True)
class Row:
    """One kind of features of one file.

    Attributes:
        quality: on held-out images, accuracy or mean average precision.
        validation: penalty → the same on held-out folds of the training images; empty where it was given.
        unsettled: fits that had not converged.
        seconds: for the features, and for the SVMs.
        cpu_seconds: for both, of all cores together.
    """

    line: str
    feature: str
    size: int
    quality: float
    penalty: float
    validation: dict[float, float]
    unsettled: int
    seconds: tuple[float, float]
    cpu_seconds: float


@dataclass(frozen=True)
class Settings:
    """How SVMs are learned.

    Attributes:
        penalty: None to choose it by cross-validation.
    """

    penalty: float | None
    folds: int = FOLDS
    workers: int | None = None


def pairs_of(
    files: Sequence[BackboneFile], plan: Plan, names: Sequence[str]
) -> Iterator[tuple[str, Explained, Feature]]:
    """Every file with every kind of features that it has.

    Raises:
        UserError: no file has one of the kinds; says why the first one has not.
    """
    kinds = [FEATURES.pick(name) for name in names]
    networks = [load_explained(file, plan) for file in files]
    for kind in kinds:
        whys = [kind.obstacle(network.heads[-1]) for network in networks]
        if whys and all(whys):
            raise UserError(f"`{kind.name}` {whys[0]}", where=FEATURES.flag, hint="leave it out, or give such a file")
    for line, network in zip(line_names(files), networks, strict=True):
        for kind in kinds:
            if kind.obstacle(network.heads[-1]) is None:
                yield line, network, kind


def learned(
    plan: Plan, line: str, network: Explained, kind: Feature, settings: Settings
) -> tuple[Row, LinearClasses, np.ndarray]:
    """SVMs on one kind of features, what they are worth, and their scores [N, classes] of the held-out images."""
    count, exclusive = len(plan.split.description.names), plan.split.description.single_label
    known, asked = (tagged(records, count) for records in (plan.training, plan.split.records))
    began, cpu, title = time.monotonic(), time.process_time(), f"{line}, {kind.name}"
    features = described(network, plan, plan.training, f"{title}: training", kind)
    held_out = described(network, plan, plan.split.records, f"{title}: held out", kind)
    taken = time.monotonic()
    found = Validated({}, 0)
    if settings.penalty is None:
        groups, folds, workers = groups_of(plan.training), settings.folds, settings.workers
        found = validated(features, known, exclusive=exclusive, groups=groups, folds=folds, workers=workers)
    penalty = found.penalty if settings.penalty is None else settings.penalty
    with counted_instead():
        classes, unsettled = fit_tags(features, known, penalty)
    scores = np.full(asked.shape, -np.inf)
    scores[:, classes.classes] = classes.scores(held_out)
    seconds = round(taken - began, 2), round(time.monotonic() - taken, 2)
    row = Row(
        line, kind.name, features.shape[1], quality(scores, asked, exclusive), penalty, found.scores,
        found.unsettled + unsettled, seconds,
        round(time.process_time() - cpu, 2),
    )  # fmt: skip
    console.print(f"{title}: {row.quality:.3f}, C {penalty:g}, {sum(seconds):.0f} s")
    return row, classes, scores


def drawn(
    plan: Plan, network: Explained, kind: Feature, classes: LinearClasses, scores: np.ndarray
) -> tuple[list[np.ndarray], list[str]]:
    """Held-out images that the first classes are surest of, each above what its SVM sees there, and titles."""
    names, shown = plan.split.description.names, []
    for place, label in list(enumerate(classes.classes.tolist()))[:CLASSES]:
        for index in np.argsort(-scores[:, label], kind="stable")[:EACH].tolist():
            case = next(plan.images([around(plan.split.records[index])], "pictures"))
            own = picture(case.images[0])
            seen = evidence_of(network, classes.weights[place][None], case.images.to(plan.device), kind)
            shown.append((own, overlaid(own, seen[0]), names[label]))
    pictures, maps, titles = (list(column) for column in zip(*shown, strict=True))
    return pictures + maps, titles


def save_curves(rows: Sequence[Row], path: Path, measure: str) -> None:
    """What cross-validation found at each penalty, a line for each kind of features; the chosen ones are marked."""
    figure, [[axis]] = canvas(size=(5.5, 3.6))
    for number, row in enumerate(rows):
        penalties = sorted(row.validation)
        label = f"{row.feature} of {row.line}, {row.size} numbers"
        axis.plot(penalties, [row.validation[own] for own in penalties], f"C{number}.-", label=label)
        axis.plot([row.penalty], [row.validation[row.penalty]], f"C{number}o", markersize=9, fillstyle="none")
    axis.set(xscale="log", xlabel="C of the linear SVM", ylabel=f"{measure}, cross-validated")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    write_figure(figure, path)


def measure_of(plan: Plan) -> str:
    """What the quality of SVMs is."""
    return "accuracy" if plan.split.description.single_label else "mean average precision"


def flags() -> argparse.Namespace:
    """What is asked for.

    Raises:
        UserError: fewer than two folds, or pictures cannot be written where they shall be, or there is nothing to draw.
    """
    parser = Parser(description="Linear SVMs on kinds of features, with their maps.")
    parser.add_argument("--weights", nargs="+", type=Path, required=True, help="backbone files")
    parser.add_argument("--data", type=Path, required=True, help="data yaml, of one class an image or of several")
    parser.add_argument(FEATURES.flag, nargs="+", default=["average"], metavar="KIND", help=f"{', '.join(FEATURES)}")
    parser.add_argument("--images", type=positive, help="only so many held-out images, drawn at random [all]")
    add_training(parser)
    add_penalty(parser)
    parser.add_argument("--folds", type=positive, default=FOLDS, help=f"of the cross-validation [{FOLDS}]")
    parser.add_argument("--workers", type=positive, help="threads of the cross-validation [one a core]")
    add_imgsz(parser)
    parser.add_argument("--plot", type=Path, help="draw what cross-validation found to this PNG")
    add_outputs(parser, "maps of the first features that have some")
    arguments = parsed(parser)
    check_folds(arguments.folds)
    if arguments.plot:
        arguments.plot = picture_file(arguments.plot, (".png",))
    refuse_nothing_to_draw(arguments)
    return arguments


def refuse_nothing_to_draw(arguments: argparse.Namespace) -> None:
    """Refuse pictures of what will not be there.

    Raises:
        UserError: a plot without cross-validation, or maps of features that have none.
    """
    if arguments.plot and arguments.penalty is not None:
        what = "draws the cross-validation, and --penalty leaves it out"
        raise UserError(what, where="--plot", hint="leave out one of the two")
    if arguments.pictures and not any(FEATURES.pick(name).maps for name in arguments.features):
        hint = f"add {' or '.join(own.name for own in FEATURES.values() if own.maps)}"
        raise UserError(f"{' and '.join(arguments.features)} has no maps", where="--pictures", hint=hint)


def learnable(plan: Plan, data: Path) -> list[str]:
    """The classes of which nothing can be learned; says so.

    Raises:
        UserError: no held-out image has any other class.
    """
    names = plan.split.description.names
    known, asked = (tagged(records, len(names)) for records in (plan.training, plan.split.records))
    lost = unlearned(known, names)
    if lost:
        left = "their images count as wrong" if plan.split.description.single_label else "they do not count"
        print(f"not learned, because no training image has it, or every one: {', '.join(lost)}; {left}")
    if not asked[:, [name not in lost for name in names]].any():
        what = f"no image of `{plan.split.name}` has a class{' that can be learned' if asked.any() else ''}"
        raise UserError(what, where=data, hint="give held-out images with classes")
    return lost


def main() -> None:
    """Learn, judge, draw, print."""
    arguments = flags()
    plan = planned(
        arguments.weights, arguments.data, arguments.images, training=arguments.training, imgsz=arguments.imgsz
    )
    lost = learnable(plan, arguments.data)
    settings = Settings(arguments.penalty, arguments.folds, arguments.workers)
    rows, pictured = [], False
    for line, network, kind in pairs_of(plan.files, plan, arguments.features):
        row, classes, scores = learned(plan, line, network, kind, settings)
        rows.append(row)
        if arguments.pictures and kind.maps and not pictured:
            page, titles = drawn(plan, network, kind, classes, scores)
            save_page(page, arguments.pictures, titles, columns=len(titles))
            pictured = True
    measure = measure_of(plan)
    print(f"{'features':<10}{'of':<24}{'numbers':>8}{'C':>8}{measure:>24}{'seconds':>9}")
    for row in rows:
        cells = f"{row.feature:<10}{row.line:<24}{row.size:>8}{row.penalty:>8g}{row.quality:>24.3f}"
        print(f"{cells}{sum(row.seconds):>9.0f}")
    if missed := sum(row.unsettled for row in rows):
        print(f"{missed} fits had not converged")
    if arguments.plot:
        save_curves(rows, arguments.plot, measure)
    if arguments.json:
        about = {"data": arguments.data.name, "training": len(plan.training), "held_out": len(plan.split.records)}
        numbers = {**about, "not_learned": lost, "measure": measure, "rows": list(map(asdict, rows))}
        write_text(arguments.json, json_text(numbers, indent=1))


if __name__ == "__main__":
    run_cli(main)
