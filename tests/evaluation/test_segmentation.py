from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score, precision_score, recall_score

from data.images import UnreadableError
from data.masks import MaskFile
from data.records import make_record
from evaluation.segmentation import confusion, count_all, overall, segmentation_metrics, shares
from utils.draw import draw_mask
from utils.letterbox import IGNORED
from utils.palette import palette

CLASSES = 4
NAMES = ["cat", "dog", "hen"]


def pair(draw: np.random.Generator, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    truth, found = draw.integers(0, classes, (2, 17, 23)).astype(np.uint8)
    found[draw.random(found.shape) < 0.6] = truth[0, 0]
    truth[draw.random(truth.shape) < 0.1] = IGNORED
    return truth, found


def test_figures_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(0)
    images = [pair(draw) for _ in range(3)]
    metrics = segmentation_metrics(np.stack([confusion(*own, CLASSES) for own in images]), NAMES)
    truth, found = (np.concatenate([own[side].ravel() for own in images]) for side in (0, 1))
    truth, found = truth[truth != IGNORED], found[truth != IGNORED]
    assert metrics["accuracy"] == pytest.approx(accuracy_score(truth, found))
    own = jaccard_score(truth, found, average=None)
    assert metrics["miou"] == pytest.approx(own.mean())
    assert metrics["weighted_iou"] == pytest.approx(jaccard_score(truth, found, average="weighted"))
    assert metrics["class_accuracy"] == pytest.approx(recall_score(truth, found, average="macro"))
    precision = precision_score(truth, found, average=None)
    for number, (name, row) in enumerate(metrics["per_class"].items()):
        assert name == ["background", *NAMES][number]
        assert row["iou"] == pytest.approx(own[number])
        assert row["precision"] == pytest.approx(precision[number])
        right = int(((truth == number) & (found == number)).sum())
        wrong = int(((truth == number) ^ (found == number)).sum())
        assert row["iou"] == pytest.approx(right / (right + wrong)), "the lecture's n / (n + e)"
    assert np.array_equal(confusion(*images[0], CLASSES), confusion_matrix(*flat(images[0]), labels=range(CLASSES)))


def flat(pair: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    counted = pair[0] != IGNORED
    return pair[0][counted], pair[1][counted]


def test_a_mask_that_is_gone_is_named(tmp_path: Path) -> None:
    record = replace(make_record(tmp_path / "a.jpg", (4, 4)), mask=MaskFile(tmp_path / "a.png"))
    with pytest.raises(UnreadableError, match=r"a\.png: damaged mask \(.*No such file.* — restore it, then continue"):
        list(count_all([record], [np.zeros((4, 4), np.uint8)], 2))
    Image.new("L", (5, 4)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableError, match=r"a\.png: damaged mask \(the mask is of 5×4, its picture of 4×4\)"):
        list(count_all([record], [np.zeros((4, 4), np.uint8)], 2))


def test_a_class_without_pixels_has_no_figure() -> None:
    truth = np.array([[0, 0, 1, IGNORED]], np.uint8)
    matrix = confusion(truth, np.array([[0, 2, 1, 2]], np.uint8), CLASSES)
    assert overall(matrix)["miou"] == pytest.approx((1 / 2 + 1) / 2)
    assert np.isnan(shares(matrix)["iou"][2:]).all()
    assert segmentation_metrics(matrix[None], NAMES)["per_class"]["dog"]["iou"] is None
    assert set(overall(np.zeros_like(matrix)).values()) == {0.0}


def test_intervals_hold_the_figure_and_narrow_with_more_images() -> None:
    draw = np.random.default_rng(0)
    matrices = np.stack([confusion(*pair(draw), CLASSES) for _ in range(40)])
    few, many = (segmentation_metrics(own, NAMES, draws=200) for own in (matrices[:8], matrices))
    for found in (few, many):
        low, high = found["intervals"]["miou"]
        assert low < found["miou"] < high
    width = [found["intervals"]["accuracy"][1] - found["intervals"]["accuracy"][0] for found in (few, many)]
    assert width[1] < width[0]
    groups = np.repeat(np.arange(5), 8)
    grouped = segmentation_metrics(matrices, NAMES, draws=50, groups=groups)["intervals"]
    assert grouped["draws"] == 50
    assert grouped["miou"]
    for own, of in ((matrices, groups // 2), (matrices[:4], None)):  # too few patients, or images
        assert segmentation_metrics(own, NAMES, draws=50, groups=of)["intervals"]["miou"] is None


def test_palette_is_that_of_voc() -> None:
    assert palette()[[0, 1, 15, 20, 255]].tolist() == [
        [0, 0, 0], [128, 0, 0], [192, 128, 128], [0, 64, 128], [224, 224, 192],
    ]  # fmt: skip


def test_drawn_masks_tint_their_pixels_alone() -> None:
    image = np.full((120, 200, 3), 100, np.uint8)
    mask = np.zeros((120, 200), np.uint8)
    mask[60:, 100:] = 2
    drawn = draw_mask(image, mask, NAMES)
    assert (drawn[60:, 100:] == (100 * 0.4 + np.array(palette()[2]) * 0.6).round()).all()
    assert (drawn[60:, :100] == 100).all()
    assert not np.array_equal(drawn[:20, :60], image[:20, :60]), "the legend"
    lettered, numbered = (draw_mask(image, mask, ["cat", name]) for name in ("Äpfel", "1"))
    assert not np.array_equal(lettered, numbered), "there is a font for the name"
