"""Detections of a network on the images of a split, in original pixels."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from data.loader import DetectionSet, InOrder, make_loader
from data.records import Record
from data.transforms import eval_transform
from engine.logs import progress
from models.decode import Decoder, Thresholds
from models.detector import in_original
from utils.boxes import Detections


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
