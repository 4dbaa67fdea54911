"""Writing a detector's file and seeing to it that it finds the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from deployment import export as writers
from models.darknet import DarkNet
from models.darknet_weights import read_darknet, write_darknet
from models.decode import Thresholds
from models.detector import Detector
from models.inference import for_inference
from models.trained import TrainedDetector, load_trained
from models.yolov3 import YOLOv3
from utils.console import console
from utils.errors import UserError
from utils.flags import refuse_other_kind

SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript", "darknet": ".weights"}
TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2}


@dataclass(frozen=True)
class Wish:
    """What is to be written.

    Attributes:
        format: a key of SUFFIXES.
        layout: of the output, `default` or `v5`.
        suppression: the ONNX file itself suppresses, with these thresholds.
        precision: of the weights, a key of TOLERANCES.
    """

    format: str = "onnx"
    layout: str = "default"
    suppression: Thresholds | None = None
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.format not in SUFFIXES:
            raise UserError(f"no format `{self.format}`", where="--format", hint=f"give {', '.join(SUFFIXES)}")
        if self.layout not in ("default", "v5"):
            raise UserError(f"no layout `{self.layout}`", where="--layout", hint="give default or v5")
        if self.suppression and (self.format != "onnx" or self.layout != "default"):
            raise UserError("only the default layout of ONNX suppresses", where="--nms", hint="leave one of them out")
        if self.format == "darknet" and (self.layout != "default" or self.precision != "fp32"):
            what, hint = "darknet has one layout, in fp32", "leave --layout and --precision out"
            raise UserError(what, where="--format", hint=hint)
        if self.precision not in TOLERANCES:
            raise UserError(f"{self.precision} files are not written", where="--precision", hint="give fp32 or fp16")


def export_detector(
    detector: Detector | str | Path,
    file: str | Path | None = None,
    *,
    format: str = "onnx",
    layout: str = "default",
    nms: bool = False,
    conf_thres: float = 0.25,
    iou_thres: float = 0.45,
    max_det: int = 300,
    precision: str = "fp32",
    data: str | Path | None = None,
    pictures: str | Path | None = None,
) -> Path:
    """Write a detector for other programs and compare it with PyTorch, as export.py does; keywords are its flags.

    Args:
        detector: a checkpoint or darknet file, or what was read from one.
        file: where to write [beside the checkpoint].
        format: `onnx`, `torchscript` or `darknet`.
        nms: the ONNX file itself suppresses, with the thresholds after it; else these are not looked at.
        data: data yaml, on whose held-out images it is compared [that of the training].
        pictures: a folder of pictures to compare on instead [random ones where there are no data].

    Returns:
        The file.

    Raises:
        UserError: it would differ from PyTorch, the keywords do not go together, or the file cannot be written.
    """
    wish = Wish(format, layout, Thresholds(conf_thres, iou_thres, max_det) if nms else None, precision)
    own = load_trained(detector.path if isinstance(detector, Detector) else Path(detector))
    path = own.path.with_suffix(SUFFIXES[format]) if file is None else Path(file)
    refuse_loss(path, own.path, SUFFIXES[format])
    if format == "darknet":
        write_weights(own, path)
    else:
        write_and_compare(own, path, wish, *(None if given is None else Path(given) for given in (data, pictures)))
    return path


def write_weights(detector: TrainedDetector, path: Path) -> None:
    """Write a weight file of darknet, read it back, and say what its cfg must hold.

    Raises:
        UserError: the backbone is none of darknet's.
    """
    own, whole = detector.model, YOLOv3(DarkNet(), len(detector.names))
    shapes = [[tensor.shape for tensor in network.state_dict().values()] for network in (own, whole)]
    if not isinstance(own, YOLOv3) or shapes[0] != shapes[1]:
        what = f"{detector.entry.name} on {type(own.backbone).__name__} of this width is no network of darknet's"
        hint = "darknet has YOLOv3 on the DarkNet-53 of full width only"
        raise UserError(what, where=detector.path, hint=hint)
    write_darknet(path, own)
    read_darknet(path, whole)
    anchors = ", ".join(f"{w:g},{h:g}" for w, h in detector.settings.anchors)
    say(f"wrote {path} ({path.stat().st_size:,} bytes), and read it back. In yolov3.cfg set")
    say(f"  width={detector.imgsz} height={detector.imgsz} classes={len(detector.names)}")
    say(f"  filters={3 * (5 + len(detector.names))} before each [yolo]\n  anchors={anchors}")


def write_and_compare(
    detector: TrainedDetector, path: Path, wish: Wish, data: Path | None, pictures: Path | None
) -> None:
    """Write ONNX or TorchScript, run it on held-out images beside PyTorch in fp32, print how far it is off.

    Raises:
        UserError: too far.
    """
    records = writers.pictures_for(detector, data, pictures)  # before anything is written: they may not be there
    quick = replace(detector, model=for_inference(detector.model, wish.precision))
    if wish.format == "onnx":
        exporter = writers.write_onnx(quick, path, wish.layout, wish.suppression)
    else:
        writers.write_torchscript(quick, path, wish.layout)
        exporter = "torch.jit.trace"
    say(f"wrote {path} ({path.stat().st_size / 2**20:.0f} MiB; {exporter})")
    rows = []
    for row in writers.compare(detector, path, records, wish.layout, wish.suppression):
        size = f"{row.size_hw[0]}×{row.size_hw[1]}"
        say(f"  batch {row.batch}, {size}: boxes differ by {row.box:.1e} (relative), scores by {row.score:.1e}")
        rows.append(row)
    refuse_apart(path, [off for row in rows for off in (row.box, row.score)], TOLERANCES[wish.precision])
    if not any(row.boxes for row in rows):
        say("nothing was found on these pictures, so suppression was not compared: give others with --pictures")


def refuse_loss(path: Path, own: Path, ending: str) -> None:
    """Refuse to write over what is to be exported, or a file of another kind, and a name that says another format.

    Args:
        ending: of the kind that is written, as in `.onnx`.

    Raises:
        UserError: the file would be lost, or be taken for another.
    """
    if path.suffix in {".pt", *SUFFIXES.values()} - {ending}:
        hint = f"end it in {ending}, or give another --format"
        raise UserError(f"ends in {path.suffix}, which is another format", where=path, hint=hint)
    if path.resolve() == own.resolve():
        raise UserError("is the file that is to be exported", where=path, hint="give another name with --file")
    refuse_other_kind(path, ending)


def refuse_apart(path: Path, off: Sequence[float], allowed: float) -> None:
    """Print the largest difference of a written file, which goes if that is too large.

    Args:
        off: differences from PyTorch.

    Raises:
        UserError: one is larger than allowed, or NaN.
    """
    worst = float(np.max(off))  # NaN, where one is
    if not worst <= allowed:
        path.unlink(missing_ok=True)
        hint = f"it was removed: more than {allowed:g}; report the versions in requirements.txt"
        raise UserError(f"differs from PyTorch by {worst:.1e}", where=path, hint=hint)
    say(f"largest difference {worst:.1e}, allowed {allowed:g}")


def say(line: str) -> None:
    """Print a line as it is."""
    console.print(line)
