import tracemalloc

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score

from maps.cases import Cases
from maps.overlap import box_mask
from wsol.box_accuracy import box_accuracy
from wsol.map_values import Levels, best_threshold, in_steps


def drawn(count: int, side: int = 32, seed: int = 0) -> tuple[np.ndarray, Cases]:
    """Smooth maps, and cases of one or two boxes."""
    draw = np.random.default_rng(seed)
    maps = gaussian_filter(draw.normal(size=(count, side, side)), (0, 3, 3))
    corners = [np.sort(draw.integers(0, side, (draw.integers(1, 3), 2, 2)), 1).reshape(-1, 4) for _ in range(count)]
    boxes = [(own + np.array([0, 0, 1, 1])).astype(np.float32) for own in corners]
    truth = np.stack([box_mask(own, side, side) for own in boxes])
    labels = torch.zeros(count, dtype=torch.long)
    return maps, Cases(torch.zeros(count, 1), labels, truth, boxes, np.arange(count))


def batches(maps: np.ndarray, cases: Cases, size: int) -> list[tuple[np.ndarray, Cases]]:
    """The same, some at a time."""
    starts = range(0, len(maps), size)
    return [(maps[own : own + size], cases.at(range(len(maps))[own : own + size])) for own in starts]


def test_batches_are_worth_what_all_maps_are_together() -> None:
    """Against all maps at once, each pixel ordered by scikit-learn."""
    maps, cases = drawn(20)
    maps[3], maps[4, 0, 0] = 1, np.nan
    found = in_steps(maps)
    tau = best_threshold(batches(maps, cases, 3))
    own = Levels(tau)
    for part in batches(maps, cases, 7):
        own.add(*part)
    one, whole = own.values(), Levels(tau)
    whole.add(maps, cases)
    inclusive = [boxes - np.array([0, 0, 1, 1]) for boxes in cases.boxes]
    wanted = box_accuracy(found / 255, inclusive)
    assert (tau, one.v2_best) == (wanted.tau, wanted.best)
    assert one.v2 is not None
    assert one.v2.mean() == pytest.approx(wanted.by_threshold.mean(0).max())
    assert one.pixel_ap == pytest.approx(average_precision_score(cases.truth.ravel(), found.ravel()), abs=1e-12)
    other = whole.values()
    for name in ("v2", "loose", "tight", "hits", "false"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert [(own.image, own.rank, own.box_xyxy.tolist()) for own in one.guesses] == [
        (own.image, own.rank, own.box_xyxy.tolist()) for own in other.guesses
    ]
    assert len(one.truth) == 20


def test_no_map_is_kept() -> None:
    _, cases = drawn(4, side=128)
    slope = np.hypot(*np.mgrid[-64:64, -64:64])
    maps = np.stack([-slope] * 4)
    own = Levels(0.2)
    own.add(maps, cases)
    tracemalloc.start()
    for _ in range(5):
        own.add(maps, cases)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 5 * maps.size / 2  # a byte for each pixel would be twice as much
