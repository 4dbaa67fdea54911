from itertools import pairwise

import numpy as np
import pytest
from conftest import ROOT

from wsol.acc_afp import Guess, acc_afp, guesses_of, ranked
from wsol.ranked import read_published


def box(*corners: float) -> np.ndarray:
    return np.array(corners, np.float32)


# Four pictures, two of them without the class, and three boxes: what is over boxes is not what is over pictures.
TRUTH = [np.array([[0, 0, 10, 10.0]]), np.array([[20, 20, 30, 30], [0, 0, 4, 4.0]]), *[np.zeros((0, 4))] * 2]
RIGHT, WRONG = Guess(0, 0, box(0, 0, 10, 9)), Guess(1, 0, box(50, 50, 60, 60))
SECOND, ELSEWHERE = Guess(1, 1, box(20, 20, 30, 28)), Guess(2, 0, box(0, 0, 5, 5))


def test_three_boxes_of_a_map_the_surest_first() -> None:
    one = np.zeros((40, 40))
    one[10:30, 10:30], one[12:20, 12:20], one[14:16, 14:16] = 0.3, 0.6, 1
    found = guesses_of(one, 7)
    assert [guess.rank for guess in found] == [0, 1, 2]
    assert [guess.box_xyxy.tolist() for guess in found] == [[14, 14, 16, 16], [12, 12, 20, 20], [10, 10, 30, 30]]
    assert {guess.image for guess in found} == {7}
    flat = np.zeros((40, 40))
    flat[10:30, 10:30] = 1
    assert len(guesses_of(flat, 0)) == 1
    for nothing in (np.zeros((8, 8)), np.full((8, 8), np.nan), -np.ones((8, 8))):
        assert guesses_of(nothing, 0) == []


def test_the_list_goes_by_rank_then_by_image() -> None:
    walk = ranked([SECOND, WRONG, RIGHT, ELSEWHERE], order=[1, 0, 2])
    assert [(guess.image, guess.rank) for guess in walk] == [(1, 0), (0, 0), (2, 0), (1, 1)]


def test_by_hand() -> None:
    walk = ranked([RIGHT, WRONG, SECOND, ELSEWHERE], order=[0, 1, 2])
    every = acc_afp(walk, TRUTH, 0.5)
    assert (every.accuracy, every.afp) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    wang = acc_afp(walk, TRUTH, 0.5, annotated=8)  # five boxes of other classes
    assert (wang.accuracy, wang.afp) == (pytest.approx(2 / 3), pytest.approx(2 / 8))
    bounded = acc_afp(walk, TRUTH, 0.5, bound=0.2)
    assert (bounded.accuracy, bounded.afp) == (pytest.approx(1 / 3), 0)
    assert acc_afp(walk, TRUTH, 0.85).accuracy == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no image has a box"):
        acc_afp(walk, [np.zeros((0, 4))] * 3, 0.5)


def test_a_box_is_found_once() -> None:
    walk = [RIGHT, Guess(0, 1, box(0, 0, 9, 10))]
    assert acc_afp(walk, TRUTH, 0.5).accuracy == pytest.approx(1 / 3)


def test_accuracy_grows_with_the_bound() -> None:
    draw = np.random.default_rng(0)
    corners = draw.integers(0, 20, (60, 2))
    guesses = [Guess(n % 3, n // 3, box(*own, *(own + draw.integers(3, 12, 2)))) for n, own in enumerate(corners)]
    walk = ranked(guesses, [0, 1, 2])
    found = [acc_afp(walk, TRUTH, 0.2, bound=bound) for bound in (0, 0.5, 1, 2, 5, np.inf)]
    assert all(a.accuracy <= b.accuracy and a.afp <= b.afp for a, b in pairwise(found))
    assert all(own.afp <= bound for own, bound in zip(found, (0, 0.5, 1, 2, 5, np.inf), strict=True))


def test_published_figures_are_whole_numbers_over_these() -> None:
    """Wang et al., table 7, at IoU 0.1: accuracies are k over a class's boxes, false positives k over all 984."""
    boxes = {"Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123}
    found = [own for own in read_published(ROOT / "configs" / "chestxray8.csv", list(boxes)) if own.iou == 0.1]
    wrong = [Guess(0, 1, WRONG.box_xyxy)] * 1100
    for own in (own for own in found if own.label in boxes):
        hits = round(own.accuracy * boxes[own.label])
        walk = [*(Guess(image, 0, RIGHT.box_xyxy) for image in range(hits)), *wrong]
        truth = TRUTH[:1] * boxes[own.label]
        walked = acc_afp(walk, truth, own.iou, bound=own.afp, annotated=984)
        assert walked.accuracy == pytest.approx(own.accuracy, abs=1e-4)
        assert walked.afp == pytest.approx(own.afp, abs=1e-4), "it ends neither a box early nor a box late"


def test_published_false_positives_are_cut_off_behind_four_digits() -> None:
    """880 of 984 boxes are 0.89431."""
    walk = [Guess(0, 0, WRONG.box_xyxy)] * 1000
    for bound, count in ((0.8943, 880), (0.8942, 879), (0, 0), (np.inf, 1000)):
        assert acc_afp(walk, TRUTH, 0.5, bound=bound, annotated=984).afp == count / 984
