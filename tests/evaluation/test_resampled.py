import numpy as np
import pytest
from test_evaluate import found, record

from data.records import Record
from evaluation.evaluate import coco_evaluation
from evaluation.resampled import Sampled, draws_of, precisions
from utils.boxes import Detections

NAMES = ["a", "b", "c", "never"]
IMAGES = 30


def some(seed: int) -> tuple[list[Record], list[Detections]]:
    """Images with boxes of three classes, some of them difficult, and detections near some boxes and elsewhere."""
    draw, records, guesses = np.random.default_rng(seed), [], []
    for _ in range(IMAGES):
        corners, labels = draw.uniform(0, 300, (draw.integers(0, 4), 2)), draw.integers(0, 3, 9)
        boxes = np.concatenate([corners, corners + draw.uniform(20, 120, corners.shape)], 1)
        records.append(record(boxes.tolist(), labels[: len(boxes)].tolist(), (draw.random(len(boxes)) < 0.1).tolist()))
        others = draw.uniform(0, 300, (draw.integers(0, 6), 2))
        others = np.concatenate([others, others + draw.uniform(20, 120, others.shape)], 1)
        boxes = np.concatenate([boxes + draw.normal(0, 5, boxes.shape), others])
        guesses.append(found(boxes.tolist(), draw.random(len(boxes)).tolist(), labels[: len(boxes)].tolist()))
    return records, guesses


def by_pycocotools(records: list[Record], guesses: list[Detections]) -> np.ndarray:
    """[classes, IoU] average precision, NaN of classes without a box."""
    precision = coco_evaluation(records, guesses, NAMES).eval["precision"][:, :, :, 0, -1]
    means: np.ndarray = np.where(precision > -1, precision, np.nan).mean(1).T
    return means


@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_images_give_what_pycocotools_gives_for_them(seed: int) -> None:
    records, guesses = some(seed)
    weights = draws_of(np.arange(IMAGES), 12, seed)
    found_precisions = precisions(coco_evaluation(records, guesses, NAMES), np.vstack([np.ones(IMAGES), weights]))
    np.testing.assert_allclose(found_precisions[0], by_pycocotools(records, guesses), atol=1e-12)
    assert np.isnan(found_precisions[:, 3]).all()
    for own, counts in zip(found_precisions[1:], weights.astype(int), strict=True):
        drawn = np.repeat(np.arange(IMAGES), counts)
        wanted = by_pycocotools([records[index] for index in drawn], [guesses[index] for index in drawn])
        np.testing.assert_allclose(own, wanted, atol=1e-12)


def test_images_of_a_patient_are_drawn_together() -> None:
    weights = draws_of(np.array([0, 0, 1, 2, 2, 2]), 50)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(1) == 3).all()


def test_nothing_found_is_nothing_precise() -> None:
    records = [record([[0.0, 0, 10, 10]], [0]), record([], [])]
    own = precisions(coco_evaluation(records, [found([], [], [])] * 2, NAMES), np.array([[1.0, 1], [0, 2]]))
    assert own[0, 0].tolist() == [0] * 10
    assert np.isnan(own[1, 0]).all(), "no box in this draw"


@pytest.mark.parametrize(("rare", "patients", "known"), [(3, 30, False), (4, 30, False), (5, 30, True), (30, 4, False)])
def test_a_class_in_few_images_has_no_interval(rare: int, patients: int, known: bool) -> None:
    """Class a is in every image, b in some; c is in all of them as difficult boxes, which nobody has to find.

    Every second image has its boxes found: what all draws agree on would have no interval.
    """
    box, groups = [0.0, 0, 10, 10], np.arange(IMAGES) % patients
    labels = [[0, 1, 2] if image < rare else [0, 2] for image in range(IMAGES)]
    records = [record([box] * len(own), own, [label == 2 for label in own]) for own in labels]
    right = [own if image % 2 else [] for image, own in enumerate(labels)]
    guesses = [found([box] * len(own), [0.9] * len(own), own) for own in right]
    own = Sampled.of(coco_evaluation(records, guesses, NAMES), NAMES, groups, 20)
    low, high = own.interval()
    there = dict(zip(own.names, ~np.isnan(low) & ~np.isnan(high), strict=True))
    assert there["b/map"] == there["b/map50"] == known
    assert there["map"] == there["a/map50"] == (patients >= 5)
    assert not there["c/map50"]
    assert own.minus(own).known[own.names.index("b/map")] == known
    assert own.groups[own.names.index("b/map")] == min(rare, patients), "as many as the figure rests on"
