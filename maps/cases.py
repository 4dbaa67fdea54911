"""What is explained: each class of each image that has a box, with the pixels that the boxes hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.loader import Batch, DetectionSet, InOrder, make_loader
from data.records import Record, Split
from data.views import View
from maps.overlap import box_mask
from utils.console import progress
from utils.errors import UserError


@dataclass(frozen=True)
class Cases:
    """What is explained: each class of each image, with the boxes of that class.

    Attributes:
        images: [n, 3, H, W] float RGB in 0–1.
        labels: [n] class indices of the networks.
        truth: [n, H, W] bool: the pixels in any box.
        boxes: [m, 4] of each, in pixels of `images`.
        record: [n] index of the image in the split.
    """

    images: Tensor
    labels: Tensor
    truth: np.ndarray
    boxes: list[np.ndarray]
    record: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, indices: Sequence[int]) -> "Cases":
        """Some of them."""
        own = list(indices)
        boxes = [self.boxes[index] for index in own]
        return Cases(self.images[own], self.labels[own], self.truth[own], boxes, self.record[own])


def cases_of(batch: Batch, explain: int | None) -> Cases:
    """The (image, class) pairs of a batch that have a box.

    Image and boxes went through the same transform; what a crop has left of a box counts.
    """
    height, width = batch.images.shape[2:]
    labels = batch.truth.labels if explain is None else torch.full_like(batch.truth.labels, explain)
    pairs = torch.unique(torch.stack([batch.truth.sample, labels], 1), dim=0)
    boxes = [
        batch.truth.boxes_xyxy[(batch.truth.sample == sample) & (labels == label)].numpy()
        for sample, label in pairs.tolist()
    ]
    masks = [box_mask(own, height, width) for own in boxes]
    truth = np.stack(masks) if masks else np.zeros((0, height, width), bool)
    return Cases(batch.images[pairs[:, 0]], pairs[:, 1], truth, boxes, batch.index[pairs[:, 0]].numpy())


def boxed(split: Split) -> list[Record]:
    """The images that have a box.

    Raises:
        UserError: there are none.
    """
    found = [record for record in split.records if record.asked.any()]
    if not found:
        hint = "give data with boxes, or another --task; `python -m wsol.top_classes` draws maps without boxes"
        raise UserError(f"no image of `{split.name}` has a box", where=split.description.yaml, hint=hint)
    return found


def batches(records: list[Record], view: View, batch_size: int, explain: int | None, title: str) -> Iterator[Cases]:
    """The cases of records, as a network is shown its images; never more at a time than images in a batch."""
    dataset = DetectionSet(records, view.transform(), seed=0)
    loader = make_loader(dataset, InOrder(len(dataset)), batch_size, workers=0)
    for batch in progress(loader, title, len(loader)):
        cases = cases_of(batch, explain)
        for start in range(0, len(cases), batch_size):
            yield cases.at(range(start, min(start + batch_size, len(cases))))
