"""Training runs beside each other: their recipes, their ends, their detectors on the same pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.runs import BEST, FINISHED
from utils.text import NOTHING

if TYPE_CHECKING:
    import argparse

    from data.records import Split
    from evaluation.comparison import Line
    from models import Detector
    from utils.config import Recipe

SEED = 0  # of the choice of pictures


@dataclass(frozen=True)
class Compared:
    """A training run as the page has it.

    Attributes:
        name: of its folder.
        metrics: what it wrote at its end; empty where it has not ended.
    """

    name: str
    folder: Path
    recipe: "Recipe"
    metrics: dict[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Compared":
        """A run folder.

        Raises:
            UserError: it is none.
        """
        from training.finished import Run

        run = Run.open(folder)
        metrics = run.metrics if (folder / FINISHED).exists() else {}
        return cls(folder.resolve().name, folder, run.recipe, metrics)

    @property
    def detects(self) -> bool:
        """Whether it holds a detector."""
        return self.recipe.task == "detect" and (self.folder / BEST).exists()


@dataclass(frozen=True)
class Judged:
    """Detectors of some runs on the same pictures.

    Attributes:
        note: on what, and what the intervals are over.
        lines: runs that differ in the seed alone.
        rows: figures and paired differences, header first.
        pictures: some of them; each with what is drawn on it by title, the true boxes first.
        content: all of it as JSON.
    """

    note: str
    lines: "list[Line]"
    rows: list[list[str]]
    pictures: list[dict[str, Any]]
    content: dict[str, Any]


def recipe_table(runs: Sequence[Compared]) -> list[list[str]]:
    """The keys in which the recipes differ, a row each; header first."""
    from utils.recipes import flat

    values = [flat(run.recipe.model_dump(mode="json")) for run in runs]
    every = dict.fromkeys(key for own in values for key in own)
    keys = [key for key in every if any(own.get(key) != values[0].get(key) for own in values)]
    return [["key", *(run.name for run in runs)], *([key, *cells([own.get(key) for own in values])] for key in keys)]


def cells(values: Sequence[Any]) -> list[str]:
    """Values of a key that differ; files of one name in different folders with their folders."""
    found = [shown(value) for value in values]
    return found if len(set(found)) > 1 else [str(value) for value in values]


def shown(value: Any) -> str:
    """A value of a recipe; of a path, its name."""
    if value is None or value == []:
        return NOTHING
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return Path(value).name if isinstance(value, str) and value.startswith("/") else str(value)


def end_table(runs: Sequence[Compared]) -> list[list[str]]:
    """What the runs reached on their own validation pictures at their end, a row each; header first."""
    figures = [name for name in ("map", "map50", "map75", "miou") if any(name in run.metrics for run in runs)]
    rows = [["run", *figures, "last classifier", "hours"]]
    for run in runs:
        own = [number(run.metrics.get(name)) for name in figures]
        hours = number(run.metrics["seconds"] / 3600, 2) if run.metrics else "not finished"
        rows.append([run.name, *own, backbones(run.metrics), hours])
    return rows


def backbones(metrics: Mapping[str, Any]) -> str:
    """The figure of each backbone's last classifier with its interval, as in `cl3 top-1 0.910 [0.880, 0.930]`."""
    from evaluation.learnt import judged_by, outcome, top_or_auc

    lesson = metrics.get("lesson", {})  # all that there is of weights from another run
    pretrained = metrics.get("pretrain") or ({lesson["method"]: [lesson]} if lesson else {})
    by, found = metrics.get("judged_by", lesson.get("judged_by", judged_by(True))), []
    for method, stages in pretrained.items():
        own = f", {outcome(stages[-1])}" if "learnt" in stages[-1] else ", never compared with chance"
        nothing = "" if stages[-1].get("learnt") else own
        found.append(f"{method} {top_or_auc(stages[-1], by == judged_by(True))}{nothing}")
    return "; ".join(found) or NOTHING


def number(value: float | None, digits: int = 3) -> str:
    """A figure, or a dash."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def judge(runs: Sequence[Compared], arguments: "argparse.Namespace") -> "Judged | None":
    """The runs' detectors on the same pictures; None where fewer than two have one.

    Raises:
        UserError: they have other classes; the data cannot be read; two lines have the same name and seed.
    """
    from evaluation.average_precision import Finding
    from evaluation.comparison import SHOWN, about, check_comparable, compare, lines_of, summed_up, table
    from evaluation.held_out import Wanted, read_held_out
    from models import Thresholds, load_detector
    from utils.device import pick_device

    paths = [run.folder.resolve() / BEST for run in runs if run.detects]
    if len(paths) < 2:
        return None
    lines, device = lines_of(paths), pick_device(arguments.device)
    detectors = [load_detector(path, device) for path in paths]
    check_comparable(detectors)
    first = detectors[0]
    wanted = Wanted(arguments.data, arguments.task)
    split = read_held_out(wanted, first.data, first.names, first.path, first.levels)
    finding = Finding(first.imgsz, Thresholds(), arguments.batch_size)
    named = [(*lines[own.path], own) for own in detectors]
    found, of_runs = compare(named, split, finding, arguments.bootstrap, resize=True)
    return Judged(
        about(found, split, arguments.bootstrap),
        found,
        table(found, SHOWN),
        side_by_side(detectors, [" ".join(filter(None, lines[own.path])) for own in detectors], split, arguments),
        summed_up(found, of_runs, split, arguments.bootstrap),
    )


def side_by_side(
    detectors: Sequence["Detector"], titles: Sequence[str], split: "Split", arguments: "argparse.Namespace"
) -> list[dict[str, Any]]:
    """Pictures of the split that have boxes, drawn at random: title → what is drawn, the truth first."""
    import numpy as np

    from data.images import record_rgb
    from utils.draw import draw_detections, draw_truth, thumbnail

    boxed = [record for record in split.records if len(record.boxes_xyxy)]
    count = min(arguments.images, len(boxed))
    chosen = [boxed[at] for at in sorted(np.random.default_rng(SEED).choice(len(boxed), count, replace=False))]
    names, rows = split.description.names, []
    keys = {key: getattr(arguments, key) for key in ("conf_thres", "iou_thres", "max_det")}
    for record in chosen:
        image = record_rgb(record)
        drawn = {"true boxes": draw_truth(image, record.boxes_xyxy, record.labels, names)}
        for title, own in zip(titles, detectors, strict=True):
            drawn[title] = draw_detections(image, own.predict(image, **keys), names)
        rows.append({title: thumbnail(picture) for title, picture in drawn.items()})
    return rows
