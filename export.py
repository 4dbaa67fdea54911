"""A trained detector or segmenter for other programs; compared with PyTorch after it is written."""

import argparse
from pathlib import Path

from utils.errors import UserError, run_cli
from utils.flags import THRESHOLDS, add_precision, add_threshold_flags, refuse_flags, with_changed
from utils.limits import CHECKPOINT, MODEL, PICTURE, add_limit_flags
from utils.parser import Parser
from utils.plugins import add_import_flag, from_arguments
from utils.runs import located, newest_model
from utils.version import add_version_flag

FORMATS = ("onnx", "torchscript", "darknet")


def parse() -> argparse.Namespace:
    """Flags."""
    from_arguments()
    parser = Parser(
        allow_abbrev=False,
        description=__doc__,
        epilog="Output `output0` [B, 4 + classes, N]: centre and size in input pixels, then objectness · class. Of a "
        "segmenter [B, 1 + classes, H, W]: the probability of each class, the background first.",
    )
    parser.add_argument("--weights", type=Path, help="checkpoint [best.pt of the newest finished run]")
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="what to write [onnx]")
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
    add_limit_flags(parser, PICTURE, MODEL, CHECKPOINT)
    add_import_flag(parser)
    add_version_flag(parser)
    return with_changed(parser)


def refuse_unused(arguments: argparse.Namespace) -> None:
    """Refuse flags that the others leave without a use.

    Raises:
        UserError: names the first of them.
    """
    unused = dict.fromkeys(() if arguments.nms else THRESHOLDS, "is for --nms")
    if arguments.format == "darknet":
        unused |= dict.fromkeys(("data", "pictures"), "is not looked at: darknet files are read back, not compared")
    for name in arguments.changed:
        if name in unused:
            raise UserError(unused[name], where=f"--{name.replace('_', '-')}", hint="leave it out")


def main() -> None:
    """Load, write, compare."""
    arguments = parse()
    project = arguments.project
    weights = located(arguments.weights, project) if arguments.weights else newest_model(project)
    from deployment import export_detector
    from deployment.segmenter_export import export_segmenter
    from models.segmenter import is_segmenter

    if is_segmenter(weights):
        refuse_flags(weights, arguments, ("layout", "nms", "precision", *THRESHOLDS))
        own = {key: getattr(arguments, key) for key in ("format", "data", "pictures")}
        export_segmenter(weights, arguments.file, **own)
        return
    refuse_unused(arguments)
    keys = ("format", "layout", "nms", "conf_thres", "iou_thres", "max_det", "precision", "data", "pictures")
    export_detector(weights, arguments.file, **{key: getattr(arguments, key) for key in keys})


if __name__ == "__main__":
    run_cli(main)
