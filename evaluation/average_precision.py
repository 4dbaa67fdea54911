"""A detector on held-out images: figures, pictures and the table of both."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from data.records import Split
from data.seen import count_learnt, too_good
from evaluation.detection_figures import FIGURES, detection_metrics
from evaluation.evaluate import Evaluation, Numbers, coco_evaluation, guessed, instances, nothing, true_annotations
from evaluation.held_out import Wanted, read_held_out
from evaluation.learnt import groups_of, of_backbone
from evaluation.pictures import save_pictures
from evaluation.predict import Clock, predict_split
from evaluation.resampled import Sampled
from models.decode import Thresholds
from models.detector import Detector, checked_sizes
from utils.boxes import Detections
from utils.errors import UserError
from utils.files import json_text, make_folder, write_text
from utils.flags import resamples

PAGE = 8  # images on the page of predictions
SURE = 0.25  # confidence above which a detection is drawn and counted in the confusion matrix


@dataclass(frozen=True)
class Finding:
    """How detections are made; `settings` is what metrics.json says of it."""

    imgsz: int
    thresholds: Thresholds
    batch_size: int
    augment: bool = False
    keep: bool = False  # detections and truth as JSON files, for any other program to judge
    precision: str = "fp32"

    @property
    def settings(self) -> dict[str, Any]:
        """All of it that moves a figure."""
        own = self.thresholds
        given = {"conf_thres": own.conf_thres, "iou_thres": own.iou_thres, "max_det": own.max_det}
        return {"imgsz": self.imgsz, **given, "augment": self.augment, "precision": self.precision}


class Options(TypedDict, total=False):
    """How a detector is judged: flags of `val.py --map`.

    Attributes:
        data: data yaml [that of the detector's training].
        folder: where metrics.json, summary.txt and pictures go [nowhere].
        imgsz: side of the network input, a multiple of 32, pixels [that of the training].
        conf_thres: lowest score [0.001].
        iou_thres: IoU above which the weaker of two boxes is dropped [0.6].
        max_det: most detections in an image [300]; average precision counts the best 100.
        batch_size: images per step [16].
        augment: test-time augmentation, three scales, one mirrored [no].
        bootstrap: resamples of the images behind 95 % intervals [none].
        download: fetch what the data yaml names and is not there yet [no].
        strict: damaged images or labels stop the evaluation [no].
    """

    data: str | Path | None
    folder: str | Path | None
    imgsz: int | None
    conf_thres: float
    iou_thres: float
    max_det: int
    batch_size: int
    augment: bool
    bootstrap: int
    download: bool
    strict: bool


def check_weak_boxes(detector: Detector) -> None:
    """Refuse a detector that leaves out weak boxes by thresholds of its own.

    Raises:
        UserError: it does.
    """
    if detector.suppresses:
        what = "suppresses by thresholds of its own, and average precision asks for weak boxes too"
        raise UserError(what, where=detector.path, hint="export it without --nms, or give the checkpoint")


def evaluate_detector(
    detector: Detector,
    task: str | None = None,
    *,
    data: str | Path | None = None,
    folder: str | Path | None = None,
    imgsz: int | None = None,
    conf_thres: float = 0.001,
    iou_thres: float = 0.6,
    max_det: int = 300,
    batch_size: int = 16,
    augment: bool = False,
    bootstrap: int = 0,
    download: bool = False,
    strict: bool = False,
) -> dict[str, Any]:
    """Average precision on held-out images, as `val.py --map` has it; keywords as in Options.

    Args:
        task: `train`, `val` or `test` [test, else val, else the tenth of train that training holds out by default].

    Returns:
        What `val.py --map --json` writes: fractions 0–1, None where no box allows one.

    Raises:
        UserError: the data cannot be read, or have other classes; a number is out of its range; the detector keeps its
            weak boxes to itself.
    """
    check_weak_boxes(detector)
    side, batch_size = checked_sizes(detector.imgsz if imgsz is None else imgsz, batch_size)
    draws = resamples(str(bootstrap))
    finding = Finding(side, Thresholds(conf_thres, iou_thres, max_det), batch_size, augment)
    wanted = Wanted(None if data is None else Path(data), task, download=download, strict=strict)
    split = read_held_out(wanted, detector.data, detector.names, detector.path, detector.levels)
    return judge(detector, split, finding, None if folder is None else make_folder(Path(folder)), draws)


@dataclass(frozen=True)
class Judgement:
    """What became of a detector on a split."""

    metrics: dict[str, Any]
    found: list[Detections]
    evaluation: Evaluation


def judge(detector: Detector, split: Split, finding: Finding, folder: Path | None, draws: int = 0) -> dict[str, Any]:
    """Find on every image of the split; metrics.json, summary.txt and pictures go into the folder, if there is one.

    Args:
        draws: resamples of the images behind intervals; 0: none.

    Returns:
        The `split`, detection_metrics, `intervals` if they are asked for, the `lesson` of the backbone, if its file has
        one, how many of the images it was `trained_on`
        (None where its file does not say), the `seconds` that finding and matching took, and of each phase the
        milliseconds an image.
    """
    own = judged(detector, split, finding)
    if draws:
        groups = groups_of(split.records)
        own.metrics["intervals"] = intervals(Sampled.of(own.evaluation, detector.names, groups, draws), draws)
    if folder:
        if finding.keep:
            write_for_others(split, own.found, folder)
        write_metrics(own.metrics, folder / "metrics.json")  # before any picture may fail
        save_pictures(own.evaluation, split, own.found, folder, SURE, PAGE)
        write_text(folder / "summary.txt", summary(own.metrics, split, detector, folder))
    return own.metrics


def judged(detector: Detector, split: Split, finding: Finding) -> Judgement:
    """Find on every image of the split, and match what was found."""
    began, clock = time.monotonic(), Clock(detector.device)
    found = list(
        predict_split(
            detector.outputs,
            split.records,
            finding.imgsz,
            finding.thresholds,
            batch_size=finding.batch_size,
            device=detector.device,
            clock=clock,
            augment=finding.augment,
        )
    )
    evaluation = coco_evaluation(split.records, found, detector.names)
    metrics = {"split": split.name, **detection_metrics(evaluation, split.records, found, detector.names)}
    metrics |= {"lesson": dict(detector.lesson)} if detector.lesson else {}
    metrics["trained_on"] = count_learnt(split, detector.learnt)
    metrics["seconds"] = time.monotonic() - began
    metrics["speed_ms"] = {name: 1000 * own / len(split.records) for name, own in clock.seconds.items()}
    metrics["found_with"] = finding.settings | {"data": split.digest} | split.description.levels_entry
    return Judgement(metrics, found, evaluation)


def intervals(own: Sampled, draws: int) -> dict[str, Any]:
    """95 % intervals by figure, [low, high] or None, and the number of resamples."""
    low, high = own.interval()
    bounds = {
        name: None if np.isnan(a) else [float(a), float(b)] for name, a, b in zip(own.names, low, high, strict=True)
    }
    return {"draws": draws, **bounds}


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write the figures as JSON."""
    write_text(path, json_text(metrics, 2))


def write_for_others(split: Split, found: list[Detections], folder: Path) -> None:
    """detections.json and annotations.json, with the ids of the user's own json; says which are new."""
    numbers = Numbers.of(split)
    for line in numbers.lines:
        print(line)
    rows = numbers.put_on(guessed(found))
    if not rows:
        print("nothing was found: detections.json has one box of no size, score 0, since no reader takes an empty list")
        rows = nothing(numbers)
    write_text(folder / "detections.json", json_text(rows))
    truth = numbers.put_on(true_annotations(split.records))
    write_text(
        folder / "annotations.json", json_text(instances(truth, split.records, split.description.names, numbers))
    )


def unusual(settings: dict[str, Any]) -> str:
    """The thresholds that are not those of evaluation, as `conf_thres 0.25`; they lower what a detector reaches."""
    usual = {"conf_thres": Thresholds.conf_thres, "iou_thres": Thresholds.iou_thres, "max_det": Thresholds.max_det}
    return ", ".join(f"{name} {settings[name]:g}" for name, own in usual.items() if settings[name] != own)


def summary(metrics: dict[str, Any], split: Split, detector: Detector, folder: Path) -> str:
    """The AP table and where the pictures are, as plain text."""
    counts = f"{metrics['images']} images, {metrics['boxes']} boxes, {metrics['seconds']:.1f} s"
    lines = [f"{detector.path} on {split.description.yaml.name} `{split.name}`: {counts}"]
    lines += [f"  found with {other}" for other in [unusual(metrics["found_with"])] if other]
    doubts = too_good(metrics["trained_on"], metrics["images"])
    lines += [f"  {line}" for line in (*of_backbone(detector.lesson), *doubts)]
    lines.append("")
    within = metrics.get("intervals", {})
    lines += [
        f"  {key:<12}{share(metrics[key])}{bounds(within.get(key))}" for key, own in FIGURES.items() if own.summed_up
    ]
    lines += ["", "  ms per image: " + ", ".join(f"{name} {own:.1f}" for name, own in metrics["speed_ms"].items())]
    width = max(12, *(len(name) for name in metrics["per_class"]))
    lines += ["", f"  {'class':<{width}}  boxes     map   map50"]
    lines += [
        f"  {name:<{width}}{own['boxes']:7d}  {share(own['map'])}  {share(own['map50'])}"
        f"{bounds(within.get(f'{name}/map50'))}"
        for name, own in metrics["per_class"].items()
    ]
    pictures = ", ".join(path.name for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]))
    return "\n".join([*lines, "", f"pictures in {folder}: {pictures}", ""])


def bounds(interval: list[float] | None) -> str:
    """` [low, high]` behind a figure; nothing where there is none."""
    return "" if interval is None else f" [{interval[0]:.3f}, {interval[1]:.3f}]"


def share(value: float | None) -> str:
    """A fraction in six columns."""
    return "   –  " if value is None else f"{value:6.3f}"
