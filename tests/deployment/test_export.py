import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import Script

import export
from benchmarks.accidents import mutated
from data.description import load_description
from data.formats import read_split
from deployment.delivery import refuse_apart, refuse_loss
from deployment.export import (
    Difference,
    Exported,
    after,
    apart,
    compare,
    metadata,
    pictures_for,
    reader,
    write_onnx,
)
from evaluation.average_precision import evaluate_detector
from evaluation.comparison import check_comparable
from models import Thresholds, load_detector
from models.channels import with_channels
from models.darknet import DarkNet
from models.darknet_weights import write_darknet
from models.trained import load_trained
from models.yolov3 import YOLOv3
from utils.checkpoint import TRAINED_ON, learnt_text
from utils.errors import UserError
from utils.files import make_folder


def saying(exported: Path, path: Path, key: str, value: str) -> Path:
    """The file as another program would write it, with one entry of its metadata changed."""
    model = onnx.load(str(exported))
    kept = [item for item in model.metadata_props if item.key not in ("sha256", "decode", key)]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(path))
    return path


def test_valid_single_file_with_metadata(exported: Path) -> None:
    model = onnx.load(str(exported), load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    properties = {item.key: item.value for item in model.metadata_props}
    assert properties["task"] == "detect"
    assert "'9'" in properties["names"]
    assert [output.name for output in model.graph.output] == ["output0"]
    assert not list(exported.parent.glob("*.data"))


def test_it_says_what_it_has_learnt_from(exported: Path, overfitted: Path, tmp_path: Path) -> None:
    trained = load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")
    assert load_detector(exported).learnt == trained.learnt
    assert len(trained.learnt or ()) == 8
    for text in ("of another program", learnt_text({-(2**63), 2**63 - 1})[:-4]):
        assert load_detector(saying(exported, tmp_path / "other.onnx", TRAINED_ON, text)).learnt is None


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 128, 128), (3, 96, 160), (5, 64, 32)])
def test_same_numbers_as_pytorch(exported: Path, overfitted: Path, batch: int, height: int, width: int) -> None:
    images = torch.rand(batch, 3, height, width)
    network = Exported(load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")).eval()
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
    network = Exported(load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")).eval()
    with torch.inference_mode():
        wanted = network(images).numpy()
    reader = cv2.dnn.readNetFromONNX(str(exported))
    reader.setInput(images.numpy())
    np.testing.assert_allclose(reader.forward(), wanted, rtol=1e-2, atol=2e-2)


@pytest.mark.filterwarnings("ignore")
def test_ultralytics_reads_it(exported: Path, overfitted: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    import detect
    from utils.ultralytics_parts import ultralytics

    image = scenes / "JPEGImages" / "train_00000.jpg"
    script(detect, "--project", overfitted, "--source", image, "--save-json", "--name", "beside")
    own = json.loads((overfitted / "detect" / "beside" / "detections.json").read_text())[0]["boxes"]
    reader = ultralytics("models.yolo.model").YOLO(str(exported), task="detect")
    (result,) = reader.predict(str(image), imgsz=128, conf=0.25, iou=0.45, verbose=False, save=False, device="cpu")
    assert result.names[0] == "0"
    assert len(result.boxes) == len(own) > 0
    mine = np.array(sorted(box["box_xyxy"] for box in own))
    theirs = np.array(sorted(result.boxes.xyxy.tolist()))
    np.testing.assert_allclose(mine, theirs, atol=4)  # its letterbox resizes with another filter


@pytest.mark.usefixtures("older_exporter")
def test_older_exporter_is_the_way_out(overfitted: Path, scenes_yaml: Path, tmp_path: Path) -> None:
    detector = load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")
    assert "not today" in write_onnx(detector, tmp_path / "a.onnx")
    records = read_split(load_description(scenes_yaml), "test").records
    assert max(max(row.box, row.score) for row in compare(detector, tmp_path / "a.onnx", records, "default")) < 1e-3


def test_a_difference_is_a_failure(
    overfitted: Path, script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [Difference(1, (128, 128), 0.01, 0.0, 9), Difference(3, (128, 128), 0.0, 0.0, 9)]
    monkeypatch.setattr("deployment.export.compare", lambda *_: rows)
    with pytest.raises(UserError, match=r"differs from PyTorch by 1\.0e-02"):
        script(export, "--project", overfitted, "--file", tmp_path / "x.torchscript", "--format", "torchscript")
    for off in ([0.0, float("nan")], [float("nan"), 0.0]):
        with pytest.raises(UserError, match="differs from PyTorch by nan"):
            refuse_apart(tmp_path / "x.torchscript", off, 1e-3)
    assert not (tmp_path / "x.torchscript").exists(), "nobody is to use it"
    with pytest.raises(UserError, match="is the file that is to be exported"):
        refuse_loss(tmp_path / "a.onnx", tmp_path / "." / "a.onnx", ".onnx")
    (tmp_path / "data.yaml").write_text("names: [a]")
    with pytest.raises(UserError, match=r"data\.yaml: is there already, and would be lost — give a name that ends in"):
        refuse_loss(tmp_path / "data.yaml", tmp_path / "best.pt", ".onnx")
    refuse_loss(tmp_path / "new.name", tmp_path / "best.pt", ".onnx")
    for ending in (".pt", ".torchscript"):
        with pytest.raises(UserError, match=rf"ends in \{ending}, which is another format — end it in \.onnx, or give"):
            refuse_loss(tmp_path / f"new{ending}", tmp_path / "best.pt", ".onnx")


def test_differences_after_suppression() -> None:
    """Two boxes of two classes, centre and size: what is compared, what one side lacks, and numbers that are none."""
    boxes = torch.tensor([[[20.0, 20, 10, 10], [60, 60, 10, 20]]])
    scores, sure = torch.tensor([[[0.9, 0.0], [0.0, 0.6]]]), Thresholds(0.25, 0.45)
    assert after((boxes, scores), (boxes + 1.5, scores - 0.125), sure) == (pytest.approx(0.09), pytest.approx(0.125), 2)
    assert after((boxes, scores), (boxes, scores), Thresholds(0.95, 0.45)) == (0, 0, 0)
    assert after((boxes, scores), (boxes, scores - 0.5), sure)[0] == float("inf")
    assert after((boxes, scores), (boxes, scores.roll(1, 2)), sure)[0] > 1
    assert after((boxes, scores), (boxes, scores.amax(2, keepdim=True)), sure)[0] == float("inf")
    broken = boxes.clone()
    broken[0, 1, 2] = float("nan")
    assert np.isnan(after((boxes, scores), (broken, scores), sure)[0])
    assert np.isnan(apart((boxes, scores), (broken, scores))[0])
    assert apart((boxes, scores), (boxes * 1.25, scores)) == (0.25, 0, 2)


def test_an_onnx_file_of_any_name_is_read(exported: Path, tmp_path: Path) -> None:
    images = torch.rand(1, 3, 64, 64)
    copy = shutil.copyfile(exported, tmp_path / "model.bin")
    (boxes, scores), (same, as_sure) = (reader(own, "default", 10)(images) for own in (exported, copy))
    assert torch.equal(boxes, same)
    assert torch.equal(scores, as_sure)


def test_a_file_says_how_many_channels_it_takes(overfitted: Path) -> None:
    detector = load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")
    assert metadata(detector)["channels"] == 3
    with_channels(detector.model.backbone, 1)
    assert metadata(detector)["channels"] == 1


def written(overfitted: Path, script: Script, path: Path, *flags: object) -> Path:
    script(export, "--project", overfitted, "--file", path, *flags)
    return path


def found_by(path: Path, overfitted: Path, scenes: Path, **options: Any) -> None:
    """A written file finds what the checkpoint finds."""
    pictures = sorted((scenes / "JPEGImages").glob("train*.jpg"))[:3]
    best = overfitted / "train" / "exp" / "weights" / "best.pt"
    wanted, got = (load_detector(file).predict(pictures, **options) for file in (best, path))
    assert sum(len(item.scores) for item in wanted) > 5
    for one, other in zip(wanted, got, strict=True):
        assert one.names == other.names
        np.testing.assert_allclose(other.boxes_xyxy, one.boxes_xyxy, atol=0.5)
        np.testing.assert_allclose(other.scores, one.scores, atol=2e-2)


def test_onnx_finds_what_the_checkpoint_finds(exported: Path, overfitted: Path, scenes: Path) -> None:
    found_by(exported, overfitted, scenes)


@pytest.mark.usefixtures("older_exporter")
def test_layout_of_yolov5(overfitted: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    import cv2

    path = written(overfitted, script, tmp_path / "v5.onnx", "--layout", "v5")
    found_by(path, overfitted, scenes)
    images = torch.rand(1, 3, 128, 128)
    reader = cv2.dnn.readNetFromONNX(str(path))
    reader.setInput(images.numpy())
    out = torch.from_numpy(reader.forward())
    assert out.shape == (1, 1008, 15)
    boxes, scores = load_detector(overfitted / "train" / "exp" / "weights" / "best.pt").outputs(images)
    np.testing.assert_allclose(out[..., :4], boxes, rtol=1e-2, atol=2e-2)
    np.testing.assert_allclose(out[..., 4:5] * out[..., 5:], scores, atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("traced_before")
def test_suppression_inside_the_file(
    overfitted: Path, scenes: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from utils.ultralytics_parts import ultralytics

    written(overfitted, script, tmp_path / "none.bin", "--nms", "--conf-thres", 1)
    assert "nothing was found on these pictures, so suppression was not compared" in capsys.readouterr().out
    path = written(overfitted, script, tmp_path / "nms.onnx", "--nms", "--max-det", 20)
    assert "nothing was found" not in capsys.readouterr().out
    found_by(path, overfitted, scenes, max_det=20, multi_label=True)
    with pytest.raises(UserError, match="suppresses by thresholds of its own, and average precision asks for weak"):
        check_comparable([load_detector(path)])
    with pytest.raises(UserError, match="suppresses by thresholds of its own"):
        evaluate_detector(load_detector(path))
    with pytest.raises(UserError, match="has a precision of its own — leave --precision out"):
        load_detector(path, precision="bf16")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (rows,) = session.run(None, {"images": np.zeros((2, 3, 128, 160), np.float32)})
    assert rows.shape == (2, 20, 6)
    image = scenes / "JPEGImages" / "train_00000.jpg"
    reader = ultralytics("models.yolo.model").YOLO(str(path), task="detect")
    (result,) = reader.predict(str(image), imgsz=128, conf=0.25, verbose=False, save=False, device="cpu")
    own = load_detector(path).predict(image)
    assert len(result.boxes) == len(own.scores) > 0
    np.testing.assert_allclose(sorted(result.boxes.xyxy.tolist()), sorted(own.boxes_xyxy.tolist()), atol=4)


@pytest.mark.usefixtures("older_exporter")
def test_half_precision(overfitted: Path, exported: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    path = written(overfitted, script, tmp_path / "half.onnx", "--precision", "fp16")
    assert path.stat().st_size < 0.6 * exported.stat().st_size
    found_by(path, overfitted, scenes, conf_thres=0.5)


@pytest.mark.parametrize("layout", ["default", "v5"])
@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_torchscript(overfitted: Path, script: Script, tmp_path: Path, layout: str) -> None:
    path = written(overfitted, script, tmp_path / "a.torchscript", "--format", "torchscript", "--layout", layout)
    images = torch.rand(1, 3, 96, 64)
    own = load_trained(overfitted / "train" / "exp" / "weights" / "best.pt")
    with torch.inference_mode():
        torch.testing.assert_close(
            torch.jit.load(str(path))(images), Exported(own, layout)(images), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--nms", "--layout", "v5"), "leave one of them out"),
        (("--nms", "--format", "torchscript"), "leave one of them out"),
        (("--format", "darknet", "--precision", "fp16"), "darknet has one layout"),
        (("--precision", "bf16"), "give fp32 or fp16"),
        (("--format", "darknet"), "full width only"),
        (("--format", "darknet", "--pictures", "x"), "--pictures: is not looked at: darknet files are read back"),
        (("--iou-thres", "0.5"), "--iou-thres: is for --nms"),
    ],
)
def test_what_does_not_go_together(
    overfitted: Path, script: Script, tmp_path: Path, flags: tuple[str, ...], what: str
) -> None:
    with pytest.raises(UserError, match=what):
        script(export, "--project", overfitted, "--file", tmp_path / "x", *flags)
    assert not list(tmp_path.iterdir())


def test_darknet_weights_of_a_detector(tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    model = YOLOv3(DarkNet(), 20)
    path, copy = tmp_path / "own.weights", tmp_path / "copy.weights"
    write_darknet(path, model)
    script(export, "--weights", path, "--format", "darknet", "--file", copy)
    assert copy.read_bytes() == path.read_bytes()
    assert "filters=75" in capsys.readouterr().out


def other(path: Path, *, inputs: int = 1, shape: tuple[int | str, ...] = (1, 3, 64, 64), out: int = 3) -> Path:
    """An ONNX file that is no detector."""
    from onnx import TensorProto, helper

    given = [helper.make_tensor_value_info(f"x{n}", TensorProto.FLOAT, shape) for n in range(inputs)]
    put = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["a"] * out)
    node = helper.make_node("Relu", ["x0"], ["y"])
    onnx.save(helper.make_model(helper.make_graph([node], "g", given, [put]), ir_version=10), str(path))
    return path


def test_other_files_are_refused(exported: Path, tmp_path: Path) -> None:
    for wrong in (
        other(tmp_path / "two.onnx", inputs=2),
        other(tmp_path / "flat.onnx", shape=(1, 64), out=2),
        other(tmp_path / "picture.onnx", out=4),
    ):
        with pytest.raises(UserError, match=r"no detector|no whole ONNX"):
            load_detector(wrong)
    with pytest.raises(UserError, match="no such file"):
        load_detector(tmp_path / "none.onnx")
    model = onnx.load(str(exported))
    weights = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = weights.raw_data[:-1] + bytes([weights.raw_data[-1] ^ 1])
    onnx.save(model, str(tmp_path / "bit.onnx"))
    with pytest.raises(UserError, match="damaged: not what was written"):
        load_detector(tmp_path / "bit.onnx")


def test_files_of_others_without_metadata(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "bare.onnx"))
    with pytest.raises(UserError, match="size of its input"):
        load_detector(tmp_path / "bare.onnx")
    for place, side in enumerate((1, 3, 96, 96)):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = side
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    detector = load_detector(tmp_path / "fixed.onnx")
    assert detector.imgsz == 96
    assert detector.names == [str(index) for index in range(10)]
    assert len(detector.predict([np.zeros((50, 60, 3), np.uint8)] * 3)) == 3
    with pytest.raises(UserError, match="takes images of 96×96 only"):
        detector.predict([np.zeros((50, 60, 3), np.uint8)], imgsz=128)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(model, str(tmp_path / "four.onnx"))
    images = torch.rand(6, 3, 96, 96)
    for count in (1, 4, 6):
        pairs = (load_detector(tmp_path / f"{name}.onnx").outputs(images[:count]) for name in ("four", "fixed"))
        for own, wanted in zip(*pairs, strict=True):
            torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("names", "{0: 'person'}", "10 numbers for each box beside its place, and 1 names"),
        ("task", "pose", "no detector: its task is pose"),
    ],
)
def test_boxes_with_something_else_in_them_are_refused(
    exported: Path, tmp_path: Path, key: str, value: str, what: str
) -> None:
    """Points of a body, or angles, would be taken for scores."""
    pose = saying(exported, tmp_path / "pose.onnx", key, value)
    with pytest.raises(UserError, match=what):
        load_detector(pose)


def test_damaged_files(exported: Path, tmp_path: Path) -> None:
    whole, images, draw, count = exported.read_bytes(), torch.rand(1, 3, 64, 64), np.random.default_rng(7), 0
    own, path = load_detector(exported), tmp_path / "a.onnx"
    wanted = own.outputs(images)
    for _ in range(30):
        path.write_bytes(mutated(whole, draw))
        try:
            found = load_detector(path)
        except UserError:
            count += 1
            continue
        assert (found.names, found.imgsz) == (own.names, own.imgsz)
        assert all(torch.equal(one, other) for one, other in zip(found.outputs(images), wanted, strict=True))
    assert count > 20


@pytest.mark.parametrize("place", ["initializer", "node"])
def test_weights_in_other_files_are_refused(exported: Path, tmp_path: Path, place: str) -> None:
    model, path = onnx.load(str(exported)), tmp_path / "a.onnx"
    tensor = model.graph.initializer[0]
    if place == "node":
        node = onnx.helper.make_node("Constant", [], ["extra"], value=tensor)
        model.graph.node.append(node)
        tensor = model.graph.node[-1].attribute[0].t
    (tmp_path / "secret").write_bytes(b"x" * 10**6)
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(UserError, match=r"its weights are in another file|no whole ONNX model"):
        load_detector(path)


def test_a_file_that_lost_its_checksum_is_refused(exported: Path, tmp_path: Path) -> None:
    model = onnx.load(str(exported))
    kept = [item for item in model.metadata_props if item.key != "sha256"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(UserError, match="damaged: not what was written"):
        load_detector(tmp_path / "a.onnx")


def test_without_the_data_it_is_compared_on_other_pictures(
    exported: Path, overfitted: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = replace(load_trained(overfitted / "train/exp/weights/best.pt"), data=tmp_path / "gone.yaml")
    records = pictures_for(gone, None, None)
    assert "compared on 3 random pictures, since there are no others:" in capsys.readouterr().out
    assert len({record.size_hw for record in records}) > 1
    assert all(record.pixels is not None and record.pixels.std() > 10 for record in records)
    assert max(row.score for row in compare(gone, exported, records, "default")) < 1e-3
    folder = next(path.parent for path in scenes.rglob("*.jpg"))
    own = pictures_for(gone, None, folder)
    assert [record.size_hw for record in own] == [(256, 256)] * 3
    with pytest.raises(UserError, match="cannot be read"):
        pictures_for(gone, tmp_path / "gone.yaml", None)  # somebody asked for it
    with pytest.raises(UserError, match="no readable picture"):
        pictures_for(gone, None, tmp_path)
    with pytest.raises(UserError, match="--pictures: a folder of pictures and a data yaml"):
        pictures_for(gone, tmp_path / "gone.yaml", folder)
    for name in "abcd":
        (make_folder(tmp_path / "mixed") / f"{name}.jpg").write_bytes(b"damaged")
    shutil.copy(own[0].image, tmp_path / "mixed" / "e.jpg")
    assert len(pictures_for(gone, None, tmp_path / "mixed")) == 1


@pytest.mark.parametrize(
    ("conf", "iou", "most", "flag"),
    [(25, 0.5, 300, "--conf-thres"), (float("nan"), 0.5, 300, "--conf-thres"), (0.2, -0.5, 300, "--iou-thres"),
     (0.2, 2, 300, "--iou-thres"), (0.2, 0.5, 0, "--max-det"), (0.2, 0.5, -1, "--max-det")],
)  # fmt: skip
def test_thresholds_have_a_range(conf: float, iou: float, most: int, flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        Thresholds(conf, iou, most)
