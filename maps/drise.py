"""D-RISE: what of an image a detection needs, found by hiding parts of it (Petsiuk et al., arXiv 2006.03204)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate, normalize
from torchvision.ops import box_iou

from maps.detector_network import Answers

CELLS = 16  # of a mask in each direction, as in the paper
SHOWN = 0.5  # fraction of the cells that a mask shows, as in the paper
BATCH = 32  # masked images that go through the detector at once


@dataclass(frozen=True)
class Masks:
    """Random masks as in RISE (Petsiuk et al., arXiv 1806.07421): coarse grids, enlarged and shifted by part of a cell.

    Attributes:
        grids: [M, cells, cells] 1 where the image is shown, else 0.
        shifts: [M, 2] down and right, fractions of a cell in [0, 1).
    """

    grids: Tensor
    shifts: Tensor

    @classmethod
    def draw(cls, count: int, seed: int) -> "Masks":
        """So many masks; the first of many are those of few."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.rand(count, CELLS * CELLS + 2, generator=generator)
        return cls((drawn[:, 2:] < SHOWN).float().view(count, CELLS, CELLS), drawn[:, :2])

    def __len__(self) -> int:
        return len(self.grids)

    def at(self, start: int, stop: int, height: int, width: int) -> Tensor:
        """[n, height, width] some of them in 0–1, at the size of an image."""
        cell = (-(-height // CELLS), -(-width // CELLS))
        size = [(CELLS + 1) * side for side in cell]
        large = interpolate(self.grids[start:stop, None], size, mode="bilinear", align_corners=False)[:, 0]
        corners = (self.shifts[start:stop] * torch.tensor(cell)).long().tolist()
        return torch.stack([one[y : y + height, x : x + width] for one, (y, x) in zip(large, corners, strict=True)])


def similarities(answers: Answers, boxes_xyxy: Tensor, classes: Tensor) -> Tensor:
    """[B, n] how well the best prediction of each image agrees with each of some detections (the paper's eq. 2–5).

    IoU of the boxes · cosine of the class probabilities · objectness of the prediction. All predictions take part:
    a threshold or suppression could only drop what some detection agrees with.

    Args:
        boxes_xyxy: [n, 4] of the detections.
        classes: [n, classes] class probabilities of the detections.
    """
    batch, count = answers.objectness.shape
    overlap = box_iou(answers.boxes_xyxy.flatten(0, 1), boxes_xyxy).view(batch, count, -1)
    cosine = normalize(answers.probabilities, dim=2) @ normalize(classes, dim=1).T
    return (overlap * cosine * answers.objectness.sigmoid()[..., None]).amax(1)


@torch.no_grad()
def drise(
    find: Callable[[Tensor], Answers], image: Tensor, boxes_xyxy: Tensor, classes: Tensor, masks: Masks
) -> Tensor:
    """[n, H, W] of an image [3, H, W] in 0–1: mean of the masks weighted by the similarity behind each, over SHOWN.

    What a mask hides is black. All detections of the image share the masked passes.
    """
    height, width = image.shape[1:]
    total = image.new_zeros(len(boxes_xyxy), height, width)
    for start in range(0, len(masks), BATCH):
        shown = masks.at(start, start + BATCH, height, width).to(image)
        answers = find((image * shown[:, None]).contiguous(memory_format=torch.channels_last))
        total += torch.einsum("mn,mhw->nhw", similarities(answers, boxes_xyxy, classes), shown)
    return total / (len(masks) * SHOWN)
