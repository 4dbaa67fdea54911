import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.metrics import average_precision_score

from wsol.box_accuracy import DELTAS, box_accuracy, inclusive_iou, pixel_average_precision


def blobs(count: int, side: int = 56, seed: int = 0) -> np.ndarray:
    """Smooth maps in 0–1, with several hills and holes."""
    draw = np.random.default_rng(seed)
    maps = gaussian_filter(draw.normal(size=(count, side, side)), (0, 4, 4))
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return np.asarray((maps - low) / (high - low))


def boxes_for(count: int, side: int = 56, seed: int = 1) -> list[np.ndarray]:
    """One to three true boxes each, in pixels that include both corners."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        corners = np.sort(draw.integers(0, side, (draw.integers(1, 4), 2, 2)), 1)
        found.append(corners.reshape(-1, 4)[:, [0, 1, 2, 3]].astype(float))
    return found


def published(maps: np.ndarray, boxes: list[np.ndarray], *, all_contours: bool) -> np.ndarray:
    """[deltas, 1000] by every one of a thousand thresholds, as the published evaluator does it."""
    side = maps.shape[1]
    hits = np.zeros((len(DELTAS), 1000))
    for one, own in zip(maps, boxes, strict=True):
        levels = (one * 255).astype(np.uint8)
        for number in range(1000):
            threshold = int(number / 1000 * levels.max())
            binary = cv2.threshold(levels, threshold, 255, cv2.THRESH_BINARY)[1]
            contours = list(cv2.findContours(binary, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0])
            if not all_contours and contours:
                contours = [max(contours, key=cv2.contourArea)]
            guesses = [[0, 0, 0, 0]] if not contours else []
            for contour in contours:
                x, y, w, h = cv2.boundingRect(contour)
                guesses.append([x, y, min(x + w, side - 1), min(y + h, side - 1)])
            best = max(overlap(guess, true) for guess in guesses for true in own)
            hits[:, number] += [best >= delta for delta in DELTAS]
    return hits / len(maps)


def overlap(one: list[int], other: np.ndarray) -> float:
    """IoU of two boxes whose corners belong to them."""
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0] + 1) * (box[3] - box[1] + 1) for box in (one, other)]
    return float(width * height / (sum(areas) - width * height))


@pytest.mark.parametrize("all_contours", [True, False])
def test_equals_a_thousand_thresholds(all_contours: bool) -> None:
    maps, boxes = blobs(12), boxes_for(12)
    own = box_accuracy(maps, boxes, all_contours=all_contours)
    wanted = published(maps, boxes, all_contours=all_contours)
    np.testing.assert_allclose(own.by_threshold, wanted, atol=1e-9)
    assert own.best == pytest.approx(wanted.max(1).mean(), abs=1e-9)
    assert own.at(own.tau) == pytest.approx(wanted.mean(0).max(), abs=1e-9)
    assert own.best >= own.at(own.tau)


def test_all_contours_find_at_least_as_much() -> None:
    maps, boxes = blobs(8, seed=3), boxes_for(8, seed=4)
    every, largest = (box_accuracy(maps, boxes, all_contours=own).by_threshold for own in (True, False))
    assert (every >= largest).all()


def test_inclusive_boxes() -> None:
    one = np.array([[0, 0, 9, 9.0]])
    assert inclusive_iou(one, one)[0, 0] == 1
    assert inclusive_iou(one, np.array([[5, 0, 14, 9.0]]))[0, 0] == pytest.approx(50 / 150)


def test_pixel_average_precision_is_scikit_learns() -> None:
    draw = np.random.default_rng(0)
    maps, truth = draw.integers(0, 90, (3, 20, 20)), draw.random((3, 20, 20)) > 0.7
    pixels, right = (np.bincount(own, minlength=256) for own in (maps.ravel(), maps[truth]))
    wanted = average_precision_score(truth.ravel(), maps.ravel())
    assert pixel_average_precision(pixels, right) == pytest.approx(wanted, abs=1e-12)
    with pytest.raises(ValueError, match="no pixel"):
        pixel_average_precision(pixels, np.zeros_like(pixels))
