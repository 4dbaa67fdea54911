"""Boxes on images: pictures, and optionally text and JSON files."""

import argparse
import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError, run_cli
from utils.files import first_free, make_folder, write_text
from utils.flags import input_size
from utils.runs import new_run, newest_detector

if TYPE_CHECKING:
    from data.records import Record
    from models.detector import Detector
    from utils.boxes import Detections

EXAMPLES = 16  # held-out images of the run's data set, where no source is given


def parse() -> argparse.Namespace:
    """Flags, by the names that YOLO users know."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Without arguments: the newest finished run on {EXAMPLES} held-out images of its data set.",
    )
    parser.add_argument("--weights", type=Path, help="detector checkpoint [best.pt of the newest finished run]")
    parser.add_argument("--source", help="image, folder or glob [held-out images]")
    parser.add_argument("--imgsz", type=input_size, help="side of the network input, a multiple of 32 [the run's]")
    parser.add_argument("--conf-thres", type=float, default=0.25, help="lowest score of a detection [0.25]")
    parser.add_argument("--iou-thres", type=float, default=0.45, help="IoU above which NMS drops the weaker box [0.45]")
    parser.add_argument("--max-det", type=int, default=300, help="most detections in an image [300]")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="names or indices of the classes to find [all]")
    parser.add_argument("--agnostic-nms", action="store_true", help="a box is dropped for stronger ones of any class")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps [auto]")
    parser.add_argument("--save-txt", action="store_true", help="labels/NAME.txt: class cx cy w h (0–1) score")
    parser.add_argument("--save-json", action="store_true", help="detections.json: boxes in pixels, scores, names")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    parser.add_argument("--name", default="exp", help="name of the run folder; a number is added if taken [exp]")
    return parser.parse_args()


def find_images(source: str) -> list[Path]:
    """Image files of a file, a folder or a glob, sorted.

    Raises:
        UserError: there is none.
    """
    from data.images import SUFFIXES

    path = Path(source)
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else map(Path, glob.glob(source, recursive=True))
    found = sorted(item for item in candidates if item.suffix.lower() in SUFFIXES and item.is_file())
    if not found:
        raise UserError(
            "no image there", where=source, mend=f"give an image, a folder or a glob of {', '.join(sorted(SUFFIXES))}"
        )
    return found


def as_records(paths: list[Path]) -> "list[Record]":
    """Readable images as records without boxes; says which are left out."""
    import numpy as np

    from data.images import check_images
    from data.records import Problem, Record

    records = []
    for path, size in zip(paths, check_images(paths), strict=True):
        if isinstance(size, Problem):
            print(f"left out {size.where}: {size.what}")
        else:
            records.append(Record(path, size, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)))
    if not records:
        raise UserError("no readable image", where=paths[0], mend="replace the files named above")
    return records


def default_source(detector: "Detector") -> list[Path]:
    """A few held-out images of the data set that the detector was trained on."""
    from data.description import load_description
    from data.formats import read_split

    description = load_description(Path(detector.recipe["data"]))
    return [record.image for record in read_split(description, description.held_out).records[:EXAMPLES]]


def class_indices(wanted: list[str], names: list[str]) -> tuple[int, ...]:
    """Indices of classes that are given by name or by index; a name goes before an index.

    Raises:
        UserError: there is no such class.
    """
    indices = {str(index): index for index in range(len(names))} | {name: index for index, name in enumerate(names)}
    if unknown := [name for name in wanted if name not in indices]:
        raise UserError(f"no class `{unknown[0]}`", where="--classes", mend=f"give some of {', '.join(names)}")
    return tuple(indices[name] for name in wanted)


def as_json(record: "Record", found: "Detections", names: list[str]) -> dict[str, Any]:
    """Detections of one image; boxes x1 y1 x2 y2 in pixels."""
    boxes = [
        {"box_xyxy": box, "score": score, "class": label, "name": names[label]}
        for box, score, label in zip(
            found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    return {"image": str(record.image), "size_hw": list(record.size_hw), "boxes": boxes}


def as_txt(record: "Record", found: "Detections") -> str:
    """Detections of one image as YOLO lines: class cx cy w h, shares of the image, and the score."""
    from utils.boxes import xyxy_to_cxcywh

    height, width = record.size_hw
    shares = xyxy_to_cxcywh(found.boxes_xyxy) / found.boxes_xyxy.new_tensor([width, height, width, height])
    rows = zip(found.labels.tolist(), shares.tolist(), found.scores.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{part:.6f}' for part in box)} {score:.6f}\n" for label, box, score in rows)


def main() -> None:
    """Load, find, draw, write."""
    arguments = parse()
    weights = arguments.weights or newest_detector(arguments.project)
    from data.images import record_rgb
    from engine.device import pick_device
    from engine.predict import predict_split
    from models.decode import Thresholds
    from models.detector import load_detector
    from utils.draw import draw_detections, save_image

    detector = load_detector(weights, pick_device(arguments.device))
    records = as_records(find_images(arguments.source) if arguments.source else default_source(detector))
    folder = new_run(arguments.project, "detect", arguments.name)
    thresholds = Thresholds(
        arguments.conf_thres,
        arguments.iou_thres,
        arguments.max_det,
        multi_label=False,
        classes=class_indices(arguments.classes, detector.names) if arguments.classes else None,
        agnostic=arguments.agnostic_nms,
    )
    imgsz = arguments.imgsz or detector.imgsz
    everything, boxes = [], 0
    for record, found in zip(
        records,
        predict_split(detector.model, detector.decoder, records, imgsz, thresholds, device=detector.device),
        strict=True,
    ):
        boxes += len(found.scores)
        picture = draw_detections(record_rgb(record), found, detector.names)
        path = first_free(lambda stem: folder / f"{stem}.jpg", record.image.stem)
        save_image(picture, path)
        everything.append(as_json(record, found, detector.names))
        if arguments.save_txt:
            write_text(make_folder(folder / "labels") / f"{path.stem}.txt", as_txt(record, found))
    if arguments.save_json:
        write_text(folder / "detections.json", json.dumps(everything, indent=1) + "\n")
    print(f"{boxes} boxes on {len(records)} images; pictures in {folder}")


if __name__ == "__main__":
    run_cli(main)
