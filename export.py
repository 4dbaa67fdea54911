"""A trained detector for other programs: ONNX, TorchScript or darknet; compared with PyTorch after it is written."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import UserError, run_cli
from utils.flags import add_precision, add_threshold_flags
from utils.limits import MODEL, PICTURE, add_limit_flags
from utils.plugins import add_import_flag, from_arguments
from utils.runs import newest_detector

if TYPE_CHECKING:
    from models.yolov3_detector import YOLOv3Detector

SUFFIXES = {"onnx": ".onnx", "torchscript": ".torchscript", "darknet": ".weights"}
TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2}


def parse() -> argparse.Namespace:
    """Flags."""
    from_arguments()
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Output `output0` [B, 4 + classes, N]: centre and size in input pixels, then objectness · class.",
    )
    parser.add_argument("--weights", type=Path, help="detector checkpoint [best.pt of the newest finished run]")
    parser.add_argument("--format", choices=SUFFIXES, default="onnx", help="what to write [onnx]")
    parser.add_argument(
        "--layout", choices=("default", "v5"), default="default", help="v5: [B, N, 5 + classes], objectness by itself"
    )
    parser.add_argument(
        "--nms", action="store_true", help="suppression inside the ONNX file: [B, max-det, 6], x1 y1 x2 y2 score class"
    )
    add_threshold_flags(parser, 0.25, 0.45, "with --nms: ")
    add_precision(parser)
    parser.add_argument("--data", type=Path, help="data yaml, on whose images it is compared with PyTorch [the run's]")
    parser.add_argument(
        "--pictures", type=Path, help="a folder of pictures to compare on instead [random ones where there are no data]"
    )
    parser.add_argument("--file", type=Path, help="where to write [beside the checkpoint]")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_limit_flags(parser, PICTURE, MODEL)
    add_import_flag(parser)
    return parser.parse_args()


def refuse_contradictions(arguments: argparse.Namespace) -> None:
    """Say which flags do not go together.

    Raises:
        UserError: some do not.
    """
    if arguments.nms and (arguments.format != "onnx" or arguments.layout != "default"):
        raise UserError("only the default layout of ONNX suppresses", where="--nms", mend="leave one of them away")
    if arguments.format == "darknet" and (arguments.layout != "default" or arguments.precision != "fp32"):
        raise UserError("darknet has one layout, in fp32", where="--format", mend="leave --layout, --precision away")
    if arguments.precision not in TOLERANCES:
        raise UserError(f"{arguments.precision} files are not written", where="--precision", mend="give fp32 or fp16")


def write_weights(detector: "YOLOv3Detector", path: Path) -> None:
    """Write a weight file of darknet, read it back, and say what its cfg must hold.

    Raises:
        UserError: the backbone is none of darknet's.
    """
    from models.darknet import DarkNet
    from models.darknet_weights import read_darknet, write_darknet
    from models.yolov3 import YOLOv3

    content = detector.model.backbone
    whole = YOLOv3(DarkNet(), len(detector.names))
    if [t.shape for t in whole.state_dict().values()] != [t.shape for t in detector.model.state_dict().values()]:
        what = f"{type(content).__name__} of this width is no network of darknet's"
        raise UserError(what, where=detector.path, mend="darknet has the DarkNet-53 of full width only")
    write_darknet(path, detector.model)
    read_darknet(path, whole)
    anchors = ", ".join(f"{w:g},{h:g}" for w, h in detector.decoder.anchors.tolist())
    print(f"wrote {path} ({path.stat().st_size:,} bytes), and read it back. In yolov3.cfg set")
    print(f"  width={detector.imgsz} height={detector.imgsz} classes={len(detector.names)}")
    print(f"  filters={3 * (5 + len(detector.names))} before each [yolo]\n  anchors={anchors}")


def main() -> None:
    """Load, write, compare."""
    arguments = parse()
    refuse_contradictions(arguments)
    weights = arguments.weights or newest_detector(arguments.project)
    from models.yolov3_detector import load_yolov3

    detector = load_yolov3(weights)
    path = arguments.file or weights.with_suffix(SUFFIXES[arguments.format])
    if arguments.format == "darknet":
        write_weights(detector, path)
    else:
        write_and_compare(detector, path, arguments)


def write_and_compare(detector: "YOLOv3Detector", path: Path, arguments: argparse.Namespace) -> None:
    """Write ONNX or TorchScript, run it on held-out images beside PyTorch in fp32, print how far it is off.

    Raises:
        UserError: too far.
    """
    from dataclasses import replace

    from deployment.export import compare, pictures_for, write_onnx, write_torchscript
    from models import Thresholds
    from models.inference import for_inference

    records = pictures_for(detector, arguments.data, arguments.pictures)  # before anything is written
    quick = replace(detector, model=for_inference(detector.model, arguments.precision))
    chosen = Thresholds(arguments.conf_thres, arguments.iou_thres, arguments.max_det) if arguments.nms else None
    if arguments.format == "onnx":
        exporter = write_onnx(quick, path, arguments.layout, chosen)
    else:
        write_torchscript(quick, path, arguments.layout)
        exporter = "torch.jit.trace"
    print(f"wrote {path} ({path.stat().st_size / 2**20:.0f} MiB; {exporter})")
    worst, allowed = 0.0, TOLERANCES[arguments.precision]
    for row in compare(detector, path, records, arguments.layout, chosen):
        worst = max(worst, row.box, row.score)
        size = f"{row.size_hw[0]}×{row.size_hw[1]}"
        print(f"  batch {row.batch}, {size}: boxes differ by {row.box:.1e} (relative), scores by {row.score:.1e}")
    if not worst <= allowed:
        raise UserError(
            f"differs from PyTorch by {worst:.1e}",
            where=path,
            mend=f"do not use it: more than {allowed:g}; report the versions in requirements.txt",
        )
    print(f"largest difference {worst:.1e}, allowed {allowed:g}")


if __name__ == "__main__":
    run_cli(main)
