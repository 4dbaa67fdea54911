from itertools import pairwise

import numpy as np
import pytest

from wsol.acc_afp import Guess, acc_afp, guesses_of, ranked


def box(*corners: float) -> np.ndarray:
    return np.array(corners, np.float32)


TRUTH = [np.array([[0, 0, 10, 10.0]]), np.array([[20, 20, 30, 30], [0, 0, 4, 4.0]]), np.zeros((0, 4))]
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
    wang = acc_afp(walk, TRUTH, 0.5, annotated=8)  # five boxes of other classes; three images
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
    boxes = {"atelectasis": 180, "cardiomegaly": 146, "effusion": 153, "infiltration": 123}
    accuracy = {"atelectasis": 0.6888, "cardiomegaly": 0.9383, "effusion": 0.6601, "infiltration": 0.7073}
    false = (0.8943, 0.5996, 0.8343, 0.6250)
    for name, count in boxes.items():
        found = round(accuracy[name] * count)
        walk = [Guess(image, 0, box(0, 0, 10, 10)) for image in range(found)]
        truth = [np.array([[0, 0, 10, 10.0]])] * count
        assert acc_afp(walk, truth, 0.1, annotated=984).accuracy == pytest.approx(accuracy[name], abs=1e-4)
    assert all(abs(round(own * 984) / 984 - own) < 1e-4 for own in false)
