"""Records → batches; what is random is drawn from (seed, epoch, index) alone."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors

from data.records import Record
from data.transforms import MIN_BOX_PIXELS
from utils.boxes import Truth
from utils.seed import mixed_seed


@dataclass  # not frozen: Fabric moves it to the device field by field
class Batch:
    """Images [B, 3, S, S] float RGB 0–1, their true boxes in input pixels, their indices in the split [B]."""

    images: Tensor
    truth: Truth
    index: Tensor


class DetectionSet(Dataset[tuple[Tensor, Tensor, Tensor, int]]):
    """Records as tensors; asked with (epoch, index), so that a worker keeps no state."""

    def __init__(self, records: list[Record], transform: nn.Module, seed: int) -> None:
        self.records, self.transform, self.seed = records, transform, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, int]:
        """Image [3, S, S] uint8, boxes_xyxy [n, 4], labels [n], index."""
        epoch, index = draw
        record = self.records[index]
        image = tv_tensors.Image(read_image(record))
        boxes = tv_tensors.BoundingBoxes(record.boxes_xyxy, format="XYXY", canvas_size=record.size_hw)  # type: ignore[call-overload]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mixed_seed(self.seed, epoch, index))
            image, boxes = self.transform(image, boxes)
        boxes = boxes.as_subclass(Tensor)
        labels = torch.from_numpy(record.labels)
        visible = (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_PIXELS).all(1)  # a crop leaves boxes of no size behind
        return image.as_subclass(Tensor), boxes[visible], labels[visible], index


def read_image(record: Record) -> Tensor:
    """[3, H, W] uint8 RGB."""
    with Image.open(record.image) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


class EpochSampler(Sampler[tuple[int, int]]):
    """(epoch, index) pairs in an order drawn from (seed, epoch); every rank takes its share."""

    def __init__(self, count: int, seed: int, *, rank: int = 0, ranks: int = 1) -> None:
        self.count, self.seed, self.rank, self.ranks = count, seed, rank, ranks
        self.epoch = 0

    def __len__(self) -> int:
        return len(range(self.rank, self.count, self.ranks))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch, self.count))
        order = torch.randperm(self.count, generator=generator).tolist()
        return ((self.epoch, index) for index in order[self.rank :: self.ranks])


class InOrder(Sampler[tuple[int, int]]):
    """(0, index) for each index, for evaluation."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((0, index) for index in range(self.count))


def collate(items: list[tuple[Tensor, Tensor, Tensor, int]]) -> Batch:
    """Stack images, join boxes."""
    images, boxes, labels, index = zip(*items, strict=True)
    sample = torch.repeat_interleave(torch.tensor([len(part) for part in labels]))
    truth = Truth(torch.cat(boxes).float(), torch.cat(labels), sample)
    return Batch(torch.stack(images).float() / 255, truth, torch.tensor(index))


def make_loader(
    dataset: DetectionSet, sampler: Sampler[tuple[int, int]], batch_size: int, workers: int
) -> DataLoader[Batch]:
    """DataLoader over a sampler of (epoch, index) pairs."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        persistent_workers=workers > 0,
    )
