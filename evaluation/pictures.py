"""Pictures of an evaluation: PR curves, confusion matrix, true beside found boxes."""

from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou, nms

from data.images import record_rgb
from data.records import Record, Split
from evaluation.curves import f1_curves, rank
from evaluation.evaluate import Evaluation
from utils.boxes import Detections, Truth
from utils.draw import draw_detections, draw_truth, save_page, thumbnail
from utils.fonts import legible
from utils.plots import canvas, write_figure
from utils.ultralytics_parts import plot_confusion, plot_f1, plot_precision_recall

PLACE_IOU = 0.45
FEW = 20  # classes that still have a curve of their own


def save_pictures(
    evaluation: Evaluation, split: Split, found: list[Detections], folder: Path, conf: float, page: int
) -> None:
    """Write pr_curve.png, f1_curve.png, ap_by_iou.png, confusion_matrix.png and predictions.jpg.

    The latter two show detections of at least conf, one at each place: evaluation reports a box for several classes.
    The confusion matrix counts neither difficult boxes and crowds nor what is found on them.
    """
    names = legible(split.description.names)
    precision = evaluation.eval["precision"][0, :, :, 0, -1].T  # [class, recall]
    present = precision.min(1) >= 0
    if present.any():
        own = [name for name, there in zip(names, present, strict=True) if there]
        plot_precision_recall(precision[present], own, folder / "pr_curve.png")
        rankings = [rank(evaluation, label) for label in range(len(names))]
        plot_f1(f1_curves(rankings), own, folder / "f1_curve.png")
        plot_by_iou(evaluation, names, folder / "ap_by_iou.png")
    truth = [
        Truth(torch.from_numpy(r.boxes_xyxy[r.asked]), torch.from_numpy(r.labels[r.asked]), torch.zeros(r.asked.sum()))
        for r in split.records
    ]
    shown = [one_box_a_place(item, conf) for item in found]
    counted = [of_asked(item, record) for item, record in zip(shown, split.records, strict=True)]
    plot_confusion(counted, truth, names, folder / "confusion_matrix.png", conf)
    sides: list[np.ndarray] = []
    for record, drawn in list(zip(split.records, shown, strict=True))[:page]:
        image = record_rgb(record)
        true = draw_truth(image, record.boxes_xyxy, record.labels, names)
        sides += [thumbnail(true), thumbnail(draw_detections(image, drawn, names))]
    save_page(sides, folder / "predictions.jpg", ("true", f"found, score ≥ {conf:g}") * 2)


def one_box_a_place(found: Detections, conf: float) -> Detections:
    """Detections of at least conf, each without weaker ones of any class that overlap it."""
    sure = (found.scores >= conf).nonzero().squeeze(1)
    return found.at(sure[nms(found.boxes_xyxy[sure], found.scores[sure], PLACE_IOU)])


def of_asked(found: Detections, record: Record) -> Detections:
    """Detections without those on boxes that do not count: they are no errors. One that is on another box too stays."""
    on = box_iou(found.boxes_xyxy, torch.from_numpy(record.boxes_xyxy)) > PLACE_IOU
    asked = torch.from_numpy(record.asked)
    return found.at(on[:, asked].any(1) | ~on[:, ~asked].any(1))


def plot_by_iou(evaluation: Evaluation, names: list[str], path: Path) -> None:
    """AP over the IoU that a detection needs to count: of each class, as far as names fit, and of all."""
    precision, thresholds = evaluation.eval["precision"][:, :, :, 0, -1], evaluation.params.iouThrs
    figure, [[axis]] = canvas()
    present = precision.min((0, 1)) > -1
    if len(names) <= FEW:
        for label in present.nonzero()[0]:
            axis.plot(thresholds, precision[:, :, label].mean(1), marker=".", linewidth=1, label=names[label])
    axis.plot(thresholds, precision[:, :, present].mean((1, 2)), "k", marker="o", linewidth=2, label="all classes")
    axis.set(xlabel="IoU", ylabel="average precision", ylim=(0, 1), title="AP by IoU threshold")
    axis.grid(alpha=0.3)
    axis.legend()
    write_figure(figure, path, dpi=120)
