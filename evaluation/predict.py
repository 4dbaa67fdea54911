"""Detections of a network on the images of a split, in original pixels."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from data.loader import DetectionSet, InOrder, make_loader
from data.records import Record
from data.transforms import eval_transform
from models.decode import Thresholds
from models.detector import in_original
from models.test_time import Outputs, augmented
from utils.boxes import Detections
from utils.console import progress


@dataclass
class Clock:
    """Seconds that each phase of finding took, all images together."""

    device: torch.device | str = "cpu"
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count what runs in here."""
        began = time.perf_counter()
        yield
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize(self.device)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began


@torch.inference_mode()
def predict_split(
    find: Outputs,
    records: list[Record],
    imgsz: int,
    thresholds: Thresholds,
    *,
    batch_size: int = 16,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    clock: Clock | None = None,
    augment: bool = False,
) -> Iterator[Detections]:
    """Detections for each record, in their order; boxes in pixels of the original image.

    `find` is a detector's `outputs`: images → boxes and scores, before suppression.

    With augment, those of several views of each image together. The clock is given how long images took to `load`, to
    `preprocess`, the `network` and `nms`.
    """
    clock = clock or Clock()
    dataset = DetectionSet(records, eval_transform(imgsz), seed=0)
    loader = make_loader(dataset, InOrder(len(records)), batch_size, 0)
    batches = iter(progress(loader, "evaluating", len(loader)))
    while True:
        with clock.phase("load"):
            batch = next(batches, None)
        if batch is None:
            return
        with clock.phase("preprocess"):
            images = batch.images.to(device, memory_format=torch.channels_last)
        with clock.phase("network"), autocast():
            boxes, scores = augmented(find, images) if augment else find(images)
        for index, own_boxes, own_scores in zip(batch.index.tolist(), boxes, scores, strict=True):
            with clock.phase("nms"):
                found = in_original(records[index].size_hw, imgsz, own_boxes, own_scores, thresholds)
            yield found
