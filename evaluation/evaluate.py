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
from evaluation.curves import best_point, rank
from utils.boxes import Detections

MIOU_CONFIDENCE = 0.25


class Evaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation, in which also `difficult` boxes of VOC are neither demanded nor blamed."""

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["ignore"] or truth["difficult"]


def coco_evaluation(records: Sequence[Record], found: Sequence[Detections], names: list[str]) -> Evaluation:
    """Matched and accumulated, at most 100 detections an image, IoU 0.50…0.95."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth, guesses = in_memory(true_annotations(records), records, names), in_memory(guessed(found), records, names)
        evaluation = Evaluation(truth, guesses, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def true_annotations(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The true boxes as COCO writes them, with VOC's `difficult`."""
    rows = []
    for image, record in enumerate(records, start=1):
        crowd = np.zeros(len(record.labels), bool) if record.crowd is None else record.crowd
        for index, (label, box) in enumerate(zip(record.labels, record.boxes_xyxy, strict=True)):
            row = annotation(image, label, box)
            area = row["area"] if record.areas is None else float(record.areas[index])
            difficult = bool(record.difficult[index])
            rows.append(row | {"area": area, "iscrowd": int(crowd[index]), "difficult": difficult})
    return rows


def guessed(found: Sequence[Detections]) -> list[dict[str, Any]]:
    """The detections as COCO writes them."""
    return [
        annotation(image, label, box) | {"score": float(score)}
        for image, item in enumerate(found, start=1)
        for label, box, score in zip(item.labels.numpy(), item.boxes_xyxy.numpy(), item.scores.numpy(), strict=True)
    ]


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


def in_memory(annotations: list[dict[str, Any]], records: Sequence[Record], names: list[str]) -> COCO:
    """A COCO object that never was a file."""
    coco = COCO()
    coco.dataset = instances(annotations, records, names)
    coco.createIndex()
    return coco


def instances(
    annotations: list[dict[str, Any]], records: Sequence[Record], names: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """What an instances json of COCO holds."""
    return {
        "images": [
            {"id": number, "file_name": record.image.name, "height": record.size_hw[0], "width": record.size_hw[1]}
            for number, record in enumerate(records, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
        "annotations": [{**item, "id": number} for number, item in enumerate(annotations, start=1)],
    }


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
        single = slice(None) if record.crowd is None else ~record.crowd
        overlap = box_iou(torch.from_numpy(record.boxes_xyxy[single]), item.boxes_xyxy[sure])
        same = torch.from_numpy(record.labels[single])[:, None] == item.labels[sure][None]
        joined = torch.cat([overlap * same, overlap.new_zeros(len(overlap), 1)], 1)
        best += joined.amax(1).tolist()
    return float(np.mean(best)) if best else None
