"""Pictures with masks for training; what is random in an image depends on (seed, epoch, index) alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors

from data.images import UnreadableError
from data.loader import CPU, parted, read_image
from data.masks import mask_pixels
from data.records import Record
from utils.seed import mixed_seed, seed_draws

Item = tuple[Tensor, Tensor, int]


@dataclass  # not frozen: Fabric moves it to the device field by field
class MaskBatch:
    """Images of one step.

    Attributes:
        images: [B, 3, S, S] float RGB 0–1.
        masks: [B, S, S] int64: 0 is the background, n the n-th class, 255 does not count.
        index: [B] in the split.
        lost: as in data.loader.Batch.
    """

    images: Tensor
    masks: Tensor
    index: Tensor
    lost: tuple[tuple[str, str], ...] = ()


class MaskSet(Dataset[Item | tuple[str, str]]):
    """Records with masks as tensors; asked with (epoch, index), so that a worker keeps no state.

    Args:
        seed: of the transform's draws.
    """

    def __init__(self, records: list[Record], transform: nn.Module, seed: int) -> None:
        self.records, self.transform, self.seed = records, transform, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: tuple[int, int]) -> Item | tuple[str, str]:
        """Image [3, S, S] and mask [S, S] uint8, index; or, where one cannot be read any more, the file and why."""
        epoch, index = draw
        record = self.records[index]
        try:
            image, mask = read_image(record), torch.from_numpy(mask_pixels(record))
        except UnreadableError as error:
            return error.problem
        with torch.random.fork_rng(devices=[]):
            seed_draws(mixed_seed(self.seed, epoch, index), CPU)
            image, mask = self.transform(tv_tensors.Image(image), tv_tensors.Mask(mask))
        return image.as_subclass(Tensor), mask.as_subclass(Tensor), index


def join_masks(items: Sequence[Item | tuple[str, str]]) -> MaskBatch:
    """Stack images and masks."""
    read, lost = parted(items)
    if not read:
        nothing = torch.empty(0, 0)
        return MaskBatch(nothing, nothing, nothing, lost)
    images, masks, index = zip(*read, strict=True)
    return MaskBatch(torch.stack(images).float() / 255, torch.stack(masks).long(), torch.tensor(index), lost)
