from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from data.description import load_description
from data.formats import read_split
from evaluation.predict import predict_split
from models import Found, Thresholds, load_detector
from utils.errors import UserError


def best(project: Path) -> Path:
    return next((project / "train").glob("*/weights/best.pt"))


def same(one: Found, other: Found) -> bool:
    pairs = ((one.boxes_xyxy, other.boxes_xyxy), (one.scores, other.scores), (one.labels, other.labels))
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_finds_what_evaluation_finds(overfitted: Path, scenes_yaml: Path) -> None:
    detector, records = load_detector(best(overfitted)), read_split(load_description(scenes_yaml), "train").records
    thresholds = Thresholds(0.25, 0.45, multi_label=False)
    wanted = list(predict_split(detector.outputs, records, detector.imgsz, thresholds))
    found = detector.predict([record.image for record in records], batch_size=3)
    assert sum(len(item.scores) for item in found) > 10
    for item, other in zip(found, wanted, strict=True):
        assert same(item, Found(**vars(other), names=[]))
        assert item.names == [detector.names[label] for label in item.labels.tolist()]


def test_paths_and_arrays_of_any_size(overfitted: Path, scenes: Path) -> None:
    detector = load_detector(str(best(overfitted)))
    path = next((scenes / "JPEGImages").glob("train*.jpg"))
    array = np.asarray(Image.open(path).convert("RGB"))
    wide = np.zeros((100, 300, 3), np.uint8)
    one, other, nothing = detector.predict([str(path), array, wide])
    assert same(one, other)
    assert len(one.scores)
    assert len(nothing.scores) == 0 or float(nothing.boxes_xyxy[:, 3].max()) <= 100
    assert detector.predict([]) == []


def test_threads_share_a_detector(overfitted: Path, scenes: Path) -> None:
    detector, paths = load_detector(best(overfitted)), sorted((scenes / "JPEGImages").glob("train*.jpg"))[:4]
    alone = [detector.predict([path])[0] for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: detector.predict([path])[0], paths * 3))
    assert all(same(one, other) for one, other in zip(together, alone * 3, strict=True))


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        ("none.jpg", "none.jpg: cannot be read as an image"),
        (np.zeros((4, 4, 3)), "an array of float64"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\] — give \[H, W, 3\]"),
        (np.zeros((3, 4, 4), np.uint8), r"\[3, 4, 4\] — give"),
    ],
)
def test_what_is_no_picture_is_told(overfitted: Path, picture: object, what: str) -> None:
    with pytest.raises(UserError, match=what):
        load_detector(best(overfitted)).predict([picture])  # type: ignore[list-item]


def test_one_picture_alone_is_a_mistake(overfitted: Path) -> None:
    with pytest.raises(TypeError, match="give a list"):
        load_detector(best(overfitted)).predict("a.jpg")
