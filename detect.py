"""Boxes, the classes of all pixels or of pictures, on images, videos and streams: pictures, text files, JSON, crops."""

import argparse
import contextlib
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from utils.errors import Stopped, UserError, run_cli
from utils.flags import (
    THRESHOLDS,
    add_name,
    add_precision,
    add_threshold_flags,
    input_size,
    positive,
    refuse_flags,
    with_changed,
)
from utils.limits import CHECKPOINT, MODEL, PICTURE, add_limit_flags
from utils.parser import Parser
from utils.plugins import add_import_flag, from_arguments
from utils.runs import located, new_run, newest_backbones, newest_model
from utils.text import counted
from utils.version import add_version_flag

if TYPE_CHECKING:
    from data.sources import Frame
    from evaluation.classifier import Classifier
    from models import Detector, Found
    from models.classified import Classified
    from models.segmented import Segmented
    from models.segmenter import Segmenter

EXAMPLES = 16  # held-out images of the run's data set, where no source is given


def parse() -> argparse.Namespace:
    """Flags, by the names that YOLO users know."""
    from_arguments()
    parser = Parser(
        allow_abbrev=False,
        description=__doc__,
        epilog=f"Without arguments: the newest finished run on {EXAMPLES} held-out images of its data set.",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        help="checkpoint of a detector or segmenter, a detector's ONNX or darknet file [best.pt of the newest run]; "
        "with --classify a backbone file [the first of the newest run]",
    )
    parser.add_argument(
        "--source",
        help="image, video, folder or glob; address; number of a webcam; rtsp:// and other streams, a file of them "
        "(.streams); screen [held-out images]",
    )
    parser.add_argument("--vid-stride", type=positive, default=1, help="look at every so many frames [1]")
    parser.add_argument("--imgsz", type=input_size, help="side of the network input, a multiple of 32 [the run's]")
    parser.add_argument("--classify", action="store_true", help="the likeliest classes of each picture, not boxes")
    parser.add_argument("--top", type=positive, default=15, help="how many classes to print with --classify [15]")
    add_threshold_flags(parser, 0.25, 0.45)
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or indices of the classes to find [all]")
    parser.add_argument("--agnostic-nms", action="store_true", help="a box is dropped for stronger ones of any class")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (a GPU), mps [auto]")
    add_precision(parser)
    parser.add_argument("--dry-run", action="store_true", help="read weights and the first picture, and stop")
    parser.add_argument("--nosave", action="store_true", help="draw no pictures and videos")
    parser.add_argument("--save-crop", action="store_true", help="crops/CLASS/NAME_1.jpg …: what is in each box")
    parser.add_argument("--save-txt", action="store_true", help="labels/NAME.txt: class cx cy w h (0–1) score")
    about = "detections.json: boxes in pixels, scores, names; classes.json with --classify"
    parser.add_argument("--save-json", action="store_true", help=about)
    parser.add_argument("--save-csv", action="store_true", help="classes.csv: one row per class, with --classify")
    parser.add_argument("--save-mask", action="store_true", help="masks/NAME.png of a segmenter: class numbers")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_name(parser)
    add_limit_flags(parser, PICTURE, MODEL, CHECKPOINT)
    add_import_flag(parser)
    add_version_flag(parser)
    return with_changed(parser)


def source_frames(
    source: str | None, detector: "Detector | Segmenter | Classifier", stride: int
) -> "Iterator[list[Frame]]":
    """Pictures of a source, or a few held-out ones of the data set that the detector was trained on.

    Raises:
        UserError: there are none; no source, and the detector's file names no data set, or one without files.
    """
    from data.description import load_description
    from data.formats import read_unseen
    from data.images import files_of
    from data.levels import with_levels
    from data.sources import open_source, read_files

    if source:
        return open_source(source, stride=stride, levels=detector.levels)
    hint = "say what to look through: --source"
    if detector.data is None:
        raise UserError("does not name its data set", where=detector.path, hint=hint)
    description = with_levels(load_description(detector.data), detector.levels)
    split = read_unseen(description)
    files = files_of(split.records[:EXAMPLES], description.yaml, hint)
    return read_files(files, levels=split.description.levels)


def classified_by(arguments: argparse.Namespace, weights: Path) -> "Iterator[tuple[Frame, Classified]]":
    """Pictures of the source, each with its likeliest classes.

    Raises:
        UserError: flags that a classifier does not look at.
    """
    from deployment.stream import in_groups
    from evaluation.classifier import load_classifier
    from utils.device import pick_device

    others = ("save_txt", "save_crop", "save_mask", "classes", "agnostic_nms", "precision", "imgsz", *THRESHOLDS)
    refuse_flags(weights, arguments, others, "a classifier")
    classifier = load_classifier(weights, pick_device(arguments.device))
    groups = source_frames(arguments.source, classifier, arguments.vid_stride)
    return in_groups(partial(classifier.stream, top=arguments.top), groups)


def found_by(arguments: argparse.Namespace, weights: Path) -> "Iterator[tuple[Frame, Found | Segmented | Classified]]":
    """Pictures of the source, each with what a detector, a segmenter or a classifier finds in it.

    Raises:
        UserError: flags that only a detector looks at for a segmenter, or about masks for a detector; of --classify
            without it.
    """
    if arguments.classify:
        return classified_by(arguments, weights)
    if name := next((name for name in ("top", "save_csv") if name in arguments.changed), None):
        raise UserError(
            "is for --classify", where=f"--{name.replace('_', '-')}", hint="leave it out, or add --classify"
        )
    from deployment.stream import found_in, segmented_in
    from models import load_detector
    from models.segmenter import is_segmenter, load_segmenter
    from utils.checkpoint import kind_of
    from utils.device import pick_device

    if kind_of(weights) == "backbone":
        raise UserError("holds a classifier", where=weights, hint="give --classify, or a detector or segmenter")
    device = pick_device(arguments.device)
    if is_segmenter(weights):
        others = ("save_txt", "save_json", "save_crop", "classes", "agnostic_nms", "precision")
        refuse_flags(weights, arguments, (*others, *THRESHOLDS))
        segmenter = load_segmenter(weights, device)
        return segmented_in(
            segmenter, source_frames(arguments.source, segmenter, arguments.vid_stride), arguments.imgsz
        )
    if arguments.save_mask:
        raise UserError("a detector finds no masks", where="--save-mask", hint="leave it out, or give a segmenter")
    detector = load_detector(weights, device, arguments.precision)
    if detector.suppresses and set(THRESHOLDS) & set(arguments.changed):
        print(f"{weights} suppresses boxes itself: thresholds that let more through than its own change nothing")
    groups = source_frames(arguments.source, detector, arguments.vid_stride)
    keys = ("conf_thres", "iou_thres", "max_det", "classes", "agnostic_nms", "imgsz")
    return found_in(detector, groups, **{key: getattr(arguments, key) for key in keys})


def weights_of(arguments: argparse.Namespace) -> Path:
    """The file of the detector, segmenter or classifier."""
    if arguments.weights:
        return located(arguments.weights, arguments.project)
    if arguments.classify:
        path = newest_backbones(arguments.project)[0]
        print(f"classifier: {path}")
        return path
    return newest_model(arguments.project)


def things(found: "Found | Segmented | Classified") -> str:
    """What was found, as a plural."""
    return "boxes" if hasattr(found, "boxes_xyxy") else "classes"


def main() -> None:
    """Load, find, draw, write."""
    arguments = parse()
    weights = weights_of(arguments)
    from deployment.detections import Sink
    from utils.stop import Stop

    pairs = found_by(arguments, weights)
    first = next(pairs, None)  # a source that is not there shows before there is a folder
    if arguments.dry_run:
        print(
            f"{weights} on {first[0].where}: {counted(len(first[1]), things(first[1]))}; nothing is written"
            if first
            else "no picture"
        )
        return
    kinds = {kind: getattr(arguments, f"save_{kind}") for kind in ("txt", "json", "csv", "crop", "mask")}
    images = number = 0
    with (
        new_run(arguments.project, "detect", arguments.name) as folder,
        Stop().listening() as stop,
        stop.deferred(once=True),
        contextlib.closing(Sink(folder, not arguments.nosave, **kinds)) as sink,
    ):
        for frame, found in itertools.chain([first] if first else [], pairs):
            sink.write(frame, found)
            if arguments.classify:
                print(found)
            images, number = images + 1, number + len(found)
            if stop.asked:
                break
    pictures = counted(images, "images")
    if first and things(first[1]) == "classes":
        done = f"{pictures} {'classified' if arguments.classify else 'segmented'}"
    else:
        done = f"{counted(number, 'boxes')} on {pictures}"
    if arguments.nosave and not any(kinds.values()):
        folder.rmdir()
        print(f"{done}; nothing is written")
    else:
        print(f"{done}; written to {folder}")
    if stop.asked:
        raise Stopped(stop.asked)


if __name__ == "__main__":
    run_cli(main)
