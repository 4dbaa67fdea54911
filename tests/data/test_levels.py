import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Script
from PIL import Image

import detect
import train
import val
from data.description import load_description
from data.formats import read_split
from data.image_cache import keep_images
from data.images import record_rgb
from deployment.export import metadata
from models import load_detector
from models.onnx_detector import read_levels
from models.trained import load_trained
from utils.errors import UserError
from utils.images import read_rgb, read_values
from utils.levels import Levels

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)  # 0 to 4,095


@pytest.fixture
def xrays(tmp_path: Path) -> Path:
    """Data yaml of pictures of 12 bits in PNGs of 16: three to train, brighter ones to validate and test on."""
    parts: dict[str, list[np.ndarray]] = {"train": [RAMP, RAMP // 2, RAMP // 4], "val": [RAMP + 2000], "test": [RAMP]}
    for split, pictures in parts.items():
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number, values in enumerate(pictures):
            Image.fromarray(values).save(tmp_path / "images" / split / f"{number}.png")
            (tmp_path / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    Image.fromarray(np.uint8(RAMP // 16)).save(tmp_path / "images/train/eight.png")
    content = {"path": ".", "names": ["nodule"]} | {split: f"images/{split}" for split in parts}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "data.yaml"


def test_one_window_for_all_splits(xrays: Path, tmp_path: Path) -> None:
    one = read_split(load_description(xrays), "train")
    values = np.concatenate([read_values(tmp_path / f"images/train/{number}.png").ravel() for number in range(3)])
    assert one.description.levels == Levels(*np.percentile(values, (0.1, 99.9)).tolist())
    assert "  3 images of more than 8 bits: values from" in one.summary()
    assert "0.1 and 99.9 % of the values in 3 pictures of `train`" in one.summary()
    (other,) = read_split(one.description, "val").records
    assert other.levels == one.description.levels
    assert (record_rgb(other) == read_rgb(other.image, one.description.levels)).all()
    eight = next(own for own in one.records if own.image.stem == "eight")
    assert eight.levels is None
    assert (record_rgb(eight)[..., 0] == RAMP // 16).all()


def test_kept_pixels_are_the_same(xrays: Path, tmp_path: Path) -> None:
    split = read_split(load_description(xrays), "train")
    for place in ("ram", "disk"):
        kept = keep_images(split, place, tmp_path / "cache")  # type: ignore[arg-type]
        for own, other in zip(split.records, kept.records, strict=True):
            assert (record_rgb(own) == record_rgb(other)).all()


def test_the_yaml_may_say_it(xrays: Path) -> None:
    content = yaml.safe_load(xrays.read_text())
    xrays.write_text(yaml.safe_dump(content | {"levels": [100, 3000]}))
    assert read_split(load_description(xrays), "val").records[0].levels == Levels(100, 3000)
    xrays.write_text(yaml.safe_dump(content | {"levels": [5, 5]}))
    with pytest.raises(UserError, match="the lower one first"):
        load_description(xrays)


def test_pictures_of_8_bits_have_no_levels(scenes_yaml: Path) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    assert split.description.levels is None
    assert split.description.levels_entry == {}
    assert {record.levels for record in split.records} == {None}


@pytest.mark.usefixtures("unpictured")
def test_the_same_in_training_evaluation_and_export(xrays: Path, tmp_path: Path, script: Script) -> None:
    flags = ("--width", 0.125, "--imgsz", 64, "--device", "cpu", "--precision", "fp32", "--workers", 0)
    script(train, "--data", xrays, "--cl-splits", 0, "--epochs", 1, "--batch-size", 2, *flags, "--project", tmp_path)
    run = tmp_path / "train/exp"
    levels = read_split(load_description(xrays), "train").description.levels
    assert levels is not None
    assert torch.load(run / "weights/best.pt", weights_only=True)["levels"] == levels.pair
    assert json.loads((run / "metrics.json").read_text())["levels"] == levels.pair
    detector = load_detector(run / "weights/best.pt")
    assert detector.levels == levels
    script(val, "--project", tmp_path, "--device", "cpu")
    said = json.loads((tmp_path / "val/exp/metrics.json").read_text())["found_with"]
    assert said["levels"] == levels.pair
    written = metadata(load_trained(run / "weights/best.pt"))
    assert read_levels({key: str(value) for key, value in written.items()}, run) == levels
    script(detect, "--project", tmp_path, "--source", tmp_path / "images/test", "--conf-thres", 0, "--max-det", 3,
           "--save-json", "--device", "cpu")  # fmt: skip
    (row,) = json.loads((tmp_path / "detect/exp/detections.json").read_text())
    (found,) = detector.predict([read_rgb(tmp_path / "images/test/0.png", levels)])
    assert row["size_hw"] == [64, 64]
    by_path = detector.predict([tmp_path / "images/test/0.png"])
    assert torch.equal(by_path[0].scores, found.scores)


def test_a_pgm_has_the_values_of_its_file(tmp_path: Path) -> None:
    """Pillow stretches 12 bits to 16."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for most in (4095, 65535):
        path = tmp_path / f"{most}.pgm"
        path.write_bytes(b"P5\n64 64\n%d\n" % most + values.astype(">u2").tobytes())
        assert np.array_equal(read_values(path), values)
    assert read_rgb(path, Levels(0, 4095))[-1, -1, 0] == 255
