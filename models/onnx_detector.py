"""A detector in an ONNX file: one of this project's, or any that puts out boxes as Ultralytics' exports do."""

import ast
import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from models.channels import RGB, check_channels
from models.detector import Detector
from models.yolov3 import STRIDES
from utils.boxes import xyxy_to_cxcywh
from utils.checkpoint import LESSON, TRAINED_ON, learnt_from
from utils.contents import Lesson, check_field
from utils.errors import UserError
from utils.levels import Levels
from utils.limits import MODEL
from utils.memory import GIB
from utils.paths import is_file
from utils.recipes import anchor_paths, read_yaml

LAYOUTS = {
    "default": "[B, 4 + classes, N]: centre and size in pixels, objectness · class",
    "v5": "[B, N, 5 + classes]: centre and size in pixels, objectness, class",
    "nms": "[B, n, 6]: x1 y1 x2 y2 in pixels, score, class; after suppression",
}
ANOTHER = "give a detector that export.py wrote"


@dataclass(frozen=True)
class OnnxDetector(Detector):
    """A session of onnxruntime; `layout` is a key of LAYOUTS, `batch` and `size_hw` are None where any will do."""

    session: Any
    layout: str
    batch: int | None
    size_hw: tuple[int, int] | None
    channels: int = RGB

    @property
    def in_channels(self) -> int:
        return self.channels

    @property
    def suppresses(self) -> bool:
        return self.layout == "nms"

    def outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        check_channels(images, self.channels, self.path)
        if self.size_hw not in (None, tuple(images.shape[2:])):
            height, width = self.size_hw or (0, 0)
            hint = f"leave --imgsz out, or export at {max(images.shape[2:])}"
            raise UserError(f"takes images of {width}×{height} only", where=self.path, hint=hint)
        given = self.session.get_inputs()[0]
        kind = np.float16 if "float16" in given.type else np.float32
        pixels = images.cpu().contiguous().numpy().astype(kind)
        step = self.batch or len(pixels)
        lacking = -len(pixels) % step  # a fixed batch is filled up
        full = np.concatenate([pixels, *[pixels[-1:]] * lacking])
        parts = (full[start : start + step] for start in range(0, len(full), step))
        found = np.concatenate([self.session.run(None, {given.name: part})[0] for part in parts])[: len(pixels)]
        return boxes_and_scores(torch.from_numpy(found.astype(np.float32)), self.layout, len(self.names))


def boxes_and_scores(found: Tensor, layout: str, classes: int) -> tuple[Tensor, Tensor]:
    """Boxes [B, N, 4], centre and size in pixels, and scores [B, N, classes] of an output in one of LAYOUTS."""
    if layout == "nms":
        return xyxy_to_cxcywh(found[..., :4]), found[..., 4:5] * one_hot(found[..., 5].long(), classes)
    if layout == "v5":
        return found[..., :4], found[..., 4:5] * found[..., 5:]
    return found[:, :4].transpose(1, 2), found[:, 4:].transpose(1, 2)


def load_onnx(path: Path, device: torch.device | str = "cpu") -> OnnxDetector:
    """Read an ONNX file; it runs on the CPU, or on a GPU where onnxruntime was installed for one.

    Raises:
        UserError: missing, damaged, or no detector.
    """
    import onnxruntime

    properties = checked(path)
    wanted = ["CUDAExecutionProvider"] if torch.device(device).type == "cuda" else []
    providers = [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with a file is reported below, in one line
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a dozen types for what it cannot read
        raise unreadable(path, error) from error
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 4 or len(outputs[0].shape) != 3:
        raise UserError("no detector: not one input of images and one output of boxes", where=path, hint=ANOTHER)
    batch, channels, height, width = (side if isinstance(side, int) else None for side in inputs[0].shape)
    fixed = (height, width) if height and width else None
    layout = properties.get("layout") or ("nms" if properties.get("end2end") == "True" else "default")
    names = read_names(properties, outputs[0].shape, layout, path)
    check_classes(properties, outputs[0].shape, layout, names, path)
    imgsz = max(fixed) if fixed else read_size(properties, path)
    return OnnxDetector(
        path,
        names,
        imgsz,
        data_of_run(path),
        torch.device("cpu"),
        session,
        layout,
        batch,
        fixed,
        channels or RGB,
        levels=read_levels(properties, path),
        lesson=read_lesson(properties, path),
        learnt=read_learnt(properties),
    )


def data_of_run(path: Path) -> Path | None:
    """The data yaml of the run in whose folder a file is; None where it is in none."""
    recipe = path.parent.parent / "recipe.yaml"
    if path.parent.name != "weights" or not is_file(recipe):
        return None
    values = read_yaml(recipe)
    anchor_paths(values, recipe.parent)
    return values.get("data")


def checked(path: Path) -> dict[str, str]:
    """The metadata of an ONNX file that is valid, and unchanged since it was written if it says what it was.

    Raises:
        UserError: missing, damaged, or with weights in other files.
    """
    import onnx

    if not is_file(path):
        raise UserError("no such file", where=path, hint="check the path, or write one with `python export.py`")
    if what := MODEL.too_much(path.stat().st_size / GIB):
        raise UserError(f"of {what}", where=path, hint="do so only if you trust it")
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker have many types
        raise unreadable(path, error) from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in messages(model, onnx.TensorProto)):
        raise UserError("its weights are in another file", where=path, hint="export it as one file")
    properties = {item.key: item.value for item in model.metadata_props}
    own = "decode" in properties  # what no other program says
    if ("sha256" in properties or own) and properties.get("sha256") != digest(model):
        raise UserError("damaged: not what was written", where=path, hint="export or copy it again")
    return properties


def messages(message: Any, kind: type) -> Iterator[Any]:
    """Those of a kind at any depth of a protobuf message: weights are in graphs, in nodes, in graphs of these."""
    if isinstance(message, kind):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in [value] if hasattr(value, "ListFields") else value:
                yield from messages(part, kind)


def digest(model: Any) -> str:
    """sha256 of an ONNX model, in which this number itself does not count."""
    bare = type(model)()
    bare.CopyFrom(model)
    kept = [item for item in model.metadata_props if item.key != "sha256"]
    del bare.metadata_props[:]
    bare.metadata_props.extend(kept)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()


def unreadable(path: Path, error: Exception) -> UserError:
    """The error for a file that is no ONNX model, or a damaged one."""
    return UserError(f"no whole ONNX model ({str(error).splitlines()[0][:200]})", where=path, hint=ANOTHER)


def read_names(properties: dict[str, str], shape: list[Any], layout: str, path: Path) -> list[str]:
    """Class names as the metadata spell them, a dict of index to name; without it the indices.

    Raises:
        UserError: the file states neither names nor how many classes it has.
    """
    with contextlib.suppress(ValueError, SyntaxError, AttributeError, TypeError, KeyError):
        names = ast.literal_eval(properties["names"])
        return [str(names[index]) for index in range(len(names))]
    if not (count := class_count(shape, layout)) or count < 0:
        raise UserError("does not say its classes", where=path, hint=ANOTHER)
    return [str(index) for index in range(count)]


def class_count(shape: list[Any], layout: str) -> int | None:
    """Numbers for each box in an output beside its place, and its objectness; None where the shape does not say."""
    width, beside = {"default": (shape[1], 4), "v5": (shape[2], 5)}.get(layout, (None, 0))
    return width - beside if isinstance(width, int) else None


def check_classes(properties: dict[str, str], shape: list[Any], layout: str, names: list[str], path: Path) -> None:
    """Refuse an output with more than boxes and classes in it, as points of a body or angles.

    Raises:
        UserError: it has, or the file says that it does something else.
    """
    if (task := properties.get("task", "detect")) != "detect":
        raise UserError(f"no detector: its task is {task[:40]}", where=path, hint=ANOTHER)
    count = class_count(shape, layout)
    if count is not None and count != len(names):
        what = f"{count} numbers for each box beside its place, and {len(names)} names"
        raise UserError(what, where=path, hint=ANOTHER)


def read_levels(properties: dict[str, str], path: Path) -> Levels | None:
    """Levels as the metadata give them, `[black, white]`; None where they do not.

    Raises:
        UserError: they are no two numbers.
    """
    with contextlib.suppress(ValueError, SyntaxError, TypeError, KeyError):
        return Levels.stored({"levels": ast.literal_eval(properties["levels"])}, path)
    return None


def read_learnt(properties: dict[str, str]) -> frozenset[int] | None:
    """Numbers of the pictures that the detector has learnt from; None where the metadata do not say."""
    with contextlib.suppress(ValueError, KeyError):
        return learnt_from(properties[TRAINED_ON])
    return None


def read_lesson(properties: dict[str, str], path: Path) -> dict[str, Any]:
    """What the backbone of the detector had learnt (evaluation/learnt.py); empty where the metadata do not say.

    Raises:
        UserError: they say it in another way than this project does.
    """
    if LESSON not in properties:
        return {}
    with contextlib.suppress(ValueError):
        found = json.loads(properties[LESSON])
        check_field(LESSON, found, Lesson, path)
        return dict(found)
    raise UserError(f"its `{LESSON}` is no JSON", where=path, hint=ANOTHER)


def read_size(properties: dict[str, str], path: Path) -> int:
    """Side of the input as the metadata give it, for a file that takes any.

    Raises:
        UserError: they do not.
    """
    with contextlib.suppress(ValueError, SyntaxError, TypeError, KeyError):
        size = ast.literal_eval(properties["imgsz"])
        side = int(max(size) if isinstance(size, list | tuple) else size)
        if side > 0 and side % STRIDES[-1] == 0:
            return side
    raise UserError("does not say the size of its input", where=path, hint=ANOTHER)
