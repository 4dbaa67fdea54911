"""A segmenter on held-out images: figures, pictures and the table of both."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from data.images import record_rgb
from data.masks import mask_names, mask_pixels
from data.records import Split
from data.seen import count_learnt, too_good
from evaluation.average_precision import bounds, share, write_metrics
from evaluation.learnt import groups_of, of_backbone
from evaluation.predict import Clock
from evaluation.segmentation import count_all, segment_split, segmentation_metrics
from models.segmenter import Segmenter
from utils.draw import draw_mask, save_page, thumbnail
from utils.files import write_text
from utils.fonts import legible
from utils.plots import canvas, write_figure

PAGE = 8  # images on the page of predictions
TITLES = {
    "miou": "mean IoU",
    "accuracy": "pixel accuracy",
    "class_accuracy": "mean class accuracy",
    "weighted_iou": "IoU weighted by pixels",
}


def judge_segmenter(
    segmenter: Segmenter, split: Split, folder: Path, *, imgsz: int, batch_size: int, draws: int = 0
) -> dict[str, Any]:
    """Segment every image of the split; metrics.json, summary.txt and pictures go into the folder.

    Args:
        split: with masks.
        draws: resamples of the images behind intervals; 0: none.

    Returns:
        The `split`, evaluation.segmentation's figures, the `lesson` of the backbone, if its file has one, how many of
        the images it was `trained_on` (None where its file does not say), the `seconds` that it took, and milliseconds
        an image by phase.
    """
    began, clock, records = time.monotonic(), Clock(segmenter.device), split.records
    classes = len(segmenter.names) + 1
    shown: list[np.ndarray] = []
    matrices: list[np.ndarray] = []
    found = segment_split(segmenter.model, records, imgsz, batch_size=batch_size, device=segmenter.device, clock=clock)
    for record, own in zip(records, found, strict=True):
        matrices += count_all([record], [own], classes)
        shown += [own] if len(shown) < PAGE else []
    stacked = np.stack(matrices)
    metrics: dict[str, Any] = {"split": split.name, "task": "segment"}
    metrics |= segmentation_metrics(stacked, segmenter.names, draws, groups_of(records) if draws else None)
    metrics |= {"lesson": dict(segmenter.lesson)} if segmenter.lesson else {}
    metrics["trained_on"] = count_learnt(split, segmenter.learnt)
    metrics["seconds"] = time.monotonic() - began
    metrics["speed_ms"] = {name: 1000 * own / len(records) for name, own in clock.seconds.items()}
    settings = {"imgsz": imgsz, "fcn": segmenter.head, "data": split.digest}
    metrics["found_with"] = {**settings, **split.description.levels_entry}
    write_metrics(metrics, folder / "metrics.json")  # before any picture may fail
    write_text(folder / "summary.txt", summary(metrics, split, segmenter, folder))
    save_confusion(stacked.sum(0), mask_names(segmenter.names), folder / "confusion.png")
    save_sides(split, shown, segmenter.names, folder / "predictions.jpg")
    return metrics


def save_sides(split: Split, found: list[np.ndarray], names: list[str], path: Path) -> None:
    """The first pictures, each with its true mask and with what was found."""
    sides: list[np.ndarray] = []
    for record, own in zip(split.records, found, strict=False):
        image = record_rgb(record)
        sides += [thumbnail(draw_mask(image, mask_pixels(record), names))]
        sides += [thumbnail(draw_mask(image, own, names))]
    save_page(sides, path, ("true", "found") * 2)


def save_confusion(matrix: np.ndarray, names: list[str], path: Path) -> None:
    """Where the pixels of each class went: shares of a row, the true class."""
    rows = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side, places, words = max(5.0, 0.35 * len(names) + 2), range(len(names)), legible(names)
    figure, [[axis]] = canvas(size=(side, side))
    shown = axis.imshow(rows, vmin=0, vmax=1, cmap="Blues")
    axis.set_xticks(places, words, rotation=90)
    axis.set_yticks(places, words)
    axis.set(xlabel="found", ylabel="true", title="fraction of a class's pixels")
    figure.colorbar(shown, shrink=0.8)
    write_figure(figure, path, dpi=120)


def summary(metrics: dict[str, Any], split: Split, segmenter: Segmenter, folder: Path) -> str:
    """The figures and where the pictures are, as plain text."""
    counts = f"{metrics['images']} images, {metrics['pixels']:,} pixels, {metrics['seconds']:.1f} s"
    within = metrics.get("intervals", {})
    lines = [f"{segmenter.path} on {split.description.yaml.name} `{split.name}`: {counts}"]
    doubts = too_good(metrics["trained_on"], metrics["images"])
    lines += [*(f"  {line}" for line in (*of_backbone(segmenter.lesson), *doubts)), ""]
    lines += [f"  {title:<24}{share(metrics[key])}{bounds(within.get(key))}" for key, title in TITLES.items()]
    lines += ["", "  ms per image: " + ", ".join(f"{name} {own:.1f}" for name, own in metrics["speed_ms"].items())]
    width = max(12, *(len(name) for name in metrics["per_class"]))
    lines += ["", f"  {'class':<{width}}        pixels  n/(n+e)  recall  precis."]
    for name, own in metrics["per_class"].items():
        figures = "  ".join(share(own[key]) for key in ("iou", "recall", "precision"))
        lines.append(f"  {name:<{width}}{own['pixels']:14,d}   {figures}")
    explained = "  n/(n+e): pixels found right over these and all wrong ones, missed or false: the IoU of the class"
    return "\n".join([*lines, explained, "", f"pictures in {folder}: confusion.png, predictions.jpg", ""])
