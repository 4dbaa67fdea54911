"""Writing ONNX, and holding it against PyTorch."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim

from data.loader import read_image
from data.records import Record
from data.transforms import eval_transform
from models.decode import DECODE_TYPE
from models.detector import Detector
from models.yolov3 import STRIDES
from utils.files import make_folder, written_whole

OPSET = 18  # what the GPU kernels of onnxruntime and ultralytics' reader cover
IR_VERSION = 10


class Exported(nn.Module):
    """images [B, 3, H, W] in 0–1 → output0 [B, 4 + classes, N], centre and size in pixels, objectness · class."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.model, self.decoder = detector.model, detector.decoder

    def forward(self, images: Tensor) -> Tensor:
        boxes, scores = self.decoder(self.model(images))
        return torch.cat([boxes, scores], -1).transpose(1, 2)


def write_onnx(detector: Detector, path: Path) -> str:
    """Write the detector with dynamic batch and size; says which of torch's exporters did it.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(path.parent)
    network = Exported(detector).to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    example = torch.rand(2, 3, detector.imgsz, detector.imgsz)  # a batch of 1 would be taken for a constant
    exporter = "torch.export"
    with written_whole(path) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export_traced(network, example, temporary)
        except Exception as error:  # the newer exporter has many ways to fail; the older one is the way out
            exporter = f"TorchScript exporter, since torch.export failed: {error}"
            export_scripted(network, example, temporary)
        add_metadata(temporary, detector)
    return exporter


def export_traced(network: nn.Module, example: Tensor, path: Path) -> None:
    """torch.export's ONNX, weights inside the file."""
    shapes = ({0: Dim("batch"), 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)
    export(network, example, path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False)


def export_scripted(network: nn.Module, example: Tensor, path: Path) -> None:
    """The older exporter's ONNX."""
    axes = {"images": {0: "batch", 2: "height", 3: "width"}, "output0": {0: "batch", 2: "boxes"}}
    export(network, example, path, dynamo=False, dynamic_axes=axes)


def export(network: nn.Module, example: Tensor, path: Path, **options: Any) -> None:
    """What both exporters have in common: the opset and the names of input and output."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"]}
    torch.onnx.export(network, (example,), str(path), opset_version=OPSET, **names, **options)


def add_metadata(path: Path, detector: Detector) -> None:
    """What ultralytics, and whoever opens the file later, wants to know; then the full check of onnx."""
    import onnx

    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, IR_VERSION)
    properties = {
        "description": "YOLOv3 on a cascade-learned backbone",
        "task": "detect",
        "names": dict(enumerate(detector.names)),
        "stride": max(STRIDES),
        "imgsz": [detector.imgsz, detector.imgsz],
        "batch": 1,
        "channels": 3,
        "args": {"dynamic": True, "nms": False},
        "end2end": False,
        "decode": DECODE_TYPE,
        "anchors": detector.decoder.anchors.tolist(),
        "commit": detector.commit,
        "license": "AGPL-3.0",
    }
    onnx.helper.set_model_props(model, {key: str(value) for key, value in properties.items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


@dataclass(frozen=True)
class Difference:
    """Largest differences for one batch: boxes relative to max(1 px, the value), scores absolute."""

    batch: int
    size_hw: tuple[int, int]
    box: float
    score: float


def compare(detector: Detector, path: Path, records: list[Record]) -> Iterator[Difference]:
    """ONNX against PyTorch on real images: batches of 1 and 3, the trained size and a wider one."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    network = Exported(detector).eval()
    for batch in (1, 3):
        for extra in (0, max(STRIDES)):
            images = real_batch(records, batch, detector.imgsz, extra)
            with torch.inference_mode():
                wanted = network(images).numpy()
            got = session.run(["output0"], {"images": images.numpy()})[0]
            error = np.abs(got - wanted)
            box = error[:, :4] / np.maximum(1, np.abs(wanted[:, :4]))
            yield Difference(batch, (images.shape[2], images.shape[3]), float(box.max()), float(error[:, 4:].max()))


def real_batch(records: list[Record], batch: int, imgsz: int, extra: int) -> Tensor:
    """The first images, letterboxed; extra columns of grey at the right make the input wider than high."""
    from torchvision import tv_tensors

    transform = eval_transform(imgsz)
    squares = [transform(tv_tensors.Image(read_image(records[i % len(records)])))[0] for i in range(batch)]
    images = torch.stack([square.as_subclass(Tensor) for square in squares]).float() / 255
    return nn.functional.pad(images, (0, extra), value=0.5)
