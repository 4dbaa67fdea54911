import warnings

import numpy as np
import pytest
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.svm import LinearSVC

from utils.errors import UserError
from wsol.svm import Validated, fit_svm, fit_tags, folds_of, quality, unit, validated


def planted(classes: int, count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Features [count, 8] that know their class, and the classes."""
    draw, labels = np.random.default_rng(0), np.arange(count) % classes + 3
    return draw.normal(size=(count, 8)) + labels[:, None] * np.eye(8)[labels % 8], labels


@pytest.mark.parametrize("classes", [2, 4])
def test_decisions_are_scikit_learns(classes: int) -> None:
    features, labels = planted(classes)
    own, theirs = fit_svm(features, labels), LinearSVC(C=1.0).fit(unit(features), labels)
    np.testing.assert_array_equal(own.predict(features), theirs.predict(unit(features)))
    if classes > 2:
        np.testing.assert_allclose(own.scores(features), theirs.decision_function(unit(features)), atol=1e-6)
    with pytest.raises(UserError, match="one class"):
        fit_svm(features, np.zeros(60))


def test_scores_of_held_out_folds_are_scikit_learns() -> None:
    """Without classes to share out evenly the folds are the same ones for both."""
    features, labels = planted(4)
    truth = labels[:, None] == np.arange(3, 7)
    fold = folds_of(truth, 3, exclusive=False)
    parts = [(np.flatnonzero(fold != own), np.flatnonzero(fold == own)) for own in range(3)]
    found = validated(features, truth, exclusive=False, penalties=(0.1, 1.0), folds=3, workers=2)
    for penalty, value in found.scores.items():
        theirs = cross_val_predict(LinearSVC(C=penalty), unit(features), labels, cv=parts, method="decision_function")
        assert value == pytest.approx(quality(theirs, truth, False), abs=1e-6)
    assert KFold(3).get_n_splits() == len(parts)
    assert found.unsettled == 0


def test_the_penalty_is_the_best_and_of_equals_the_smallest() -> None:
    assert Validated({10.0: 0.5, 0.1: 0.5, 1.0: 0.4}, 0).penalty == 0.1


def test_noise_wants_a_small_penalty() -> None:
    """Where a third of the labels is wrong, a large C learns them by heart."""
    draw = np.random.default_rng(1)
    truth = np.eye(2, dtype=bool)[np.arange(80) % 2]
    features = draw.normal(size=(80, 40)) + 2 * truth[:, :1] * np.eye(40)[0]
    wrong = draw.permutation(80)[:26]
    truth[wrong] = ~truth[wrong]
    found = validated(features, truth, exclusive=True, penalties=(0.01, 100.0), workers=1)
    assert found.penalty == 0.01


def test_classes_are_shared_out_evenly() -> None:
    truth = np.repeat(np.eye(3, dtype=bool), [10, 5, 15], axis=0)
    fold = folds_of(truth, 5, exclusive=True)
    assert [[int(truth[fold == own, label].sum()) for own in range(5)] for label in range(3)] == [
        [2] * 5,
        [1] * 5,
        [3] * 5,
    ]


def test_tags_that_all_or_none_have_are_not_learned() -> None:
    features, truth = np.random.default_rng(0).normal(size=(20, 4)), np.zeros((20, 3), bool)
    truth[:, 0], truth[:7, 2] = True, True
    own, _ = fit_tags(features, truth)
    assert own.classes.tolist() == [2]
    with pytest.raises(UserError, match="one class, or none"):
        fit_tags(features, truth[:, :2])
    with pytest.raises(UserError, match="3 images"):
        validated(features[:3], truth[:3], exclusive=False)


def test_tags_that_were_not_learned_do_not_count() -> None:
    """A tag without any score, in the middle of the others, leaves the mean of these as it is."""
    draw = np.random.default_rng(0)
    scores, truth = draw.normal(size=(40, 3)), draw.random((40, 3)) < 0.4
    wanted = quality(scores[:, [0, 2]], truth[:, [0, 2]], False)
    scores[:, 1] = -np.inf
    assert quality(scores, truth, False) == wanted


def test_one_fold_validates_nothing() -> None:
    features, labels = planted(2)
    with pytest.raises(UserError, match="--folds: 1 folds leave nothing to learn from — give 2 or more"):
        validated(features, labels[:, None] == np.arange(3, 5), exclusive=True, folds=1)


def test_images_of_one_group_are_in_one_fold() -> None:
    """Copies of an image in two folds would be known by heart: labels at random are then guessed right."""
    draw = np.random.default_rng(0)
    groups, features = np.repeat(np.arange(30), 4), np.repeat(draw.normal(size=(30, 40)), 4, 0)
    truth = np.eye(2, dtype=bool)[np.repeat(draw.permutation(30) % 2, 4)]
    apart, together = (
        max(validated(features, truth, exclusive=True, groups=own, workers=1).scores.values()) for own in (None, groups)
    )
    assert apart > 0.95
    assert together < 0.8


def test_threads_count_what_does_not_converge() -> None:
    """As one thread does, and the filters of warnings are afterwards what they were."""
    draw = np.random.default_rng(2)
    features = draw.normal(size=(60, 3)) @ draw.normal(size=(3, 80))  # not to be separated
    truth = draw.random((60, 2)) < 0.5
    before = list(warnings.filters)
    one, four = (
        validated(features, truth, exclusive=False, penalties=(0.01, 1e5), folds=3, workers=count).unsettled
        for count in (1, 4)
    )
    assert one == four == 6
    assert list(warnings.filters) == before
