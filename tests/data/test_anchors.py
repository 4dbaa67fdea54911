from pathlib import Path

import numpy as np

from data.anchors import box_sizes, cluster
from data.records import Record


def test_sizes_are_those_of_the_letterboxed_input() -> None:
    boxes = np.array([[0, 0, 100, 50], [10, 10, 30, 20]], np.float32)
    record = Record(Path("x.jpg"), (200, 400), boxes, np.zeros(2, np.int64), np.zeros(2, bool))
    np.testing.assert_allclose(box_sizes([record], 100), [[25, 12.5], [5, 2.5]])


def test_clusters_are_found_and_sorted() -> None:
    centres = np.array([[4.0 * 1.5**k, 6.0 * 1.5**k] for k in range(9)])
    noise = np.random.default_rng(0).uniform(0.98, 1.02, (20, 9, 2))
    anchors = cluster((noise * centres).reshape(-1, 2))
    np.testing.assert_allclose(anchors, centres, rtol=0.02)
