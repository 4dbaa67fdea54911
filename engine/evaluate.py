"""Average precision by pycocotools, on ground truth built in memory from any data set; mean IoU."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_iou

from data.records import Record
from utils.boxes import Detections

MIOU_CONFIDENCE = 0.25


class Evaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation, in which `difficult` boxes of VOC are neither demanded nor blamed."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["ignore"] or truth["difficult"]


def coco_evaluation(records: Sequence[Record], found: Sequence[Detections], names: list[str]) -> Evaluation:
    """Matched and accumulated, at most 100 detections an image, IoU 0.50…0.95."""
    truths = [
        {**annotation(image, label, box), "difficult": bool(difficult)}
        for image, record in enumerate(records, start=1)
        for label, box, difficult in zip(record.labels, record.boxes_xyxy, record.difficult, strict=True)
    ]
    guesses = [
        {**annotation(image, label, box), "score": float(score)}
        for image, item in enumerate(found, start=1)
        for label, box, score in zip(item.labels.numpy(), item.boxes_xyxy.numpy(), item.scores.numpy(), strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = Evaluation(in_memory(truths, len(records), names), in_memory(guesses, len(records), names), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def annotation(image: int, label: int, box_xyxy: np.ndarray) -> dict[str, Any]:
    """One box as COCO writes it; image ids and category ids count from 1."""
    x1, y1, x2, y2 = map(float, box_xyxy)
    area = (x2 - x1) * (y2 - y1)
    return {
        "image_id": image,
        "category_id": int(label) + 1,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": area,
        "iscrowd": 0,
    }


def in_memory(annotations: list[dict[str, Any]], images: int, names: list[str]) -> COCO:
    """A COCO object that never was a file."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(1, images + 1)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [{**item, "id": number} for number, item in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def mean_or_none(values: np.ndarray) -> float | None:
    """Mean of what pycocotools could compute (it marks the rest −1); None where that is nothing."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def detection_metrics(
    evaluation: Evaluation, records: Sequence[Record], found: Sequence[Detections], names: list[str]
) -> dict[str, Any]:
    """The figures of the metrics file, fractions 0–1; None where no box allows one.

    `voc07_ap50` is the mean of the precision at the recalls 0, 0.1 … 1 (VOC 2007's 11 points) with COCO's matching.
    """
    precision = evaluation.eval["precision"][..., -1]  # [IoU, recall, class, area]
    every = precision[..., 0]
    labels = np.concatenate([record.labels for record in records])
    return {
        "map": mean_or_none(every),
        "map50": mean_or_none(every[0]),
        "map75": mean_or_none(every[5]),
        **{
            f"map_{size}": mean_or_none(precision[..., area])
            for area, size in enumerate(("small", "medium", "large"), 1)
        },
        "miou": mean_iou(records, found),
        "voc07_ap50": mean_or_none(every[0, ::10]),
        "per_class": {
            name: {
                "map": mean_or_none(every[..., label]),
                "map50": mean_or_none(every[0, :, label]),
                "boxes": int((labels == label).sum()),
            }
            for label, name in enumerate(names)
        },
        "images": len(records),
        "boxes": len(labels),
    }


def mean_iou(records: Sequence[Record], found: Sequence[Detections]) -> float | None:
    """Mean, over the true boxes, of the IoU with the best detection of the same class; 0 where there is none.

    Wang & Farrahi (arXiv 2311.12704, §2.4) name the measure and leave the pairing open: this is our reading.
    Detections below a confidence of 0.25 do not count.
    """
    best: list[float] = []
    for record, item in zip(records, found, strict=True):
        sure = item.scores >= MIOU_CONFIDENCE
        overlap = box_iou(torch.from_numpy(record.boxes_xyxy), item.boxes_xyxy[sure])
        same = torch.from_numpy(record.labels)[:, None] == item.labels[sure][None]
        joined = torch.cat([overlap * same, overlap.new_zeros(len(overlap), 1)], 1)
        best += joined.amax(1).tolist()
    return float(np.mean(best)) if best else None
