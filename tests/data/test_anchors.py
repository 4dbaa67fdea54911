from pathlib import Path

import numpy as np
import pytest

from data.anchors import box_sizes, cluster, fit, fitted
from data.records import Record, make_record
from utils.errors import UserError


def test_sizes_are_those_of_the_letterboxed_input() -> None:
    boxes = np.array([[0, 0, 100, 50], [10, 10, 30, 20]], np.float32)
    record = Record(Path("x.jpg"), (200, 400), boxes, np.zeros(2, np.int64), np.zeros(2, bool))
    np.testing.assert_allclose(box_sizes([record], 100), [[25, 12.5], [5, 2.5]])


def test_clusters_are_found_and_sorted() -> None:
    centres = np.array([[4.0 * 1.5**k, 6.0 * 1.5**k] for k in range(9)])
    noise = np.random.default_rng(0).uniform(0.98, 1.02, (20, 9, 2))
    anchors = cluster((noise * centres).reshape(-1, 2))
    np.testing.assert_allclose(anchors, centres, rtol=0.02)


def test_recall_counts_sides_within_a_factor_of_four() -> None:
    sizes = np.array([[10, 10], [39, 10], [41, 10], [10, 2.4]], np.float32)
    recall, overlap = fit(sizes, [(10, 10)] * 9)
    assert recall == 0.5
    assert overlap == pytest.approx(np.mean([1, 10 / 39, 10 / 41, 0.24]))


def test_nine_anchors_want_nine_sizes() -> None:
    boxes = [(0, 0, 10 + n, 20) for n in range(8)]
    with pytest.raises(UserError, match="8 different sizes of boxes for 9 anchors"):
        fitted([make_record(Path("x.jpg"), (100, 100), boxes, [0] * 8)], 100)
    boxes.append((0, 0, 40, 50))
    anchors = fitted([make_record(Path("x.jpg"), (100, 100), boxes, [0] * 9)], 100)
    assert anchors[-1] == (40, 50)
    assert fit(box_sizes([make_record(Path("x.jpg"), (100, 100), boxes, [0] * 9)], 100), anchors) == (1, 1)
