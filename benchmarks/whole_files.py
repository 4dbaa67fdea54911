"""Whole files of every kind that the project reads, each with what reads it: benchmarks/fuzz.py damages them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

from benchmarks.accidents import mutated, structured
from data.description import load_description
from data.formats import read_split
from data.images import attempt
from data.records import Problem, Split
from models.backbones import make_backbone
from models.darknet import DarkNet, DarkNetConfig
from models.darknet_weights import read_darknet, write_darknet
from models.decode import DECODE_TYPE
from models.onnx_detector import load_onnx
from models.trained import load_trained
from models.weights_files import read_weights
from models.yolov3 import YOLOv3, scaled_anchors
from studies.recipe import read_study
from training.start import choose
from utils import checkpoint
from utils.config import ROOT, Recipe
from utils.images import read_rgb
from utils.recipes import load_recipe

WIDTH, HEIGHT = 40, 30
NARROW = 0.0625
XML = """<annotation><filename>a.jpg</filename><size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>25</ymax></bndbox>
</object><object><name>dog</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object>
</annotation>"""
TXT = "0 0.5 0.5 0.25 0.4\n1 0.2 0.2 0.1 0.1\n1 0.1 0.1 0.5 0.1 0.5 0.6\n"
BOX = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 4, 17, 21], "iscrowd": 0, "area": 357}
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}],
    "annotations": [BOX, {**BOX, "id": 2, "category_id": 7}],
    "categories": [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}],
}
Values = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A file that is whole, and what reads it.

    Attributes:
        read: what became of it: `read`, `left out`; a UserError means `refused`.
        values: of which text is made anew where one of them is replaced by another; None for bytes alone.
        dump: makes the text.
    """

    path: Path
    read: Callable[[], str]
    values: Values | None = None
    dump: Callable[[Any], str] = yaml.safe_dump

    def spoilt(self, whole: bytes, seed: int) -> bytes:
        """The file after accidents drawn from a seed."""
        draw = np.random.default_rng(seed)
        if self.values is not None and seed % 2:
            return self.dump(structured(self.values, draw)).encode()
        return mutated(whole, draw)


class WrongError(Exception):
    """Something damaged was taken for whole."""


def expect(holds: object, what: str) -> None:
    """Raise WrongError unless something holds."""
    if not holds:
        raise WrongError(what)


def pixels(channels: int = 3, kind: type[np.generic] = np.uint8) -> np.ndarray:
    """Noise [HEIGHT, WIDTH, channels], or [HEIGHT, WIDTH]."""
    shape = (HEIGHT, WIDTH, channels)[: 3 if channels > 1 else 2]
    return np.random.default_rng(0).integers(0, 255, shape).astype(kind)


def data_folder(root: Path) -> Path:
    """One picture with labels in three formats."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main", "images", "labels"):
        (root / name).mkdir(parents=True)
    for place in ("JPEGImages/a.jpg", "images/a.jpg"):
        Image.fromarray(pixels()).save(root / place)
    (root / "Annotations/a.xml").write_text(XML)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    (root / "labels/a.txt").write_text(TXT)
    (root / "instances.json").write_text(json.dumps(COCO))
    return root


def data_yaml(root: Path, kind: str) -> Values:
    """Keys of the yaml of that folder in a format."""
    train = {"voc": "train", "yolo": "images", "coco": "instances.json"}[kind]
    images = {"images": "images"} if kind == "coco" else {}
    return {"path": str(root), "format": kind, "train": train, "names": ["cat", "dog"], **images}


def sound(split: Split) -> str:
    """What became of a split whose boxes are in their images, with labels that are classes."""
    for record in split.records:
        (height, width), boxes = record.size_hw, record.boxes_xyxy
        expect(np.isfinite(boxes).all() and (boxes[:, :2] >= 0).all(), "boxes beyond 0")
        expect((boxes[:, 2:] <= (width, height)).all(), "boxes beyond their image")
        expect((boxes[:, 2:] > boxes[:, :2]).all(), "boxes without a size")
        expect(set(record.labels.tolist()) <= set(range(len(split.description.names))), "labels beyond the classes")
        expect(len(boxes) == len(record.labels) == len(record.difficult), "boxes without labels")
    return "left out" if split.problems else "read"


def labels(kind: str, name: str) -> Callable[[Path], Case]:
    """Labels in a format: their file in the folder of data."""

    def make(folder: Path) -> Case:
        root, file = data_folder(folder / "data"), folder / "d.yaml"
        file.write_text(yaml.safe_dump(data_yaml(root, kind)))
        values = COCO if kind == "coco" else None
        return Case(root / name, lambda: sound(read_split(load_description(file), "train")), values, json.dumps)

    return make


def data(folder: Path) -> Case:
    """A data yaml."""
    file, values = folder / "d.yaml", data_yaml(data_folder(folder / "data"), "yolo") | {"val": 0.5, "nc": 2}
    file.write_text(yaml.safe_dump(values))
    return Case(file, lambda: sound(read_split(load_description(file), "train")), values)


def recipe(folder: Path) -> Case:
    """A recipe."""
    file = folder / "recipe.yaml"
    values = yaml.safe_load((ROOT / "configs" / "sample.yaml").read_text()) | {"train": {"lr": 0.001, "epochs": 3}}
    file.write_text(yaml.safe_dump(values))

    def read() -> str:
        load_recipe(file, {})
        return "read"

    return Case(file, read, values)


def run_recipe(folder: Path) -> Case:
    """The recipe in a run folder that is gone on with."""
    run, values = folder / "train" / "exp", Recipe().model_dump(mode="json")
    run.mkdir(parents=True)
    (run / "recipe.yaml").write_text(yaml.safe_dump(values, sort_keys=False))

    def read() -> str:
        choose(None, {}, resume=run, project=folder)
        return "read"

    return Case(run / "recipe.yaml", read, values)


def study(folder: Path) -> Case:
    """A study yaml."""
    file, values = folder / "study.yaml", yaml.safe_load((ROOT / "configs/studies/table1_sample.yaml").read_text())
    values["recipe"] = str((ROOT / "configs" / "studies" / values["recipe"]).resolve())
    file.write_text(yaml.safe_dump(values, sort_keys=False))

    def read() -> str:
        read_study(file, folder / "runs")
        return "read"

    return Case(file, read, values)


def picture(name: str, values: np.ndarray) -> Callable[[Path], Case]:
    """A picture file."""

    def make(folder: Path) -> Case:
        path = folder / name
        Image.fromarray(values).save(path)
        return Case(path, lambda: seen(path))

    return make


def seen(path: Path) -> str:
    """What becomes of a picture."""
    found = attempt(read_rgb, path)
    if isinstance(found, Problem):
        return "left out"
    expect(found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3, "no RGB")
    return "read"


def dicom(folder: Path) -> Case:
    """A DICOM file of 12 bits."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

    path, meta, values = folder / "a.dcm", FileMetaDataset(), pixels(1, np.uint16) * 16
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = CTImageStorage, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    file = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, "1.2.3"
    file.PhotometricInterpretation, file.PixelRepresentation, file.SamplesPerPixel = "MONOCHROME2", 0, 1
    file.Rows, file.Columns, file.BitsAllocated, file.BitsStored, file.HighBit = HEIGHT, WIDTH, 16, 12, 11
    file.WindowCenter, file.WindowWidth, file.RescaleSlope, file.RescaleIntercept = 2000, 3000, 1, -10
    file.PixelData = values.tobytes()
    file.save_as(path, enforce_file_format=True)
    return Case(path, lambda: seen(path))


def same_weights(found: Any, wanted: Any) -> str:
    """`read`, if two dicts of tensors hold the same."""
    expect(found.keys() == wanted.keys(), "other names of weights")
    expect(all(torch.equal(found[name], wanted[name]) for name in wanted), "changed weights")
    return "read"


def narrow_detector() -> tuple[YOLOv3, Values]:
    """An untrained detector, and what its file says."""
    torch.manual_seed(0)
    model = YOLOv3(make_backbone("darknet53", NARROW), 2)
    said = {"backbone": "darknet53", "width": NARROW, "names": ["cat", "dog"], "decode": DECODE_TYPE, "imgsz": 64}
    anchors = [list(anchor) for anchor in scaled_anchors(64)]
    return model, {**said, "recipe": {"data": "d.yaml"}, "anchors": anchors, "model": model.state_dict()}


def detector(folder: Path) -> Case:
    """best.pt."""
    path, (model, content) = folder / "best.pt", narrow_detector()
    checkpoint.save(path, {"kind": "detector", **content})
    wanted = model.state_dict()
    return Case(path, lambda: same_weights(load_trained(path).model.state_dict(), wanted))


def backbone(folder: Path) -> Case:
    """A backbone file."""
    path, network = folder / "backbone_cl1.pt", make_backbone("darknet53", NARROW)
    content = {"method": "cl1", "splits": [[0, 23]], "model": network.state_dict()}
    checkpoint.save(path, {"kind": "backbone", "backbone": "darknet53", "width": NARROW, **content})
    wanted = network.state_dict()
    return Case(path, lambda: same_weights(read_weights(path, "darknet53", NARROW)["model"], wanted))


def last(folder: Path) -> Case:
    """last.pt, with the state of its optimiser."""
    path, (model, content) = folder / "last.pt", narrow_detector()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    within = {"epoch": 1, "batch": 2, "history": [0.5]}
    content |= {"position": {"task": "detector", "within": within}, "average": None, "precision": {}}
    checkpoint.save(path, {"kind": "training", **content, "optimizer": optimizer.state_dict()})
    wanted = optimizer.state_dict()["state"]

    def read() -> str:
        found = checkpoint.load(path, "training")
        expect(found["position"]["within"] == within, "another position")
        for number, state in wanted.items():
            same_weights(found["optimizer"]["state"][number], state)
        return same_weights(found["model"], model.state_dict())

    return Case(path, read)


def darknet(folder: Path) -> Case:
    """A weight file of darknet that this project wrote, with its SHA-256 beside it."""
    path, network = folder / "a.weights", DarkNet(DarkNetConfig(width=NARROW))
    write_darknet(path, network)
    wanted = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def read() -> str:
        read_darknet(path, network)
        return same_weights(network.state_dict(), wanted)

    return Case(path, read)


def onnx(folder: Path) -> Case:
    """An exported detector."""
    import onnx as library

    from deployment.export import write_onnx

    detector(folder)
    path = folder / "best.onnx"
    write_onnx(load_trained(folder / "best.pt"), path, "default", None)
    wanted = library.load(str(path)).SerializeToString(deterministic=True)

    def read() -> str:
        load_onnx(path)
        expect(library.load(str(path)).SerializeToString(deterministic=True) == wanted, "changed weights")
        return "read"

    return Case(path, read)


CASES: dict[str, Callable[[Path], Case]] = {
    "data yaml": data,
    "recipe": recipe,
    "study": study,
    "run recipe": run_recipe,
    "VOC XML": labels("voc", "Annotations/a.xml"),
    "VOC list": labels("voc", "ImageSets/Main/train.txt"),
    "COCO json": labels("coco", "instances.json"),
    "YOLO txt": labels("yolo", "labels/a.txt"),
    "JPEG": picture("a.jpg", pixels()),
    "PNG": picture("a.png", pixels()),
    "PNG of 16 bits": picture("b.png", pixels(1, np.uint16) * 16),
    "TIFF": picture("a.tif", pixels()),
    "TIFF of floats": picture("b.tif", pixels(1, np.float32)),
    "DICOM": dicom,
    "detector": detector,
    "backbone": backbone,
    "last.pt": last,
    ".weights": darknet,
    "ONNX": onnx,
}
