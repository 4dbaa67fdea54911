"""The figures of a detector by name: average precision and recall by pycocotools, VOC's, mean IoU.

To add one, write a function of a Judged, and add it to FIGURES: it is in metrics.json, and studies may report it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torchvision.ops import box_iou

from data.records import Record
from evaluation.curves import Ranking, best_point, rank
from evaluation.evaluate import Evaluation
from utils.boxes import Detections
from utils.tables import Entry, Table

MIOU_CONFIDENCE = 0.25
EVERY = "all"
SIZES = (EVERY, "small", "medium", "large")  # in pycocotools' order


@dataclass(frozen=True)
class Judged:
    """Detections beside the truth, matched."""

    evaluation: Evaluation
    records: Sequence[Record]
    found: Sequence[Detections]
    names: list[str]

    @cached_property
    def precision(self) -> np.ndarray:
        """[IoU, recall, class, size], −1 where nothing defines it."""
        own: np.ndarray = self.evaluation.eval["precision"][..., -1]
        return own

    @cached_property
    def rankings(self) -> list[Ranking]:
        """Of each class, at IoU 0.5."""
        return [rank(self.evaluation, label) for label in range(len(self.names))]

    @cached_property
    def best(self) -> dict[str, float | None]:
        """Confidence of best F1, and precision, recall and F1 there."""
        return best_point(self.rankings)


@dataclass(frozen=True)
class Figure(Entry):
    """A figure of a detector.

    Attributes:
        of: → a fraction 0–1; None where no box allows one.
        summed_up: whether it is in the summary that `val.py --map` prints.
    """

    of: Callable[[Judged], float | None]
    summed_up: bool = False


def mean_or_none(values: np.ndarray) -> float | None:
    """Mean of what pycocotools could compute (it marks the rest −1); None where that is nothing."""
    known = values[values > -1]
    return float(known.mean()) if known.size else None


def precision_at(iou: int | None, size: str, own: Judged) -> float | None:
    """Average precision at one of the ten IoUs, or over all of them."""
    return mean_or_none(own.precision[slice(None) if iou is None else iou, ..., SIZES.index(size)])


def recall_at(size: str, most: int, own: Judged) -> float | None:
    """Average recall with the first, second or third largest number of detections."""
    return mean_or_none(own.evaluation.eval["recall"][..., SIZES.index(size), most])


def voc_area(own: Judged) -> float | None:
    """Mean area under precision over recall."""
    areas = [area for ranking in own.rankings if (area := ranking.area_ap()) is not None]
    return float(np.mean(areas)) if areas else None


def mean_iou(records: Sequence[Record], found: Sequence[Detections]) -> float | None:
    """Mean, over the true boxes, of the IoU with the best detection of the same class; 0 where there is none.

    Wang & Farrahi (arXiv 2311.12704, §2.4) name the measure and leave the pairing open: this is our reading.
    Detections below a confidence of 0.25 do not count.
    """
    best: list[float] = []
    for record, item in zip(records, found, strict=True):
        sure = item.scores >= MIOU_CONFIDENCE
        overlap = box_iou(torch.from_numpy(record.boxes_xyxy[record.asked]), item.boxes_xyxy[sure])
        same = torch.from_numpy(record.labels[record.asked])[:, None] == item.labels[sure][None]
        joined = torch.cat([overlap * same, overlap.new_zeros(len(overlap), 1)], 1)
        best += joined.amax(1).tolist()
    return float(np.mean(best)) if best else None


def coco_figures() -> Iterator[Figure]:
    """COCO's twelve: AP over IoU, at 0.50, at 0.75 and by size; recall with 1, 10 and 100 detections and by size."""
    for name, title, iou in (("map", "0.50–0.95", None), ("map50", "0.50", 0), ("map75", "0.75", 5)):
        yield Figure(name, f"mAP at IoU {title}", partial(precision_at, iou, EVERY), summed_up=True)
    for size in SIZES[1:]:
        yield Figure(f"map_{size}", f"mAP of {size} boxes", partial(precision_at, None, size), summed_up=True)
    for place, most in enumerate((1, 10, 100)):
        yield Figure(f"mar_{most}", f"mean recall with {most} detections an image", partial(recall_at, EVERY, place))
    for size in SIZES[1:]:
        yield Figure(f"mar_{size}", f"mean recall of {size} boxes", partial(recall_at, size, -1))


FIGURES = Table(
    "figure",
    "measures",
    (
        *coco_figures(),
        # The mean of the precision at the recalls 0, 0.1 … 1, and the area under the curve, both with COCO's matching.
        Figure("voc07_ap50", "VOC 2007's AP", lambda own: mean_or_none(own.precision[0, ::10, :, 0]), summed_up=True),
        Figure("voc_ap50", "VOC's AP since 2010", voc_area),
        Figure("miou", "mean IoU", lambda own: mean_iou(own.records, own.found), summed_up=True),
        Figure("best_confidence", "confidence of best F1", lambda own: own.best["best_confidence"]),
        Figure("precision", "precision at that confidence", lambda own: own.best["precision"]),
        Figure("recall", "recall at that confidence", lambda own: own.best["recall"]),
        Figure("f1", "F1 at that confidence", lambda own: own.best["f1"]),
    ),
)


def detection_metrics(
    evaluation: Evaluation, records: Sequence[Record], found: Sequence[Detections], names: list[str]
) -> dict[str, Any]:
    """The content of the metrics file: FIGURES, AP at each IoU, figures of each class; fractions 0–1, or None.

    `boxes` are those that are to be found.
    """
    own = Judged(evaluation, records, found, names)
    every = own.precision[..., 0]
    labels = np.concatenate([record.labels[record.asked] for record in records])
    return {
        **{name: figure.of(own) for name, figure in FIGURES.items()},
        "map_by_iou": {
            f"{iou:.2f}": mean_or_none(at) for iou, at in zip(evaluation.params.iouThrs, every, strict=True)
        },
        "per_class": {
            name: {
                "map": mean_or_none(every[..., label]),
                "map50": mean_or_none(every[0, :, label]),
                "voc_ap50": own.rankings[label].area_ap(),
                "boxes": int((labels == label).sum()),
            }
            for label, name in enumerate(names)
        },
        "images": len(records),
        "boxes": len(labels),
    }
