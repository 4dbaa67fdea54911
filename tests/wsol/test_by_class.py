import numpy as np
import pytest

from wsol.by_class import ClassValue, class_precision
from wsol.judge import Row


def test_average_precision_of_one_box_a_case() -> None:
    ious, labels = np.array([0.9, 0.1, 0.6, 0.5]), np.array([0, 0, 0, 1])
    scores, true = np.array([0.8, 0.7, 0.6, 0.9]), np.array([1, 1, 2, 1])
    # class 0: right, wrong, right, so two of four objects, at precisions 1 and 2/3; class 1: 0.5 is not above 0.5
    assert class_precision(ious, scores, labels, true) == pytest.approx(((1 + 2 / 3) / 4 + 0) / 2)
    assert class_precision(ious, np.array([0.1, 0.9, 0.2, 0]), labels, true) == pytest.approx(
        (2 / 3 + 2 / 3) / 4 / 2
    )  # it falls


def test_the_lowest_of_any_number_of_classes() -> None:
    classes = {f"class {number}": ClassValue(3, abs(number - 30) / 100, 0.5) for number in range(50)}
    row = Row("cam", "e2e", 1, {}, {}, 0, 1, 1, 1, classes)
    assert row.lowest == ("class 30", 0.0)
    assert Row("cam", "e2e", 1, {}, {}, 0, 1, 1, 1).lowest is None
