"""Detections matched by pycocotools with ground truth that is built in memory from any data set."""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.records import Notice, Record, Split
from utils.boxes import Detections

LONG = 18  # digits of an id that new ones are counted from


class Evaluation(COCOeval):  # type: ignore[misc]
    """COCO's evaluation, in which also `difficult` boxes of VOC are neither demanded nor blamed.

    As in VOC's own evaluation, all detections that overlap a difficult box most are left out, not only the best one.
    """

    def _prepare(self) -> None:
        super()._prepare()
        for truths in self._gts.values():
            for truth in truths:
                truth["ignore"] = truth["ignore"] or truth["difficult"]

    def evaluateImg(self, imgId: int, catId: int, aRng: list[float], maxDet: int) -> dict[str, Any] | None:  # noqa: N802, N803
        """COCO's matches of one class in one image; what is unmatched and overlaps a difficult box most is ignored."""
        found: dict[str, Any] | None = super().evaluateImg(imgId, catId, aRng, maxDet)
        difficult = np.array([bool(truth["difficult"]) for truth in self._gts[imgId, catId]])
        if found is not None and difficult.any() and found["dtIds"]:
            overlap = self.ious[imgId, catId][: len(found["dtIds"])]
            on_difficult = difficult[overlap.argmax(1)] & (overlap.max(1) >= self.params.iouThrs[:, None])
            found["dtIgnore"] |= (found["dtMatches"] == 0) & on_difficult
        return found


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


@dataclass(frozen=True)
class Numbers:
    """Ids of images and categories in the order of records and class names; lines on those that are new."""

    images: list[int | str]
    categories: list[int | str]
    lines: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, split: Split) -> "Numbers":
        """Those of the user's own json; new ones for what has none there, or one that something before it has."""
        own = split.description
        images = [record.number for record in split.records]
        classes = own.format.numbers(own, split.listed) if own.format.numbers else [None] * len(own.names)
        new_images, new_classes = completed(images), completed(classes)
        return cls(
            new_images,
            new_classes,
            [
                *anew("images", images, new_images, [record.image.name for record in split.records]),
                *anew("classes", classes, new_classes, own.names),
            ],
        )

    def put_on(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Annotations or detections that count from 1, with these ids."""
        return [
            row | {"image_id": self.images[row["image_id"] - 1], "category_id": self.categories[row["category_id"] - 1]}
            for row in rows
        ]


def completed(ids: Sequence[int | str | None]) -> list[int | str]:
    """The ids; an unused whole number where there is none, or one that was there before, as text or as number."""
    known = {str(number) for number in ids if number is not None}
    largest = max((int(number) for number in known if number.isdecimal() and len(number) < LONG), default=0)
    spare, taken, found = count(largest + 1), set[str](), list[int | str]()
    for number in ids:
        found.append(next(spare) if number is None or str(number) in taken else number)
        taken.add(str(number))
    return found


def anew(what: str, ids: Sequence[int | str | None], given: Sequence[int | str], names: Sequence[str]) -> list[str]:
    """A line on what has a new id, where others have their own."""
    new = [f"{name} ({own})" for name, before, own in zip(names, ids, given, strict=True) if own != before]
    notice = Notice(f"{what} have no id of their own in the json, and a new one in detections.json", new)
    return [notice.line()] if new and any(number is not None for number in ids) else []


def counted(count: int) -> list[int | str]:
    """1, 2, 3, and so on."""
    return list(range(1, count + 1))


def nothing(numbers: Numbers) -> list[dict[str, Any]]:
    """What replaces an empty list of detections, which pycocotools does not read: a box of no size, score 0."""
    row = {"image_id": numbers.images[0], "category_id": numbers.categories[0], "score": 0.0}
    return [row | {"bbox": [0.0, 0.0, 0.0, 0.0], "area": 0.0, "iscrowd": 0}]


def instances(
    annotations: list[dict[str, Any]], records: Sequence[Record], names: list[str], numbers: Numbers | None = None
) -> dict[str, list[dict[str, Any]]]:
    """What an instances json of COCO holds.

    Args:
        numbers: of the images and categories [from 1 on].
    """
    own = numbers or Numbers(counted(len(records)), counted(len(names)))
    return {
        "images": [
            {"id": number, "file_name": record.image.name, "height": record.size_hw[0], "width": record.size_hw[1]}
            for number, record in zip(own.images, records, strict=True)
        ],
        "categories": [{"id": number, "name": name} for number, name in zip(own.categories, names, strict=True)],
        "annotations": [{**item, "id": number} for number, item in enumerate(annotations, start=1)],
    }
