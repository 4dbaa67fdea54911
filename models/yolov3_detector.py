"""A trained YOLOv3 from a checkpoint of this project or a weight file of darknet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.backbones import make_backbone
from models.darknet import DarkNet
from models.darknet_weights import count_classes, is_darknet, read_darknet
from models.decode import DECODE_TYPE, Decoder
from models.detector import Detector
from models.yolov3 import YOLOv3, scaled_anchors
from utils import checkpoint
from utils.config import ROOT
from utils.errors import UserError
from utils.levels import Levels
from utils.recipes import read_yaml

DARKNET_SIZE = 416  # side of the input in yolov3.cfg


@dataclass(frozen=True)
class YOLOv3Detector(Detector):
    """The network and its decoder, in PyTorch; `recipe` and `commit` of the run that trained them."""

    model: YOLOv3
    decoder: Decoder
    recipe: dict[str, Any]
    commit: str

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.decoder(self.model(images))
        return boxes, scores


def load_yolov3(path: Path, device: torch.device | str = "cpu") -> YOLOv3Detector:
    """Read a detector checkpoint, or a weight file of darknet's YOLOv3, in evaluation mode.

    Raises:
        UserError: not a whole detector checkpoint of this project, or of another decode type; not a whole weight file.
    """
    if is_darknet(path):
        return load_darknet(path, device)
    content = checkpoint.load(path, "detector")
    if content["decode"] != DECODE_TYPE:
        raise UserError(f"decode type `{content['decode']}`", where=path, mend=f"only `{DECODE_TYPE}` is known here")
    names, recipe = content["names"], content["recipe"]
    model = YOLOv3(make_backbone(content["backbone"], content["width"]), len(names))
    checkpoint.load_state(model, content["model"], path)
    model, decoder = ready(model, [tuple(anchor) for anchor in content["anchors"]], device)
    data, commit, levels = ROOT / recipe["data"], content["commit"], Levels.stored(content, path)
    return YOLOv3Detector(path, names, content["imgsz"], data, device, model, decoder, recipe, commit, levels=levels)


def load_darknet(path: Path, device: torch.device | str = "cpu") -> YOLOv3Detector:
    """A weight file of darknet's YOLOv3 on DarkNet-53, with COCO's anchors.

    Names are those of COCO for 80 classes and of Pascal VOC for 20, else the indices.

    Raises:
        UserError: not a whole weight file.
    """
    classes = count_classes(path)
    model = YOLOv3(DarkNet(), classes)
    read_darknet(path, model)
    data = ROOT / "data" / ("coco.yaml" if classes == 80 else "voc.yaml")
    names = read_yaml(data)["names"] if classes in (20, 80) else [str(index) for index in range(classes)]
    model, decoder = ready(model, scaled_anchors(DARKNET_SIZE), device)
    return YOLOv3Detector(path, names, DARKNET_SIZE, data, device, model, decoder, {}, "darknet")


def ready(model: YOLOv3, anchors: list[tuple[float, float]], device: torch.device | str) -> tuple[YOLOv3, Decoder]:
    """The network in evaluation mode and its decoder, on the device."""
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return model, Decoder(anchors).to(device)
