"""Damaged files of every kind: a clear error or a counted omission, never a traceback, never a wrong box."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import mutated, write_yaml
from PIL import Image

from data.description import load_description
from data.formats import read_split
from data.records import Split
from models.darknet import DarkNet, DarkNetConfig
from models.darknet_weights import read_darknet, write_darknet
from utils import checkpoint
from utils.errors import UserError

SIZE = (40, 30)  # width, height
XML = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>
</object><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>
</annotation>"""
TXT = "0 0.5 0.5 0.25 0.4\n1 0.2 0.2 0.1 0.1\n1 0.1 0.1 0.5 0.1 0.5 0.6\n"
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 17, 21], "iscrowd": 0, "area": 357}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
    "annotations": [BOX, {**BOX, "id": 2, "category_id": 7}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
}
Draw = np.random.Generator


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE[::-1], 3), np.uint8)).save(stream, kind)
    return stream.getvalue()


def folder(root: Path) -> Path:
    """One image with labels in three formats."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main", "images", "labels"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for place in ("JPEGImages/a.jpg", "images/a.jpg"):
        (root / place).write_bytes(picture("JPEG"))
    (root / "Annotations/a.xml").write_text(XML)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "labels/a.txt").write_text(TXT)
    (root / "instances.json").write_text(json.dumps(COCO))
    return root


def read(root: Path, kind: str) -> Split:
    train = {"voc": "train", "yolo": "images", "coco": "instances.json"}[kind]
    changes = {"format": kind, "train": train, "val": None, "test": None, "names": ["cat", "dog"]}
    images = "images" if kind == "coco" else None
    return read_split(load_description(write_yaml(root / "d.yaml", path=str(root), images=images, **changes)), "train")


def sound(split: Split) -> None:
    """Every box inside its image, every label a class."""
    for record in split.records:
        height, width = record.size_hw
        boxes = record.boxes_xyxy
        assert np.isfinite(boxes).all()
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, 2:] <= (width, height)).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert set(record.labels.tolist()) <= {0, 1}
        assert len(boxes) == len(record.labels) == len(record.difficult)


CASES = {
    "xml": ("voc", "Annotations/a.xml"),
    "list": ("voc", "ImageSets/Main/train.txt"),
    "txt": ("yolo", "labels/a.txt"),
    "json": ("coco", "instances.json"),
    "jpeg": ("yolo", "images/a.jpg"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged EXIF
@pytest.mark.parametrize("case", CASES)
def test_damaged_data(case: str, tmp_path: Path) -> None:
    kind, name = CASES[case]
    root, draw = folder(tmp_path), np.random.default_rng(1)
    whole, outcomes = (root / name).read_bytes(), {"read": 0, "left out": 0, "refused": 0}
    for _ in range(60):
        (root / name).write_bytes(mutated(whole, draw))
        try:
            split = read(root, kind)
        except UserError:
            outcomes["refused"] += 1
            continue
        sound(split)
        outcomes["left out" if split.problems else "read"] += 1
    assert outcomes["refused"] + outcomes["left out"] > 10, outcomes


def structured(value: object, draw: Draw) -> object:
    """A json with one value replaced by another of any type."""
    odd = [None, "x", -1, 1e30, [], {}, [1, 2], True, float("nan"), "1"]
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = list(value)[draw.integers(len(value))]
        return {**value, key: structured(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.integers(len(value))
        return [*value[:at], structured(value[at], draw), *value[at + 1 :]]
    return odd[draw.integers(len(odd))]


def test_json_of_other_types(tmp_path: Path) -> None:
    root, draw = folder(tmp_path), np.random.default_rng(2)
    for _ in range(80):
        (root / "instances.json").write_text(json.dumps(structured(COCO, draw)))
        try:
            sound(read(root, "coco"))
        except UserError:
            continue


def test_damaged_png(tmp_path: Path) -> None:
    root, draw, whole = folder(tmp_path), np.random.default_rng(3), picture("PNG")
    (root / "images/a.jpg").unlink()
    for _ in range(40):
        (root / "images/a.png").write_bytes(mutated(whole, draw))
        try:
            sound(read(root, "yolo"))
        except UserError:
            continue


def test_damaged_yaml(tmp_path: Path) -> None:
    root, draw = folder(tmp_path), np.random.default_rng(4)
    content = {"path": str(root), "format": "yolo", "train": "images", "val": 0.5, "names": ["cat", "dog"], "nc": 2}
    for _ in range(60):
        other = structured(content, draw)
        (root / "d.yaml").write_bytes(mutated(yaml.safe_dump(other).encode(), draw))
        try:
            read_split(load_description(root / "d.yaml"), "train")
        except UserError:
            continue


def refused(whole: bytes, path: Path, load: Callable[[], object], draw: Draw, count: int) -> int:
    """How many of so many damaged files are refused with a clear error."""
    found = 0
    for _ in range(count):
        path.write_bytes(mutated(whole, draw))
        try:
            load()
        except UserError:
            found += 1
    return found


def test_damaged_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"kind": "detector", "model": {"w": torch.zeros(300)}, "names": ["a"]})
    whole = path.read_bytes()
    assert refused(whole, path, lambda: checkpoint.load(path, "detector"), np.random.default_rng(5), 40) > 20


def test_damaged_weight_files(tmp_path: Path) -> None:
    path, backbone = tmp_path / "a.weights", DarkNet(DarkNetConfig(width=0.0625))
    write_darknet(path, backbone)
    whole = path.read_bytes()
    assert refused(whole, path, lambda: read_darknet(path, backbone), np.random.default_rng(6), 40) > 20
