"""Pictures of an evaluation: PR curves, confusion matrix, true beside found boxes."""

from pathlib import Path

import torch

from data.loader import read_image
from data.records import Split
from engine.evaluate import Evaluation
from utils.boxes import Detections, Truth
from utils.draw import draw_detections, draw_truth, save_pairs
from utils.ultralytics_parts import plot_confusion, plot_precision_recall


def save_pictures(
    evaluation: Evaluation, split: Split, found: list[Detections], folder: Path, conf: float, page: int
) -> None:
    """Write pr_curve.png, confusion_matrix.png and predictions.png; detections below conf are not drawn."""
    names = split.description.names
    precision = evaluation.eval["precision"][0, :, :, 0, -1].T  # [class, recall]
    present = precision.min(1) >= 0
    if present.any():
        own = [name for name, there in zip(names, present, strict=True) if there]
        plot_precision_recall(precision[present], own, folder / "pr_curve.png")
    truth = [
        Truth(torch.from_numpy(r.boxes_xyxy), torch.from_numpy(r.labels), torch.zeros(len(r.labels)))
        for r in split.records
    ]
    plot_confusion(found, truth, names, folder / "confusion_matrix.png", conf)
    pairs = []
    for record, item in list(zip(split.records, found, strict=True))[:page]:
        image = read_image(record).permute(1, 2, 0).numpy()
        sure = item.scores >= conf
        drawn = Detections(item.boxes_xyxy[sure], item.scores[sure], item.labels[sure])
        pairs.append((draw_truth(image, record.boxes_xyxy, record.labels, names), draw_detections(image, drawn, names)))
    save_pairs(pairs, folder / "predictions.png", ("true", f"found, score ≥ {conf:g}"))
