import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score, top_k_accuracy_score

from evaluation import classification
from evaluation.classification import METRICS, bootstrap, classification_metrics, resamples, weighted_metrics
from evaluation.intervals import MOST_LEFT_OUT


def drawn(seed: int, images: int, classes: int, single_label: bool, levels: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Scores of few distinct values, so that many are equal, and targets; some classes are rare."""
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels + 1, (images, classes)).astype(np.float32) / 2
    if single_label:
        share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
        return scores, np.eye(classes)[generator.choice(classes, images, p=share)]
    return scores, (generator.random((images, classes)) < np.linspace(0.02, 0.9, classes)).astype(float)


def by_sklearn(scores: np.ndarray, targets: np.ndarray, single_label: bool) -> dict[str, float]:
    """The slow twin: the rank measures and, single-label, the error by scikit-learn; the rest image by image."""
    # Rounding decides whether permuted logits tie: the twin has to round alike.
    ranks = log_softmax(scores.astype(np.float64), axis=1) if single_label else scores
    varying = [label for label in range(targets.shape[1]) if 0 < targets[:, label].sum() < len(targets)]
    found = {
        name: float(np.mean([measure(targets[:, label], ranks[:, label]) for label in varying]))
        for name, measure in (("auc", roc_auc_score), ("map", average_precision_score))
        if varying
    }
    order = np.array([sorted(range(len(row)), key=lambda label, row=row: (-row[label], label)) for row in scores])
    judged = [number for number, row in enumerate(targets) if row.any()]
    for name, k in (("accuracy", 1), ("top5", 5)):
        if judged and (k == 1 or scores.shape[1] > 5):
            found[name] = float(np.mean([targets[number, order[number, :k]].any() for number in judged]))
    if "accuracy" in found:
        found["error"] = 1 - found["accuracy"]
    if single_label:
        with warnings.catch_warnings():  # it says so when a class is predicted that does not occur
            warnings.simplefilter("ignore")
            found["balanced_error"] = 1 - balanced_accuracy_score(targets.argmax(1), order[:, 0])
    elif varying:
        said = scores > 0
        errors = [
            ((~said)[targets[:, label] == 1, label].mean() + said[targets[:, label] == 0, label].mean()) / 2
            for label in varying
        ]
        found["balanced_error"] = float(np.mean(errors))
    return found


@pytest.mark.parametrize("single_label", [True, False])
@pytest.mark.parametrize("classes", [2, 5, 8])
def test_figures_are_scikit_learns(single_label: bool, classes: int) -> None:
    scores, targets = drawn(classes, 90, classes, single_label)
    found = classification_metrics(scores, targets, single_label)
    assert found == pytest.approx(by_sklearn(scores, targets, single_label), abs=1e-9)
    assert ("top5" in found) == (classes > 5)


@pytest.mark.parametrize("single_label", [True, False])
def test_a_draw_is_the_measure_of_the_resampled_images(single_label: bool) -> None:
    scores, targets = drawn(3, 40, 7, single_label)
    (weights,) = resamples(40, 60, seed=5)
    fast = weighted_metrics(scores, targets, single_label, weights, METRICS)
    missing = 0
    for draw in range(60):
        rows = np.repeat(np.arange(40), weights[:, draw].astype(int))
        missing += (targets[rows].sum(0) == 0).any()
        slow = by_sklearn(scores[rows], targets[rows], single_label)
        assert {name: values[draw] for name, values in fast.items()} == pytest.approx(slow, abs=1e-9)
    assert missing > 5  # classes that a resample lacks were among it


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**16), st.integers(2, 12), st.integers(1, 7), st.booleans(), st.integers(0, 2), st.integers(1, 4)
)
def test_small_and_lopsided_sets(
    seed: int, images: int, classes: int, single_label: bool, levels: int, times: int
) -> None:
    scores, targets = drawn(seed, images, classes, single_label, levels)
    once = classification_metrics(scores, targets, single_label)
    assert once == pytest.approx(by_sklearn(scores, targets, single_label), abs=1e-9)
    assert all(0 <= value <= 1 for value in once.values())
    repeated = classification_metrics(np.tile(scores, (times, 1)), np.tile(targets, (times, 1)), single_label)
    assert repeated == pytest.approx(once, abs=1e-9)


@given(st.integers(0, 2**16))
def test_ranks_do_not_see_a_monotone_change(seed: int) -> None:
    scores, targets = drawn(seed, 30, 4, single_label=False)
    once = classification_metrics(scores, targets, False)
    bent = classification_metrics(np.exp(scores) - 1, targets, False)  # keeps the sign too
    assert bent == pytest.approx(once)


def test_multi_label_by_hand() -> None:
    targets = np.array([[1, 0], [0, 0], [1, 1], [0, 0]])
    scores = np.array([[2.0, 3.0], [1, -1], [-0.5, -2], [-1, -3]])
    found = classification_metrics(scores, targets, False)
    # Two images have a class: the first is taken for the second class, the third rightly for the first.
    assert found["accuracy"] == 0.5
    # First class: one of two missed, one of two false. Second: its one image missed, one of three false.
    assert found["balanced_error"] == pytest.approx(((1 / 2 + 1 / 2) / 2 + (1 + 1 / 3) / 2) / 2)
    # First class: 2 > 1 > −0.5 > −1 is + − + −; second: 3 > −1 > −2 > −3 is − − + −.
    assert found["auc"] == pytest.approx((3 / 4 + 1 / 3) / 2)
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert "top5" not in found


def test_single_label_by_hand() -> None:
    targets = np.eye(3)[[0, 0, 0, 1]]
    scores = np.array([[5.0, 1, 1], [2, 1, 0], [0, 1, 0], [0, 3, 9]])
    found = classification_metrics(scores, targets, True)
    assert found["accuracy"] == 0.5
    assert found["balanced_error"] == pytest.approx(1 - (2 / 3 + 0) / 2)  # the third class does not occur
    # First class: all three before the other. Second: by softmax its one image comes last, by the logit it were first.
    assert found["auc"] == (1 + 0) / 2
    assert found["map"] == (1 + 1 / 4) / 2


def test_top_five() -> None:
    scores = np.arange(8.0)[None].repeat(2, 0)
    targets = np.eye(8)[[3, 2]]
    found = classification_metrics(scores, targets, True)
    assert found["top5"] == 0.5 == top_k_accuracy_score([3, 2], scores, k=5, labels=range(8))


@pytest.mark.parametrize(("targets", "left"), [(np.zeros((3, 2)), set()), (np.ones((3, 2)), {"accuracy", "error"})])
def test_what_is_undefined_is_absent(targets: np.ndarray, left: set[str]) -> None:
    scores = np.arange(6.0).reshape(3, 2)
    assert set(classification_metrics(scores, targets, False)) == left
    assert set(bootstrap(scores, targets, False, 20, 0)) == left


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        classification_metrics(np.array([[np.nan, 0]]), np.array([[1, 0]]), True)


def test_resamples_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = resamples(20, 10, seed=1)
    monkeypatch.setattr(classification, "CHUNK_NUMBERS", 60)
    parts = list(resamples(20, 10, seed=1))
    assert [part.shape for part in parts] == [(20, 3)] * 3 + [(20, 1)]
    np.testing.assert_array_equal(np.concatenate(parts, 1), whole)
    assert (whole.sum(0) == 20).all()


def test_intervals_are_the_binomial_ones() -> None:
    hit = np.arange(1000) < 700
    scores = np.where(hit[:, None], [1.0, 0.0], [0.0, 1.0])
    low, high = bootstrap(scores, np.eye(2)[np.zeros(1000, int)], True, 2000, 0, ["accuracy"])["accuracy"]
    spread = 1.96 * np.sqrt(0.7 * 0.3 / 1000)
    assert (low, high) == pytest.approx((0.7 - spread, 0.7 + spread), abs=0.004)


@pytest.mark.parametrize("patients", [5, 12])
def test_coverage_with_few_patients(patients: int) -> None:
    """Nominal 95 % covers 93 % at least, of accuracy over patients with four pictures each; percentiles 86 % of five.

    The bar is a standard error of 600 trials below.
    """
    draw, trials = np.random.default_rng(patients), 600
    groups, targets, covered = np.repeat(np.arange(patients), 4), np.eye(2)[np.zeros(4 * patients, int)], 0
    for _ in range(trials):
        right = draw.random(len(groups)) < draw.beta(2, 2, patients)[groups]
        scores = np.where(right[:, None], [1.0, 0.0], [0.0, 1.0])
        low, high = bootstrap(scores, targets, True, 300, 0, ["accuracy"], groups)["accuracy"]
        covered += low <= 0.5 <= high
    assert covered / trials >= 0.93 - 0.01


def test_many_images_are_not_left_out_one_by_one() -> None:
    """Of few, BCa leans to the side that they do; of many there is nothing to see of that."""
    scores, targets = drawn(1, 2 * MOST_LEFT_OUT, 4, single_label=True)
    every, some = (bootstrap(scores[:n], targets[:n], True, 400, 0) for n in (len(scores), MOST_LEFT_OUT))
    assert set(every) == set(some)
    for name, (low, high) in every.items():
        own = classification_metrics(scores, targets, True)[name]
        assert 0 <= low <= own <= high <= 1
        assert high - low < some[name][1] - some[name][0]


def test_only_what_is_asked_for_and_the_same_each_time() -> None:
    scores, targets = drawn(0, 50, 6, single_label=False)
    every = bootstrap(scores, targets, False, 100, 3)
    assert set(every) == set(METRICS)
    assert bootstrap(scores, targets, False, 100, 3, ["auc"]) == {"auc": every["auc"]}
    assert bootstrap(scores, targets, False, 100, 4)["auc"] != every["auc"]
    assert bootstrap(scores, targets, False, 0, 3) == {}


def test_a_thousand_draws_take_seconds() -> None:
    scores, targets = drawn(0, 2000, 10, single_label=True, levels=100_000)
    began = time.monotonic()
    bootstrap(scores, targets, True, 1000, 0)
    assert time.monotonic() - began < 20
