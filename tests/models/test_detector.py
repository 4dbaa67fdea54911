import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from data.description import load_description
from data.formats import read_split
from evaluation.predict import predict_split
from models import Thresholds, load_detector
from utils.boxes import Detections
from utils.errors import UserError
from utils.images import ORIENTATION, read_rgb


def best(project: Path) -> Path:
    return next((project / "train").glob("*/weights/best.pt"))


def same(one: Detections, other: Detections) -> bool:
    pairs = ((one.boxes_xyxy, other.boxes_xyxy), (one.scores, other.scores), (one.labels, other.labels))
    return all(a.shape == b.shape and torch.allclose(a, b, atol=1e-3) for a, b in pairs)


def test_finds_what_evaluation_finds(overfitted: Path, scenes_yaml: Path) -> None:
    detector, records = load_detector(best(overfitted)), read_split(load_description(scenes_yaml), "train").records
    thresholds = Thresholds(0.25, 0.45, multi_label=False)
    wanted = list(predict_split(detector.outputs, records, detector.imgsz, thresholds))
    found = detector.predict([record.image for record in records], batch_size=3)
    assert sum(len(item.scores) for item in found) > 10
    for item, other in zip(found, wanted, strict=True):
        assert same(item, other)
        assert item.names == [detector.names[label] for label in item.labels.tolist()]


FORMS = {
    "text": str,
    "path": Path,
    "image": Image.open,
    "array": read_rgb,
    "view": lambda path: read_rgb(path)[:, ::-1][:, ::-1],
    "rgba": lambda path: np.dstack([read_rgb(path), np.zeros((256, 256), np.uint8)]),
    "tensor": lambda path: torch.from_numpy(read_rgb(path)).permute(2, 0, 1),
    "floats": lambda path: torch.from_numpy(read_rgb(path)).permute(2, 0, 1) / 255,
}


def test_a_picture_in_any_form_gives_the_same(overfitted: Path, scenes: Path) -> None:
    detector = load_detector(str(best(overfitted)))
    path = next((scenes / "JPEGImages").glob("train*.jpg"))
    one = detector.predict(path)
    assert len(one) > 2
    for other in detector.predict([make(path) for make in FORMS.values()], batch_size=3):
        assert same(one, other)
        assert other.size_hw == (256, 256)
        assert other.where in ("", str(path))
        np.testing.assert_array_equal(np.asarray(other.plot()), np.asarray(one.plot()))


def test_pictures_of_any_size_and_kind(overfitted: Path, tmp_path: Path) -> None:
    detector = load_detector(best(overfitted))
    grey = np.random.default_rng(0).integers(0, 255, (60, 90), np.uint8)
    one, other, third = detector.predict([grey, grey[..., None], torch.from_numpy(np.stack([grey] * 3))])
    assert same(one, other)
    assert same(one, third)
    wide = detector.predict(np.zeros((100, 300, 3), np.uint8))
    assert len(wide) == 0 or float(wide.boxes_xyxy[:, 3].max()) <= 100
    assert detector.predict([]) == []
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(grey).save(tmp_path / "turned.jpg", exif=exif)
    turned = detector.predict([tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg")])
    assert [found.size_hw for found in turned] == [(90, 60), (90, 60)]


def test_thresholds_are_keywords(overfitted: Path, scenes: Path) -> None:
    detector, path = load_detector(best(overfitted)), next((scenes / "JPEGImages").glob("train*.jpg"))
    every = detector.predict(path, conf_thres=0.01)
    assert [score for score in every.scores.tolist() if score > 0.5] == detector.predict(
        path, conf_thres=0.5
    ).scores.tolist()
    assert len(detector.predict(path, max_det=2)) == 2
    name, label = every.names[0], int(every.labels[0])
    for classes in ([label], [name], name):
        assert set(detector.predict(path, conf_thres=0.01, classes=classes).labels.tolist()) == {label}
    apart = detector.predict(path, conf_thres=0.01, iou_thres=0.1, agnostic_nms=True).boxes_xyxy
    assert float(box_iou(apart, apart).fill_diagonal_(0).max()) <= 0.1
    assert not same(detector.predict(path, imgsz=96), detector.predict(path))


def test_a_stream_reads_no_further_than_a_batch(overfitted: Path) -> None:
    asked: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for number in range(100):
            asked.append(number)
            yield np.zeros((64, 64, 3), np.uint8)

    stream = load_detector(best(overfitted)).stream(pictures(), batch_size=2)
    assert not asked
    assert [len(next(stream)) for _ in range(3)] == [0, 0, 0]
    assert len(asked) == 4


def test_what_was_found_is_drawn_and_told(overfitted: Path, scenes: Path, tmp_path: Path) -> None:
    path = next((scenes / "JPEGImages").glob("train*.jpg"))
    found = load_detector(best(overfitted)).predict(path)
    drawn = np.asarray(found.plot())
    assert drawn.shape == (256, 256, 3)
    changed = np.abs(drawn.astype(int) - read_rgb(path)).max(2) > 30
    x1, y1, x2, y2 = found.boxes_xyxy[0].round().int().tolist()
    assert changed[y1 : y2 + 1, [x1, min(x2, 255)]].any(0).all()
    np.testing.assert_array_equal(read_rgb(found.save(tmp_path / "new" / "a.PNG")), drawn)
    said = json.loads(json.dumps(found.to_dict()))
    assert (said["image"], said["size_hw"]) == (str(path), [256, 256])
    assert said["boxes"][0] == {
        "box_xyxy": found.boxes_xyxy[0].tolist(),
        "score": found.scores[0].item(),
        "class": found.labels[0].item(),
        "name": found.names[0],
    }
    assert f"{found.names[0]} {found.scores[0]:.2f}" in repr(found)
    with pytest.raises(UserError, match="no name for a picture"):
        found.save(tmp_path / "a.gif")


def test_threads_share_a_detector(overfitted: Path, scenes: Path) -> None:
    detector, paths = load_detector(best(overfitted)), sorted((scenes / "JPEGImages").glob("train*.jpg"))[:4]
    alone = [detector.predict(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(detector.predict, paths * 3))
    assert all(same(one, other) for one, other in zip(together, alone * 3, strict=True))


@pytest.mark.parametrize(
    ("picture", "what"),
    [
        ("none.jpg", "none.jpg: cannot be read as an image"),
        (np.zeros((4, 4, 3)), "an array of float64"),
        (np.zeros((3, 4, 5), np.uint8), r"an array of uint8 \[3, 4, 5\] — give"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"\[2, 4, 4, 3\] — give"),
        (np.zeros((0, 4, 3), np.uint8), r"\[0, 4, 3\] — give"),
        (torch.zeros(5, 4, 3), r"a tensor of float32 \[5, 4, 3\] — give"),
        (torch.full((3, 4, 4), 2.0), "from 2 to 2 — give floats in 0–1"),
        (torch.full((3, 4, 4), float("nan")), "give floats in 0–1"),
        (7, "int is no picture"),
    ],
)
def test_what_is_no_picture_is_told(overfitted: Path, picture: object, what: str) -> None:
    with pytest.raises(UserError, match=what):
        load_detector(best(overfitted)).predict([picture])  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"conf_thres": 7}, "--conf-thres: 7 — give a number in 0–1"),
        ({"iou_thres": -0.5}, "--iou-thres: -0.5"),
        ({"max_det": 0}, "--max-det: 0"),
        ({"imgsz": 100}, "--imgsz: `100` — give a multiple of 32"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"classes": ["ten"]}, "--classes: no class `ten` — give some of 0, 1"),
        ({"classes": [10]}, "no class `10`"),
    ],
)
def test_options_out_of_range_are_told(overfitted: Path, options: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=what):
        load_detector(best(overfitted)).stream([], **options)


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there(device: str, overfitted: Path) -> None:
    with pytest.raises(UserError, match=f"device: no device `{device}`"):
        load_detector(best(overfitted), device)


def test_keywords_that_there_are_not(overfitted: Path) -> None:
    with pytest.raises(UserError, match="conf: there is no such keyword — give some of conf_thres, iou_thres"):
        load_detector(best(overfitted)).predict(np.zeros((64, 64, 3), np.uint8), conf=0.5)  # type: ignore[call-overload]
