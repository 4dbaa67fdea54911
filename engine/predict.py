"""Detections of a network on the images of a split, in original pixels."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from data.loader import DetectionSet, InOrder, make_loader
from data.records import Record
from data.transforms import Letterbox, eval_transform
from engine.logs import progress
from models.decode import Decoder, suppress
from utils.boxes import Detections


@dataclass(frozen=True)
class Thresholds:
    """What counts as a detection; the defaults are those of evaluation."""

    conf_thres: float = 0.001
    iou_thres: float = 0.6
    max_det: int = 300
    multi_label: bool = True


@torch.inference_mode()
def predict_split(
    model: nn.Module,
    decoder: Decoder,
    records: list[Record],
    imgsz: int,
    thresholds: Thresholds,
    *,
    batch_size: int = 16,
    workers: int = 0,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[Detections]:
    """Detections for each record, in their order; boxes in pixels of the original image."""
    dataset = DetectionSet(records, eval_transform(imgsz), seed=0)
    loader = make_loader(dataset, InOrder(len(records)), batch_size, workers)
    model.eval()
    for batch in progress(loader, "evaluating", len(loader)):
        with autocast():
            raw_maps = model(batch.images.to(device, memory_format=torch.channels_last))
        boxes, scores = decoder(raw_maps)
        for index, own_boxes, own_scores in zip(batch.index.tolist(), boxes, scores, strict=True):
            yield in_original(records[index].size_hw, imgsz, own_boxes, own_scores, thresholds)


def in_original(
    size_hw: tuple[int, int], imgsz: int, boxes: Tensor, scores: Tensor, thresholds: Thresholds
) -> Detections:
    """Suppress, and put the boxes back into the image that was letterboxed."""
    found = suppress(
        boxes,
        scores,
        conf_thres=thresholds.conf_thres,
        iou_thres=thresholds.iou_thres,
        max_det=thresholds.max_det,
        multi_label=thresholds.multi_label,
    )
    boxes_xyxy = Letterbox.fit(size_hw, imgsz).back(found.boxes_xyxy, size_hw)
    return Detections(boxes_xyxy.cpu(), found.scores.cpu(), found.labels.cpu())
