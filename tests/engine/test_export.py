import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Script

import export
from data.description import load_description
from data.formats import read_split
from engine.export import Exported, compare, write_onnx
from models.detector import load_detector


@pytest.fixture(scope="module")
def exported(overfitted: Path) -> Path:
    path = overfitted / "exported.onnx"
    if not path.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["export.py", "--project", str(overfitted), "--file", str(path)])
            export.main()
    return path


def test_valid_single_file_with_metadata(exported: Path) -> None:
    model = onnx.load(str(exported), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["task"] == "detect"
    assert "'9'" in properties["names"]
    assert [output.name for output in model.graph.output] == ["output0"]
    assert not list(exported.parent.glob("*.data"))


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 128, 128), (3, 96, 160), (5, 64, 32)])
def test_same_numbers_as_pytorch(exported: Path, overfitted: Path, batch: int, height: int, width: int) -> None:
    images = torch.rand(batch, 3, height, width)
    network = Exported(load_detector(overfitted / "train" / "exp" / "weights" / "best.pt")).eval()
    with torch.inference_mode():
        wanted = network(images).numpy()
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    got = session.run(["output0"], {"images": images.numpy()})[0]
    assert got.shape == (batch, 14, 3 * height * width * 21 // 1024)
    np.testing.assert_allclose(got[:, :4], wanted[:, :4], rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(got[:, 4:], wanted[:, 4:], rtol=1e-3, atol=1e-4)


def test_opencv_reads_it(exported: Path, overfitted: Path) -> None:
    import cv2

    images = torch.rand(1, 3, 128, 128)
    network = Exported(load_detector(overfitted / "train" / "exp" / "weights" / "best.pt")).eval()
    with torch.inference_mode():
        wanted = network(images).numpy()
    reader = cv2.dnn.readNetFromONNX(str(exported))
    reader.setInput(images.numpy())
    np.testing.assert_allclose(reader.forward(), wanted, rtol=1e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore")
def test_ultralytics_reads_it(exported: Path, overfitted: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    import detect
    from utils.ultralytics_parts import _open

    image = scenes / "JPEGImages" / "train_00000.jpg"
    script(detect, "--project", overfitted, "--source", image, "--save-json", "--name", "beside")
    own = json.loads((overfitted / "detect" / "beside" / "detections.json").read_text())[0]["boxes"]
    reader = _open("models.yolo.model").YOLO(str(exported), task="detect")
    (result,) = reader.predict(str(image), imgsz=128, conf=0.25, iou=0.45, verbose=False, save=False, device="cpu")
    assert result.names[0] == "0"
    assert len(result.boxes) == len(own) > 0
    mine = np.array(sorted(box["box_xyxy"] for box in own))
    theirs = np.array(sorted(result.boxes.xyxy.tolist()))
    np.testing.assert_allclose(mine, theirs, atol=2)  # its letterbox resizes with another filter


def test_older_exporter_is_the_way_out(
    overfitted: Path, scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr("engine.export.export_traced", fails)
    detector = load_detector(overfitted / "train" / "exp" / "weights" / "best.pt")
    assert "not today" in write_onnx(detector, tmp_path / "a.onnx")
    records = read_split(load_description(scenes_yaml), "test").records
    assert max(max(row.box, row.score) for row in compare(detector, tmp_path / "a.onnx", records)) < 1e-3


def test_a_difference_is_a_failure(
    exported: Path, overfitted: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from engine.export import Difference
    from utils.errors import UserError

    monkeypatch.setattr("engine.export.compare", lambda *_: [Difference(1, (128, 128), 0.01, 0.0)])
    with pytest.raises(UserError, match=r"differs from PyTorch by 1\.0e-02"):
        script(export, "--project", overfitted, "--file", tmp_path / "x.onnx")
