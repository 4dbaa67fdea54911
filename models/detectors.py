"""Detectors by name.

To add one, write a network and a decoder (models/network.py) and a criterion, and add them to DETECTORS. Training,
checkpoints, evaluation, detect.py, export and maps follow.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from models.backbone import Backbone
from models.decode import DECODE_TYPE, Decoder
from models.loss import YOLOLoss, YOLOLossConfig
from models.network import DetectorNetwork, RawDecoder
from models.ssd import SSD, SSDDecoder, SSDLoss
from models.yolov1_network import CellDecoder, CellLoss, YOLOv1
from models.yolov3 import YOLOv3
from utils.tables import Entry, Table

Anchors = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Settings:
    """What a detector is made of besides its backbone.

    Attributes:
        classes: how many it distinguishes.
        imgsz: side of the input in pixels.
        anchors: nine (width, height) in input pixels; of YOLOv3 only.
        loss, class_weights: of YOLOv3's criterion only.
    """

    classes: int
    imgsz: int
    anchors: Anchors = ()
    loss: YOLOLossConfig | None = None
    class_weights: Tensor | None = None


@dataclass(frozen=True)
class DetectorEntry(Entry):
    """A way to find boxes.

    Attributes:
        decode: what its raw maps mean; stored in every checkpoint.
        network: on a backbone.
        decoder: of what the network puts out.
        criterion: of a decoder; it keeps that as `decoder`.
        anchored: it looks at anchors, and at the weights and thresholds of the loss.
        tapped: it reads the backbone at strides 8, 16 and 32.
        one_size: it takes images of the size that it was made for, no other.
    """

    decode: str
    network: Callable[[Backbone, Settings], DetectorNetwork]
    decoder: Callable[[Settings], RawDecoder]
    criterion: Callable[[RawDecoder, Settings], nn.Module]
    anchored: bool = False
    tapped: bool = True
    one_size: bool = False


DETECTORS = Table(
    "detector",
    "--detector",
    (
        DetectorEntry(
            "yolov3",
            "YOLOv3, darknet's criterion",
            DECODE_TYPE,
            lambda backbone, own: YOLOv3(backbone, own.classes),
            lambda own: Decoder(list(own.anchors)),
            lambda decoder, own: YOLOLoss(decoder, own.loss, own.class_weights),  # type: ignore[arg-type]
            anchored=True,
        ),
        DetectorEntry(
            "yolov1",
            "YOLOv1, 7 × 7 cells, fully connected",
            "yolov1",
            lambda backbone, own: YOLOv1(backbone, own.classes, own.imgsz),
            lambda own: CellDecoder(own.imgsz),
            lambda decoder, own: CellLoss(decoder, own.classes),  # type: ignore[arg-type]
            tapped=False,
            one_size=True,
        ),
        DetectorEntry(
            "ssd",
            "SSD, default boxes at the taps and beyond",
            "ssd",
            lambda backbone, own: SSD(backbone, own.classes, own.imgsz),
            lambda own: SSDDecoder(own.imgsz),
            lambda decoder, own: SSDLoss(decoder),  # type: ignore[arg-type]
        ),
    ),
)
