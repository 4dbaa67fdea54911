"""A trained detector from a checkpoint of this project or a weight file of darknet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.backbones import backbone_of
from models.channels import check_channels
from models.darknet import DarkNet
from models.darknet_weights import count_classes, is_darknet, read_darknet
from models.detector import Detector
from models.detectors import DETECTORS, DetectorEntry, Settings
from models.network import DetectorNetwork, RawDecoder
from models.yolov3 import YOLOv3, scaled_anchors
from utils import checkpoint
from utils.config import ROOT
from utils.errors import UserError
from utils.levels import Levels
from utils.recipes import read_yaml

DARKNET_SIZE = 416  # side of the input in yolov3.cfg


@dataclass(frozen=True)
class TrainedDetector(Detector):
    """The network and its decoder, in PyTorch; `recipe` and `commit` of the run that trained them.

    Attributes:
        entry: which of DETECTORS it is.
        settings: what it was made of.
    """

    model: DetectorNetwork
    decoder: RawDecoder
    recipe: dict[str, Any]
    commit: str
    entry: DetectorEntry
    settings: Settings

    @property
    def in_channels(self) -> int:
        return self.model.backbone.in_channels

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        check_channels(images, self.in_channels, self.path)
        if self.entry.one_size and tuple(images.shape[2:]) != (self.imgsz, self.imgsz):
            height, width = images.shape[2:]
            what = f"{width}×{height}: {self.entry.name} takes images of {self.imgsz}×{self.imgsz} only"
            raise UserError(what, where="--imgsz", hint="leave --imgsz and --augment out")
        boxes, scores = self.decoder(self.model(images))
        return boxes, scores


def load_trained(path: Path, device: torch.device | str = "cpu") -> TrainedDetector:
    """Read a detector checkpoint, or a weight file of darknet's YOLOv3, in evaluation mode.

    Raises:
        UserError: not a whole detector checkpoint of this project, or of another decode type; not a whole weight file.
    """
    if is_darknet(path):
        return load_darknet(path, device)
    content = checkpoint.load(path, "detector")
    entry = DETECTORS.pick(content.get("detector", "yolov3"), str(path))
    if content["decode"] != entry.decode:
        raise UserError(f"decode type `{content['decode']}`", where=path, hint=f"only `{entry.decode}` is known here")
    names, recipe = content["names"], content["recipe"]
    anchors = tuple((width, height) for width, height in content.get("anchors", ()))
    settings = Settings(len(names), content["imgsz"], anchors)
    model = entry.network(backbone_of(content), settings)
    checkpoint.load_state(model, content["model"], path)
    ready = on_device(model, entry.decoder(settings), device)
    data, commit, levels = ROOT / recipe["data"], content["commit"], Levels.stored(content, path)
    learnt = checkpoint.learnt_by(content)
    own = (path, names, content["imgsz"], data, device, *ready, recipe, commit, entry, settings)
    return TrainedDetector(*own, levels=levels, lesson=content.get("lesson", {}), learnt=learnt)


def load_darknet(path: Path, device: torch.device | str = "cpu") -> TrainedDetector:
    """A weight file of darknet's YOLOv3 on DarkNet-53, with COCO's anchors.

    Names are those of COCO for 80 classes and of Pascal VOC for 20, else the indices.

    Raises:
        UserError: not a whole weight file.
    """
    classes = count_classes(path)
    model, entry = YOLOv3(DarkNet(), classes), DETECTORS["yolov3"]
    read_darknet(path, model)
    data = ROOT / "data" / ("coco.yaml" if classes == 80 else "voc.yaml")
    names = read_yaml(data)["names"] if classes in (20, 80) else [str(index) for index in range(classes)]
    settings = Settings(classes, DARKNET_SIZE, tuple(scaled_anchors(DARKNET_SIZE)))
    ready = on_device(model, entry.decoder(settings), device)
    return TrainedDetector(path, names, DARKNET_SIZE, data, device, *ready, {}, "darknet", entry, settings)


def on_device(
    model: DetectorNetwork, decoder: RawDecoder, device: torch.device | str
) -> tuple[DetectorNetwork, RawDecoder]:
    """The network in evaluation mode and its decoder, on the device."""
    model = model.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return model, decoder.to(device)
