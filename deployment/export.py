"""Writing a detector for other programs, and comparing what was written with PyTorch."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim

from data.description import load_description
from data.formats import read_unseen
from data.images import images_below
from data.levels import with_levels
from data.loader import read_image
from data.records import Record, make_record
from data.sources import read_image as frame_of
from data.transforms import eval_transform
from models.decode import Thresholds, suppress
from models.onnx_detector import boxes_and_scores, digest, load_onnx
from models.segmenter import Segmenter
from models.test_time import Outputs
from models.trained import TrainedDetector
from models.yolov3 import STRIDES
from utils.checkpoint import LESSON, TRAINED_ON, learnt_text
from utils.errors import UserError
from utils.files import make_folder, written_whole

RANDOM = 3  # pictures to compare on where there are no data: as many as the largest batch holds
OPSET = 18  # what the GPU kernels of onnxruntime and ultralytics' reader cover
IR_VERSION = 10

# Appended to the default layout. Suppression finds (image, class, box) triples; their scores, put where they belong in
# an empty table, leave the best of each image to TopK; rows that are over are all zero.
SUPPRESSION = """<ir_version: 10, opset_import: ["": 18]>
suppression (float[B, C, N] output0) => (float[B, K, 6] detections)
<int64[1] most = {{{most}}}, float[1] iou = {{{iou}}}, float[1] conf = {{{conf}}}, int64[1] none = {{-1}},
 int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] four = {{4}}, int64[1] far = {{1000000}},
 float[1] half = {{0.5}}>
{{
  boxes_first = Slice (output0, zero, four, one)
  scores = Slice (output0, four, far, one)
  boxes = Transpose <perm = [0, 2, 1]> (boxes_first)
  found = NonMaxSuppression <center_point_box = 1> (boxes, scores, most, iou, conf)
  found_scores = GatherND (scores, found)
  scores_shape = Shape (scores)
  empty = ConstantOfShape (scores_shape)
  table = ScatterND (empty, found, found_scores)
  batch = Slice (scores_shape, zero, one)
  row_shape = Concat <axis = 0> (batch, none)
  rows = Reshape (table, row_shape)
  rows_shape = Shape (rows)
  length = Slice (rows_shape, one, two)
  count = Min (most, length)
  best, place = TopK <axis = 1> (rows, count)
  boxes_count = Slice (scores_shape, two, far)
  label = Div (place, boxes_count)
  box = Mod (place, boxes_count)
  box_column = Unsqueeze (box, none)
  four_shape = Concat <axis = 0> (one, one, four)
  box_index = Expand (box_column, four_shape)
  chosen = GatherElements <axis = 1> (boxes, box_index)
  centre = Slice (chosen, zero, two, two)
  size = Slice (chosen, two, four, two)
  reach = Mul (size, half)
  low = Sub (centre, reach)
  high = Add (centre, reach)
  best_column = Unsqueeze (best, none)
  label_float = Cast <to = 1> (label)
  label_column = Unsqueeze (label_float, none)
  row = Concat <axis = 2> (low, high, best_column, label_column)
  nothing = Cast <to = 1> (zero)
  real = Greater (best_column, nothing)
  kept = Cast <to = 1> (real)
  detections = Mul (row, kept)
}}"""


class Exported(nn.Module):
    """images [B, C, H, W] in 0–1 → output0, boxes as centre and size in pixels.

    The default layout is [B, 4 + classes, N], objectness · class; that of YOLOv5 [B, N, 5 + classes].
    """

    def __init__(self, detector: TrainedDetector, layout: str = "default") -> None:
        super().__init__()
        self.model, self.decoder, self.layout = detector.model, detector.decoder, layout

    def forward(self, images: Tensor) -> Tensor:
        boxes, objectness, classes = self.decoder.parts(self.model(images))
        if self.layout == "v5":
            return torch.cat([boxes, objectness, classes], -1)
        return torch.cat([boxes, objectness * classes], -1).transpose(1, 2)


def prepared(detector: TrainedDetector, layout: str) -> tuple[nn.Module, Tensor]:
    """The module to write, and an example of its input."""
    network = Exported(detector, layout)
    network = network.to("cpu", memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    return network, torch.rand(2, detector.in_channels, detector.imgsz, detector.imgsz)  # of 1 would be a constant


def write_torchscript(detector: TrainedDetector, path: Path, layout: str = "default") -> None:
    """Write a traced module, any batch and size.

    Raises:
        UserError: the folder cannot be written.
    """
    network, example = prepared(detector, layout)
    make_folder(path.parent)
    with written_whole(path) as temporary, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, example).save(str(temporary))  # type: ignore[no-untyped-call]


def write_onnx(
    detector: TrainedDetector, path: Path, layout: str = "default", suppression: Thresholds | None = None
) -> str:
    """Write the detector with dynamic batch, and size if it takes any; says which of torch's exporters did it.

    Args:
        suppression: with it, the file itself suppresses, and puts out [B, max_det, 6]: x1 y1 x2 y2, score, class.

    Raises:
        UserError: the folder cannot be written.
    """
    network, example = prepared(detector, layout)
    make_folder(path.parent)
    with written_whole(path) as temporary:
        exporter = export_somehow(network, example, temporary, any_size=not detector.entry.one_size)
        finish(temporary, detector, layout, suppression)
    return exporter


def export_somehow(network: nn.Module, example: Tensor, path: Path, *, any_size: bool = True) -> str:
    """ONNX of the newer of torch's exporters, or of the older one where that fails; says which did it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            export_traced(network, example, path, any_size=any_size)
        except Exception as error:  # the newer exporter has many ways to fail; the older one is the way out
            export_scripted(network, example, path, any_size=any_size)
            return f"TorchScript exporter, since torch.export failed: {error}"
    return "torch.export"


def export_traced(network: nn.Module, example: Tensor, path: Path, *, any_size: bool = True) -> None:
    """torch.export's ONNX, weights inside the file."""
    shapes = ({0: Dim("batch"), **({2: Dim.DYNAMIC, 3: Dim.DYNAMIC} if any_size else {})},)
    export(network, example, path, dynamo=True, external_data=False, dynamic_shapes=shapes, verbose=False)


def export_scripted(network: nn.Module, example: Tensor, path: Path, *, any_size: bool = True) -> None:
    """The older exporter's ONNX."""
    sides, boxes = ({2: "height", 3: "width"}, {2: "boxes"}) if any_size else ({}, {})
    axes = {"images": {0: "batch", **sides}, "output0": {0: "batch", **boxes}}
    export(network, example, path, dynamo=False, dynamic_axes=axes)


def export(network: nn.Module, example: Tensor, path: Path, **options: Any) -> None:
    """What both exporters have in common: the opset and the names of input and output."""
    names: dict[str, Any] = {"input_names": ["images"], "output_names": ["output0"]}
    torch.onnx.export(network, (example,), str(path), opset_version=OPSET, **names, **options)


def finish(path: Path, detector: TrainedDetector, layout: str, suppression: Thresholds | None) -> None:
    """Suppression, if asked for; what ultralytics and whoever opens the file later wants to know; onnx' full check."""
    import onnx

    model = onnx.load(str(path))
    model.ir_version = min(model.ir_version, IR_VERSION)  # merging wants that of the suppression
    if suppression:
        text = SUPPRESSION.format(most=suppression.max_det, iou=suppression.iou_thres, conf=suppression.conf_thres)
        model = onnx.compose.merge_models(
            model, onnx.parser.parse_model(text), io_map=[("output0", "output0")], prefix2="nms_"
        )
    properties = metadata(detector) | {
        "args": {"dynamic": not detector.entry.one_size, "nms": bool(suppression)},
        "end2end": bool(suppression),
        "layout": "nms" if suppression else layout,
    }
    save_described(model, path, properties)


def save_described(model: Any, path: Path, properties: dict[str, Any]) -> None:
    """Write an ONNX model with what it says of itself and its checksum, after onnx' full check."""
    import onnx

    model.ir_version = min(model.ir_version, IR_VERSION)
    onnx.helper.set_model_props(model, {key: str(value) for key, value in properties.items()})
    model.metadata_props.add(key="sha256", value=digest(model))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def metadata(detector: TrainedDetector) -> dict[str, Any]:
    """Of any layout: names, sizes, and where it comes from."""
    return {
        "description": f"{detector.entry.title}, on a cascade-learned backbone",
        "task": "detect",
        "names": dict(enumerate(detector.names)),
        "stride": max(STRIDES),
        "imgsz": [detector.imgsz, detector.imgsz],
        "batch": 1,
        "channels": detector.in_channels,
        "detector": detector.entry.name,
        "decode": detector.entry.decode,
        **({"anchors": [list(own) for own in detector.settings.anchors]} if detector.entry.anchored else {}),
        "commit": detector.commit,
        "license": "AGPL-3.0",
        **({"levels": detector.levels.pair} if detector.levels else {}),
        **({TRAINED_ON: learnt_text(detector.learnt)} if detector.learnt is not None else {}),
        **({LESSON: json.dumps(dict(detector.lesson))} if detector.lesson else {}),
    }


@dataclass(frozen=True)
class Difference:
    """Largest differences for one batch.

    Attributes:
        box: relative to max(1 px, the value); NaN where the file gives NaN.
        score: absolute.
        boxes: how many were compared.
    """

    batch: int
    size_hw: tuple[int, int]
    box: float
    score: float
    boxes: int


def pictures_for(own: TrainedDetector | Segmenter, data: Path | None, folder: Path | None) -> list[Record]:
    """What a written file is compared on: held-out pictures, those of a folder, or random ones, which is said.

    Args:
        data: data yaml that somebody asks for [that of the training, if it is still there].
        folder: of pictures that need no labels.

    Raises:
        UserError: what is asked for cannot be read, or both are.
    """
    if data is not None and folder is not None:
        raise UserError("a folder of pictures and a data yaml", where="--pictures", hint="leave --data or it out")
    if folder is not None:
        frames = (frame for path in images_below(folder) if (frame := frame_of(path, own.levels)))
        found = [
            make_record(Path(frame.where), frame.image.shape[:2], pixels=frame.image)
            for frame in islice(frames, RANDOM)
        ]
        if not found:
            raise UserError("no readable picture", where=folder, hint="give a folder of pictures, or leave it out")
        return found
    try:
        if not (yaml := data or own.data):
            raise UserError("does not name its data set", where=own.path, hint="name a data yaml with --data")
        description = with_levels(load_description(yaml), own.levels)
        return read_unseen(description).records
    except UserError as error:
        if data is not None:
            raise
        print(f"compared on {RANDOM} random pictures, since there are no others: {error}")
        return random_pictures(own.imgsz)


def random_pictures(imgsz: int) -> list[Record]:
    """Pictures of noise of several scales, always the same, wider and higher ones: some cells answer to any of them."""
    draw = np.random.default_rng(0)
    found = []
    for number in range(RANDOM):
        height, width = draw.integers(imgsz // 2, imgsz + 1, 2).tolist()
        coarse = draw.integers(0, 256, (4 << number, 4 << number, 3), np.uint8)
        pixels = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        found.append(make_record(Path(f"random#{number}"), (height, width), pixels=pixels))
    return found


def compare(
    detector: TrainedDetector, path: Path, records: list[Record], layout: str, suppression: Thresholds | None = None
) -> Iterator[Difference]:
    """A written file beside PyTorch on real images: batches of 1 and 3, the trained size, perhaps a wider one too."""
    find = reader(path, layout, len(detector.names))
    for batch in (1, 3):
        for extra in (0,) if detector.entry.one_size else (0, max(STRIDES)):
            images = real_batch(records, batch, detector.imgsz, extra)[:, : detector.in_channels]
            with torch.inference_mode():
                wanted, got = detector.outputs(images), find(images)
            off = after(wanted, got, suppression) if suppression else apart(wanted, got)
            yield Difference(batch, (images.shape[2], images.shape[3]), *off)


def reader(path: Path, layout: str, classes: int) -> Outputs:
    """What runs a written file, whatever it is called: TorchScript is a zip archive, ONNX is none."""
    if not is_zipfile(path):
        return load_onnx(path).outputs
    module = torch.jit.load(str(path))
    return lambda images: boxes_and_scores(module(images), layout, classes)


def apart(wanted: tuple[Tensor, Tensor], got: tuple[Tensor, Tensor]) -> tuple[float, float, int]:
    """Largest differences of boxes and of scores, and the number of boxes."""
    box = (got[0] - wanted[0]).abs() / wanted[0].abs().clamp(min=1)
    return float(box.max()), float((got[1] - wanted[1]).abs().max()), wanted[0][..., 0].numel()


def after(
    wanted: tuple[Tensor, Tensor], got: tuple[Tensor, Tensor], thresholds: Thresholds
) -> tuple[float, float, int]:
    """The same after suppression by PyTorch, and by the file; infinite where one has found more."""
    boxes_off, scores_off = [0.0], [0.0]
    count = 0
    for boxes, scores, own_boxes, own_scores in zip(*wanted, *got, strict=True):
        found = suppress(boxes, scores, thresholds)
        own = suppress(own_boxes, own_scores, thresholds)
        if len(found.scores) != len(own.scores):
            return float("inf"), float("inf"), len(found.scores)
        count += len(found.scores)
        for label in found.labels.unique():
            one, other = (item.at(item.labels == label) for item in (found, own))
            if len(one.scores) != len(other.scores):
                return float("inf"), float("inf"), count
            gap = (other.boxes_xyxy - one.boxes_xyxy).abs() / one.boxes_xyxy.abs().clamp(min=1)
            boxes_off.append(float(gap.max()))
            scores_off.append(float((other.scores - one.scores).abs().max()))
    return float(np.max(boxes_off)), float(np.max(scores_off)), count  # max() of Python would pass NaN over


def real_batch(records: list[Record], batch: int, imgsz: int, extra: int) -> Tensor:
    """The first images, letterboxed; extra columns of grey at the right make the input wider than high."""
    from torchvision import tv_tensors

    transform = eval_transform(imgsz)
    squares = [transform(tv_tensors.Image(read_image(records[i % len(records)])))[0] for i in range(batch)]
    images = torch.stack([square.as_subclass(Tensor) for square in squares]).float() / 255
    return nn.functional.pad(images, (0, extra), value=0.5)
