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
from engine.curves import best_point, rank
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

    With COCO's matching, `voc07_ap50` is the mean of the precision at the recalls 0, 0.1 … 1 (VOC 2007's 11 points),
    `voc_ap50` the area under precision over recall (VOC from 2010 on). Precision, recall and F1 are means over the
    classes at `best_confidence`, where F1 is highest.
    """
    precision = evaluation.eval["precision"][..., -1]  # [IoU, recall, class, area]
    every, rankings = precision[..., 0], [rank(evaluation, label) for label in range(len(names))]
    labels = np.concatenate([record.labels for record in records])
    areas = [area for ranking in rankings if (area := ranking.area_ap()) is not None]
    return {
        **coco_numbers(evaluation),
        "miou": mean_iou(records, found),
        "voc07_ap50": mean_or_none(every[0, ::10]),
        "voc_ap50": float(np.mean(areas)) if areas else None,
        **best_point(rankings),
        "map_by_iou": {
            f"{iou:.2f}": mean_or_none(own) for iou, own in zip(evaluation.params.iouThrs, every, strict=True)
        },
        "per_class": {
            name: {
                "map": mean_or_none(every[..., label]),
                "map50": mean_or_none(every[0, :, label]),
                "voc_ap50": rankings[label].area_ap(),
                "boxes": int((labels == label).sum()),
            }
            for label, name in enumerate(names)
        },
        "images": len(records),
        "boxes": len(labels),
    }


def coco_numbers(evaluation: Evaluation) -> dict[str, float | None]:
    """COCO's twelve: AP over IoU, at 0.50, at 0.75 and by size; recall with 1, 10 and 100 detections and by size."""
    precision, recall = evaluation.eval["precision"][..., -1], evaluation.eval["recall"]
    sizes = list(enumerate(("small", "medium", "large"), 1))
    return {
        "map": mean_or_none(precision[..., 0]),
        "map50": mean_or_none(precision[0, ..., 0]),
        "map75": mean_or_none(precision[5, ..., 0]),
        **{f"map_{size}": mean_or_none(precision[..., area]) for area, size in sizes},
        **{f"mar_{most}": mean_or_none(recall[..., 0, n]) for n, most in enumerate(evaluation.params.maxDets)},
        **{f"mar_{size}": mean_or_none(recall[..., area, -1]) for area, size in sizes},
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
