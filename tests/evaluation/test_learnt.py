import numpy as np
import pytest
from scipy.stats import binomtest

from evaluation.classification import bootstrap, resamples
from evaluation.intervals import share_bounds
from evaluation.learnt import figures, groups_of, lesson_in, taken, verdict, why_not
from studies.gate import Lesson, lesson_text, reason


def scored(labels: np.ndarray, right: float, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are best at the label in so many of the cases, and targets."""
    draw = np.random.default_rng(seed)
    targets = np.eye(classes)[labels]
    scores = draw.normal(0, 0.1, targets.shape)
    chosen = np.where(draw.random(len(labels)) < right, labels, draw.integers(0, classes, len(labels)))
    scores[np.arange(len(labels)), chosen] += 1
    return scores, targets


def test_one_that_learnt_and_one_that_guesses() -> None:
    labels = np.arange(400) % 4
    good, guess = (figures(*scored(labels, right, 4), True, np.arange(400)) for right in (0.6, 0.0))
    assert (good["chance"], good["majority"], good["learnt"]) == (0.25, 0.25, 1)
    assert good["low"] < good["accuracy"] < good["high"]
    assert why_not(good, True) is None
    assert guess["learnt"] == 0
    assert (
        why_not(guess, True) == f"the classifiers learnt nothing (top-1 {guess['accuracy']:.2f}, majority class 0.25)"
    )
    assert verdict(guess, True).startswith("learnt nothing: top-1 0.2")
    assert "chance 0.250, majority 0.250" in verdict(good | {"accuracy@96": 0.5}, True)
    assert ", 0.500 at 96 px" in verdict(good | {"accuracy@96": 0.5}, True)


def test_better_than_chance_is_not_enough_below_the_majority() -> None:
    """Nine in ten are of one class; 0.85 right is far above chance, and worse than naming that class."""
    labels = np.where(np.arange(500) % 10 == 0, 1, 0)
    found = figures(*scored(labels, 0.7, 2), True, np.arange(500))
    assert 0.8 < found["accuracy"] < 0.9
    assert found["low"] > found["chance"] == 0.5
    assert (found["majority"], found["learnt"]) == (0.9, 0)


def test_what_the_grey_border_tells_is_not_learnt() -> None:
    labels = np.arange(400) % 2
    answers = (*scored(labels, 0.5, 2), True, np.arange(400))
    own, beside = figures(*answers), figures(*answers, 0.8)
    assert own["learnt"] == 1
    assert "border" not in own
    assert beside == own | {"learnt": 0, "border": 0.8}
    assert verdict(beside, True).endswith("chance 0.500, majority 0.500, grey border 0.800")
    assert why_not(beside, True).endswith("majority class 0.50, grey border 0.80)")


def test_several_labels_are_judged_by_the_auc() -> None:
    draw = np.random.default_rng(0)
    targets = (draw.random((300, 5)) < 0.7).astype(float)
    for weight, learnt in ((1.0, 1), (0.0, 0)):
        found = figures(weight * targets + draw.normal(size=targets.shape), targets, False, np.arange(300))
        assert (found["chance"], found["majority"], found["learnt"]) == (0.5, 0.5, learnt)
    alike = figures(np.zeros((300, 5)), np.ones((300, 5)), False, np.arange(300))
    assert (alike["auc"], alike["learnt"], alike["undefined"]) == (0, 0, 1)
    assert verdict(alike, False).startswith("learnt nothing: AUC not defined, as no class is in some images and not in")
    assert why_not(alike, False) == "the classifiers learnt nothing (AUC not defined)"


def test_few_pictures_prove_nothing() -> None:
    labels = np.arange(40) % 4
    assert figures(*scored(labels, 1.0, 4), True, np.arange(40))["learnt"] == 1
    few = figures(*scored(labels, 1.0, 4), True, np.arange(40) % 3)
    assert few["learnt"] == 0
    assert verdict(few, True).startswith("fewer than 5 images or patients cannot show it: top-1 1.000")
    what = (
        "fewer than 5 images or patients cannot show whether the classifiers learnt (top-1 1.00, majority class 0.25)"
    )
    assert why_not(few, True) == what


@pytest.mark.parametrize(("images", "learnt"), [(5, 0), (10, 0), (20, 1)])
def test_all_right_is_no_proof_where_naming_the_majority_would_be_right_as_well(images: int, learnt: int) -> None:
    """Who names the majority, 0.8 of all, is right on each of five or ten images in 33 % and 11 % of the cases."""
    labels = np.where(np.arange(images) % 5 == 0, 1, 0)
    found = figures(*scored(labels, 1.0, 2), True, np.arange(images))
    assert (found["accuracy"], found["majority"], found["high"], found["learnt"]) == (1, 0.8, 1, learnt)
    exact = binomtest(images, images).proportion_ci(0.95, "exact")
    assert found["low"] == pytest.approx(exact.low)
    (none,) = share_bounds(np.zeros(1), np.zeros((50, 1)), np.zeros((images, 1)), images).T
    assert none.tolist() == pytest.approx([0, 1 - exact.low])


def test_objects_of_one_picture_are_drawn_together() -> None:
    """Each picture five times over: the interval is that of the pictures alone, not of five times as many."""
    labels = np.arange(60) % 4
    scores, targets = scored(labels, 0.5, 4)
    five, groups = np.repeat(np.arange(60), 5), np.repeat(np.arange(60), 5)
    alone = bootstrap(scores, targets, True, 500, 0, ("accuracy",))
    clustered = bootstrap(scores[five], targets[five], True, 500, 0, ("accuracy",), groups)
    assert clustered == alone
    apart = bootstrap(scores[five], targets[five], True, 500, 0, ("accuracy",))["accuracy"]
    assert apart[1] - apart[0] < 0.6 * (alone["accuracy"][1] - alone["accuracy"][0])
    (weights,) = resamples(300, 20, 0, groups)
    assert (weights.reshape(60, 5, 20) == weights.reshape(60, 5, 20)[:, :1]).all()
    assert (weights.sum(0) == 300).all()


def test_groups_are_counted_from_nought(records_of_two_patients: list) -> None:
    assert groups_of(records_of_two_patients).tolist() == [0, 1, 0]


@pytest.fixture
def records_of_two_patients() -> list:
    from pathlib import Path

    from data.records import make_record

    return [make_record(Path(f"{n}.png"), (8, 8), group=own) for n, own in enumerate(("p1", "p2", "p1"))]


def test_what_a_table_says_of_backbones() -> None:
    learnt, nothing = Lesson("accuracy", 0.93, True), Lesson("auc", 0.53, False)
    assert lesson_text([learnt, learnt, None]) == "top-1 0.930"
    assert lesson_text([nothing]) == "AUC 0.530, learnt nothing"
    assert lesson_text([None]) == "–"
    assert reason([None, learnt]) is None
    assert reason([learnt, nothing]) == "the classifiers learnt nothing (AUC 0.53)"
    row = dict(zip(Lesson.COLUMNS, nothing.cells(), strict=True))
    assert Lesson.of(row) == nothing
    assert Lesson.of({"figure": ""}) is None
    stage = {"accuracy": 0.9, "learnt": 1.0, "chance": 0.1, "majority": 0.2, "border": 0.75}
    bordered = Lesson.at(stage, "accuracy")
    assert Lesson.of(dict(zip(Lesson.COLUMNS, bordered.cells(), strict=True))) == bordered
    assert lesson_text([bordered, learnt]) == "top-1 0.915 (0.750)"
    few = Lesson.at({"accuracy": 0.9, "learnt": 0.0, "few": 1.0}, "accuracy")
    assert Lesson.of(dict(zip(Lesson.COLUMNS, few.cells(), strict=True))) == few
    what = "fewer than 5 images or patients cannot show"
    assert reason([learnt, few]) == f"{what} whether the classifiers learnt (top-1 0.90)"
    assert lesson_text([learnt, few]) == f"top-1 0.915, {what} it"


def test_a_study_may_ask_for_an_auc() -> None:
    weak, strong = (Lesson.at({"accuracy": 0.5, "auc": auc, "learnt": 1.0}, "accuracy") for auc in (0.85, 0.9))
    before = Lesson.of({"figure": "accuracy", "pretrained": "0.5", "learnt": "yes"})  # a table without the column
    assert reason([weak, strong, before]) is None
    assert reason([strong, weak], 0.9) == "the classifiers reached an AUC of 0.850, not 0.9"
    assert reason([strong, None], 0.9) is None
    assert reason([before], 0.9) == "the AUC of the classifiers is not recorded, and 0.9 is asked for"
    assert Lesson.of(dict(zip(Lesson.COLUMNS, weak.cells(), strict=True))) == weak


def test_stages_that_a_cut_takes_over() -> None:
    stages = [{"cut": 11.0}, {"cut": 19.0}, {"cut": 23.0}]
    assert [len(taken(stages, upto)) for upto in (None, "b11", "b19", "b23", "b5")] == [3, 1, 2, 3, 3]
    content = {"method": "cl3", "single_label": False, "metrics": stages}
    assert lesson_in(content, "b19") == {"method": "cl3", "judged_by": "auc", "cut": 19.0}
    assert lesson_in({"lesson": {"method": "cl3"}}, None) == {"method": "cl3"}, "of a detector"
    for older in ({}, {"method": "cl3", "metrics": stages}, content | {"metrics": [{"auc": 0.9}]}):
        assert lesson_in(older, "b11") == {}
