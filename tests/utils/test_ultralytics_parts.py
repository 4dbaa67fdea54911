import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from utils.boxes import Detections, Truth
from utils.draw import save_image, save_page
from utils.ultralytics_parts import draw_boxes, plot_confusion, plot_precision_recall, stream, ultralytics

pytestmark = pytest.mark.filterwarnings("ignore")


def test_import_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    save, opener = torch.save, Image.open
    threads = torch.get_num_threads()
    ultralytics("utils.plotting")
    assert torch.save is save
    assert Image.open is opener
    assert int(os.environ["OMP_NUM_THREADS"]) >= threads
    assert torch.get_num_threads() == threads
    assert os.environ["YOLO_OFFLINE"] == "1"


class Camera(list[tuple[None, list[np.ndarray], None]]):
    """What a loader gives: pictures of one value each."""

    def __init__(self, *values: int) -> None:
        super().__init__((None, [np.full((2, 2, 3), value, np.uint8)], None) for value in values)


class Watched(Camera):
    threads = ()


@pytest.mark.parametrize(("kind", "kept"), [(Watched, [7, 9]), (Camera, [7, 0, 9])])
def test_black_pictures_of_a_lost_signal_are_no_frames(
    monkeypatch: pytest.MonkeyPatch, kind: type[Camera], kept: list[int]
) -> None:
    build = SimpleNamespace(load_inference_source=lambda *_, **__: kind(7, 0, 9))
    monkeypatch.setattr("utils.ultralytics_parts.ultralytics", lambda _: build)
    assert [shot.image.max() for group in stream("rtsp://h/a", 1, 1) for shot in group] == kept


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((120, 160, 3), 128, np.uint8)
    drawn = draw_boxes(image, np.array([[40.0, 50, 100, 90]]), ["seven"], [7])
    assert (image == 128).all()
    assert (drawn[50, 60:90] != 128).any(-1).all(), "upper edge"
    assert (drawn[55:85, 100] != 128).any(-1).all(), "right edge"
    assert (drawn[60:80, 50:90] == 128).all(), "inside"


def test_confusion_matrix_and_curves_are_written(tmp_path: Path) -> None:
    boxes = torch.tensor([[10.0, 10, 50, 50], [60, 60, 90, 90]])
    found = [
        Detections(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1])),
        Detections(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.long)),
    ]
    truth = [Truth(boxes, torch.tensor([0, 0]), torch.zeros(2)), Truth(boxes[:1], torch.tensor([1]), torch.zeros(1))]
    plot_confusion(found, truth, ["a", "b"], tmp_path / "confusion.png", 0.25)
    plot_precision_recall(np.linspace(1, 0, 101)[None].repeat(2, 0), ["a", "b"], tmp_path / "pr.png")
    for name in ("confusion.png", "pr.png"):
        with Image.open(tmp_path / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_pages_of_any_length(tmp_path: Path) -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    for count in (1, 2, 6):
        save_page([image] * count, tmp_path / "page.jpg", ("true", "found") * 2)
        with Image.open(tmp_path / "page.jpg") as page:
            assert page.size[0] == 1080
    save_image(image, tmp_path / "image.jpg")
    assert {path.name for path in tmp_path.iterdir()} == {"page.jpg", "image.jpg"}
