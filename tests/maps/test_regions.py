"""What a convolution on frozen features can learn, and that it has learnt it when its training ends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maps.regions import CELLS, Grid, average_boxes, constant_box, fitted, fresh
from models.yolov1 import cell_truth, decode
from utils.boxes import Truth

SIDE = 70
NAMED: Any = SimpleNamespace(line="cl6", seed=0, file=SimpleNamespace(cuts=(1, 2)))


def grid(draw: np.random.Generator, count: int) -> Grid:
    """One box an image: most large and near the middle."""
    size, centre = draw.uniform(20, 60, (count, 2)), draw.normal(SIDE / 2, 8, (count, 2))
    boxes = torch.tensor(np.concatenate([centre - size / 2, centre + size / 2], 1).clip(0, SIDE), dtype=torch.float32)
    truth = cell_truth(Truth(boxes, torch.zeros(count, dtype=torch.long), torch.arange(count)), count, CELLS, SIDE)
    return Grid(truth, [own[None] for own in boxes], np.arange(count), SIDE, "")


def features(draw: np.random.Generator, own: Grid) -> list[Tensor]:
    """Nothing but noise; and the place and the size of each box, beside noise."""
    noise = torch.tensor(draw.normal(size=(len(own.boxes), 8, CELLS, CELLS)), dtype=torch.float32)
    known = own.truth.has[:, None] * torch.cat(
        [torch.ones(len(noise), 1, CELLS, CELLS), own.truth.boxes.movedim(3, 1)], 1
    )
    return [noise, torch.cat([noise, known], 1)]


def test_features_that_know_the_boxes_find_them() -> None:
    """Of a few hundred pictures: twenty passes over them would leave half of it unlearnt."""
    draw = np.random.default_rng(0)
    train, test = grid(draw, 200), grid(draw, 200)
    learnt, seen = features(draw, train), features(draw, test)
    nothing, known = fitted(NAMED, 0, lambda: [learnt, seen], train, test)["miou"]
    assert nothing < constant_box(train, test).miou < known - 0.3


def test_it_begins_with_average_boxes() -> None:
    own = grid(np.random.default_rng(1), 300)
    small, large = average_boxes(own.truth).reshape(2, 5)
    roots = own.truth.boxes[own.truth.has][:, 2:].sqrt()
    assert torch.all(small[2:4] < roots.mean(0))
    assert torch.all(roots.mean(0) < large[2:4])
    assert (small[4] + large[4]).item() == pytest.approx(1 / CELLS**2), "one box an image"
    raw = fresh(torch.randn(300, 8, CELLS, CELLS), own.truth)(torch.randn(2, 8, CELLS, CELLS))
    assert torch.equal(raw[0], raw[1])
    assert len({tuple(found.boxes_xyxy[0].tolist()) for found in decode(raw, SIDE)}) == 1
