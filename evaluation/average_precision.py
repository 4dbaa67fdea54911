"""A detector on held-out images: figures, pictures and the table of both."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.records import Split
from evaluation.detection_figures import FIGURES, detection_metrics
from evaluation.evaluate import Numbers, coco_evaluation, guessed, instances, nothing, true_annotations
from evaluation.pictures import save_pictures
from evaluation.predict import Clock, predict_split
from models.decode import Thresholds
from models.detector import Detector
from utils.boxes import Detections
from utils.files import json_text, write_text

PAGE = 8  # images on the page of predictions
SURE = 0.25  # confidence above which a detection is drawn and counted in the confusion matrix


@dataclass(frozen=True)
class Finding:
    """How detections are made; `told` is what metrics.json says of it."""

    imgsz: int
    thresholds: Thresholds
    batch_size: int
    augment: bool = False
    keep: bool = False  # detections and truth as JSON files, for any other program to judge
    precision: str = "fp32"

    @property
    def told(self) -> dict[str, Any]:
        """All of it that moves a figure."""
        own = self.thresholds
        given = {"conf_thres": own.conf_thres, "iou_thres": own.iou_thres, "max_det": own.max_det}
        return {"imgsz": self.imgsz, **given, "augment": self.augment, "precision": self.precision}


def evaluate_detector(detector: Detector, split: Split, finding: Finding, folder: Path) -> dict[str, Any]:
    """Find on every image of the split, and write metrics.json and the pictures into the folder.

    Returns:
        detection_metrics, the `seconds` that finding and matching took, and of each phase the milliseconds an image.
    """
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
    metrics = detection_metrics(evaluation, split.records, found, detector.names)
    if finding.keep:
        write_for_others(split, found, folder)
    metrics["seconds"] = time.monotonic() - began
    metrics["speed_ms"] = {name: 1000 * own / len(split.records) for name, own in clock.seconds.items()}
    metrics["found_with"] = finding.told | {"data": split.digest} | split.description.told_levels
    write_text(folder / "metrics.json", json_text({"split": split.name, **metrics}, 2))  # before any picture may fail
    save_pictures(evaluation, split, found, folder, SURE, PAGE)
    return metrics


def write_for_others(split: Split, found: list[Detections], folder: Path) -> None:
    """detections.json and annotations.json, with the ids of the user's own json where there is one."""
    numbers = Numbers.of(split)
    rows = numbers.put_on(guessed(found))
    if not rows:
        print("nothing was found: a box of no size with score 0 stands for it in detections.json")
        rows = nothing(numbers)
    write_text(folder / "detections.json", json_text(rows))
    truth = numbers.put_on(true_annotations(split.records))
    write_text(
        folder / "annotations.json", json_text(instances(truth, split.records, split.description.names, numbers))
    )


def unusual(told: dict[str, Any]) -> str:
    """The thresholds that are not those of evaluation, as `conf_thres 0.25`; they lower what a detector reaches."""
    usual = {"conf_thres": Thresholds.conf_thres, "iou_thres": Thresholds.iou_thres, "max_det": Thresholds.max_det}
    return ", ".join(f"{name} {told[name]:g}" for name, own in usual.items() if told[name] != own)


def summary(metrics: dict[str, Any], split: Split, detector: Detector, folder: Path) -> str:
    """The AP table and where the pictures are, as plain text."""
    counts = f"{metrics['images']} images, {metrics['boxes']} boxes, {metrics['seconds']:.1f} s"
    lines = [f"{detector.path} on {split.description.yaml.name} `{split.name}`: {counts}"]
    lines += [f"  found with {other}" for other in [unusual(metrics["found_with"])] if other]
    lines.append("")
    lines += [f"  {key:<12}{share(metrics[key])}" for key, own in FIGURES.items() if own.summed_up]
    lines += ["", "  ms per image: " + ", ".join(f"{name} {own:.1f}" for name, own in metrics["speed_ms"].items())]
    width = max(12, *(len(name) for name in metrics["per_class"]))
    lines += ["", f"  {'class':<{width}}  boxes     map   map50"]
    lines += [
        f"  {name:<{width}}{own['boxes']:7d}  {share(own['map'])}  {share(own['map50'])}"
        for name, own in metrics["per_class"].items()
    ]
    pictures = ", ".join(path.name for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]))
    return "\n".join([*lines, "", f"pictures in {folder}: {pictures}", ""])


def share(value: float | None) -> str:
    """A fraction in six columns."""
    return "   –  " if value is None else f"{value:6.3f}"
