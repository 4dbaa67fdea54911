"""What the benchmarks compute on: built-in scenes, a detector, boxes drawn at random."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import yaml

from data import sample
from models.backbones import make_backbone
from models.yolov3 import YOLOv3
from utils.boxes import Truth
from utils.config import ROOT
from utils.recipes import read_yaml

CLASSES = 80


def write_scenes(folder: Path, train: int, val: int, test: int) -> Path:
    """So many built-in scenes in a folder; returns the data yaml beside it, which asks for as many."""
    size, file = sample.SampleSize(train, val, test), folder.with_suffix(".yaml")
    sample.write(folder, size=size)
    content = read_yaml(ROOT / "data" / "sample.yaml") | {"path": str(folder), "scenes": asdict(size)}
    file.write_text(yaml.safe_dump(content))
    return file


def make_detector(width: float = 1.0, classes: int = CLASSES) -> YOLOv3:
    """An untrained detector with DarkNet-53, laid out as training does it."""
    model = YOLOv3(make_backbone("darknet53", width), classes)
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def random_truth(imgsz: int, batch: int, each: int = 7, classes: int = CLASSES) -> Truth:
    """Boxes of a batch; seven are about what an image of COCO has."""
    corner = torch.rand(batch * each, 2) * imgsz * 0.6
    size = 8 + torch.rand(batch * each, 2) * (imgsz * 0.4 - 8)
    labels = torch.randint(classes, (batch * each,))
    return Truth(torch.cat([corner, corner + size], 1), labels, torch.arange(batch).repeat_interleave(each))


def write_corners(folder: Path, train: int = 96, test: int = 32) -> Path:
    """Images of 32 × 32 in CIFAR's npz form – which corner is bright? – and the data yaml beside them, returned."""
    arrays: dict[str, np.ndarray] = {}
    draw = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        labels = draw.integers(0, 4, count)
        images = draw.integers(0, 200, (count, 32, 32, 3))
        for image, label in zip(images, labels, strict=True):
            image[label // 2 * 16 :, label % 2 * 16 :][:16, :16] += 55
        arrays |= {f"x_{split}": images.astype(np.uint8), f"y_{split}": labels.astype(np.uint8)}
    np.savez(folder / "corners.npz", **arrays, classes=np.array(["nw", "ne", "sw", "se"]))  # type: ignore[arg-type]
    file = folder / "corners.yaml"
    file.write_text("path: .\nformat: cifar\ntrain: train\nval: test\n")
    return file
