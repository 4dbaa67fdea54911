"""Records → batches; what is random is drawn from (seed, epoch, index) alone."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision import tv_tensors

from data.images import UnreadableError, record_pixels
from data.mix import Labelled, Mix, make_mosaic, mix_up
from data.records import Record
from data.transforms import MIN_BOX_PIXELS
from utils.boxes import Truth
from utils.seed import mixed_seed, seed_draws

CPU = torch.device("cpu")


@dataclass  # not frozen: Fabric moves it to the device field by field
class Batch:
    """Images of one step.

    Attributes:
        images: [B, C, S, S] float 0–1, RGB or one channel.
        truth: their true boxes in input pixels.
        present: [B, classes] 1 for the classes of the image, else 0.
        index: [B] in the split.
        lost: which pictures could not be read and are not in the batch, and why: (file, reason).
    """

    images: Tensor
    truth: Truth
    present: Tensor
    index: Tensor
    lost: tuple[tuple[str, str], ...] = ()


Item = tuple[Tensor, Tensor, Tensor, Tensor, int]


class DetectionSet(Dataset[Item | tuple[str, str]]):
    """Records as tensors; asked with (epoch, index), so that a worker keeps no state.

    Args:
        seed: of the transform's draws.
        classes: how many there are; 0 where nobody asks for `present`.
        follow: an image's classes are those of the boxes that the transform has left; else of all that are asked for.
            Classes that the data set itself states for the image always stay.
        mix: joins images with others of the set; `present` then counts for the first of them only.
    """

    def __init__(
        self,
        records: list[Record],
        transform: nn.Module,
        seed: int,
        classes: int = 0,
        *,
        follow: bool = True,
        mix: Mix | None = None,
    ) -> None:
        self.records, self.transform, self.seed = records, transform, seed
        self.classes, self.follow, self.mix = classes, follow, mix

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: tuple[int, int]) -> Item | tuple[str, str]:
        """Image [3, S, S] uint8, boxes_xyxy [n, 4], labels [n], present [classes], index.

        Or, where a picture cannot be read any more, its file and why.
        """
        epoch, index = draw
        with torch.random.fork_rng(devices=[]):
            seed_draws(mixed_seed(self.seed, epoch, index), CPU)
            mix = self.mix if self.mix is not None and epoch < self.mix.until else None
            try:
                found = self._mixed(index, mix) if mix else self._changed(self._plain(index))
            except UnreadableError as error:
                return error.problem
        present = self._present(self.records[index], found.labels)
        return found.image, found.boxes_xyxy, found.labels, present, index

    def _mixed(self, index: int, mix: Mix) -> Labelled:
        """The image, or a mosaic that begins with it, perhaps with another one on top."""
        found = self._mosaic(index, mix)
        return mix_up(found, self._mosaic(self._any(1)[0], mix)) if torch.rand(()) < mix.mixup else found

    def _mosaic(self, index: int, mix: Mix) -> Labelled:
        wanted = torch.rand(()) < mix.mosaic
        parts = [self._plain(own) for own in (index, *(self._any(3) if wanted else ()))]
        return self._changed(make_mosaic(parts, mix.imgsz) if wanted else parts[0])

    def _any(self, count: int) -> list[int]:
        """Indices of so many images."""
        return torch.randint(len(self.records), (count,)).tolist()

    def _plain(self, index: int) -> Labelled:
        """The image and its boxes as they are."""
        record = self.records[index]
        boxes, labels = record.boxes_xyxy[record.asked], record.labels[record.asked]
        return Labelled(read_image(record), torch.from_numpy(boxes), torch.from_numpy(labels))

    def _changed(self, item: Labelled) -> Labelled:
        """What the transform makes of an image; boxes of which nothing is left are dropped."""
        size_hw = tuple(item.image.shape[1:])
        boxes = tv_tensors.BoundingBoxes(item.boxes_xyxy, format="XYXY", canvas_size=size_hw)  # type: ignore[call-overload]
        image, boxes = self.transform(tv_tensors.Image(item.image), boxes)
        boxes = boxes.as_subclass(Tensor)
        visible = (boxes[:, 2:] - boxes[:, :2] >= MIN_BOX_PIXELS).all(1)  # a crop leaves boxes of no size behind
        return Labelled(image.as_subclass(Tensor), boxes[visible], item.labels[visible])

    def _present(self, record: Record, visible: Tensor) -> Tensor:
        """[classes] 1 where the image holds the class."""
        present = torch.zeros(self.classes)
        if self.classes:
            present[visible if record.classes is None and self.follow else torch.from_numpy(record.stated)] = 1
        return present


def read_image(record: Record) -> Tensor:
    """[C, H, W] uint8, RGB or one channel."""
    return torch.from_numpy(record_pixels(record)).permute(2, 0, 1).contiguous()


class EpochSampler(Sampler[tuple[int, int]]):
    """(view, index) pairs in an order drawn from (seed, epoch); the ranks share out every batch.

    Batches are the same whatever the number of ranks: each rank takes every ranks-th image of them. Where the ranks
    do not divide the count, up to ranks − 1 images, others in every epoch, are left out.

    Args:
        views: the view is the epoch modulo this; 0 for a view of its own in every epoch.

    Attributes:
        epoch: of the next pass.
        skip: so many of this rank's first images are passed over, once: they were seen before a stop.
    """

    def __init__(self, count: int, seed: int, *, rank: int = 0, ranks: int = 1, views: int = 0) -> None:
        self.count, self.seed, self.rank, self.ranks, self.views = count, seed, rank, ranks, views
        self.epoch = self.skip = 0

    def __len__(self) -> int:
        return self.count // self.ranks

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch, self.count))
        order = torch.randperm(self.count, generator=generator).tolist()
        own = order[self.rank : len(self) * self.ranks : self.ranks]
        view = self.epoch % self.views if self.views else self.epoch
        skip, self.skip = self.skip, 0
        return ((view, index) for index in own[skip:])


class InOrder(Sampler[tuple[int, int]]):
    """(view, index) for each index of each view, or for the rows among these that are asked for."""

    def __init__(self, count: int, rows: Sequence[int] | None = None) -> None:
        self.count, self.rows = count, range(count) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return (divmod(row, self.count) for row in self.rows)


def collate(items: Sequence[Item | tuple[str, str]]) -> Batch:
    """Stack images, join boxes; at least one picture must have been read."""
    read, lost = parted(items)
    if not read:
        nothing = torch.empty(0, 0)
        return Batch(nothing, Truth(nothing, nothing, nothing), nothing, nothing, lost)
    images, boxes, labels, present, index = zip(*read, strict=True)
    sample = torch.repeat_interleave(torch.tensor([len(part) for part in labels]))
    truth = Truth(torch.cat(boxes).float(), torch.cat(labels), sample)
    return Batch(torch.stack(images).float() / 255, truth, torch.stack(present), torch.tensor(index), lost)


def parted(items: Sequence[Any]) -> tuple[list[Any], tuple[tuple[str, str], ...]]:
    """Items that were read, and for the others the file and why."""
    return [item for item in items if len(item) > 2], tuple(item for item in items if len(item) == 2)


def whole(batch: Batch) -> Batch:
    """A batch of which no picture may be missing.

    Raises:
        UnreadableError: one is.
    """
    for where, what in batch.lost:
        raise UnreadableError(where, what)
    return batch


class WholeLoader(DataLoader[Batch]):
    """Batches of which no picture may be missing."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Raise UnreadableError where one is."""
        return map(whole, super().__iter__())


def make_loader(
    dataset: Dataset[Any],
    sampler: Sampler[tuple[int, int]],
    batch_size: int,
    workers: int,
    join: Callable[[list[Any]], Any] = collate,
    *,
    leave_out: bool = False,
) -> DataLoader[Any]:
    """DataLoader over a sampler of (epoch, index) pairs.

    Args:
        join: makes a batch of a list of items.
        leave_out: batches do without pictures that cannot be read any more, and say so [these raise UnreadableError].
    """
    return (DataLoader if leave_out else WholeLoader)(
        dataset,
        batch_size,
        sampler=sampler,
        drop_last=lone_last(sampler, batch_size),
        num_workers=workers,
        collate_fn=join,
        persistent_workers=workers > 0,
        worker_init_fn=let_go,
    )


def lone_last(sampler: Sampler[tuple[int, int]], batch_size: int) -> bool:
    """Whether an epoch of training would end with a batch of one image: BatchNorm cannot take a spread from it.

    That image, another one in every epoch, is left out. Several ranks have one each, and take their spread together.
    """
    if not isinstance(sampler, EpochSampler) or sampler.ranks > 1:
        return False
    return len(sampler) > batch_size > 1 and len(sampler) % batch_size == 1


def let_go(_: int) -> None:
    """In a worker: Ctrl-C is the parent's business, SIGTERM ends the worker as usual, whatever the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
