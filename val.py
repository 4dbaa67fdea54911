"""Figures and pictures of a trained detector on held-out images."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError, run_cli
from utils.files import make_folder, write_text
from utils.flags import input_size
from utils.runs import new_run, newest_run

if TYPE_CHECKING:
    from data.records import Split
    from engine.detector import Detector
    from utils.boxes import Detections

PAGE = 8  # images on the page of predictions
SURE = 0.25  # confidence above which a detection is drawn and counted in the confusion matrix


def parse() -> argparse.Namespace:
    """Flags, by the names that YOLO users know."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Without arguments: --map of the newest finished run.")
    parser.add_argument("--map", action="store_true", help="average precision by pycocotools [the default]")
    parser.add_argument("--weights", type=Path, help="detector checkpoint [best.pt of the newest finished run]")
    parser.add_argument("--data", type=Path, help="data yaml [the run's]")
    parser.add_argument(
        "--task", choices=("train", "val", "test"), help="split [test where the data set has one, else val]"
    )
    parser.add_argument("--imgsz", type=input_size, help="side of the network input, a multiple of 32 [the run's]")
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--conf-thres", type=float, default=0.001, help="lowest score of a detection [0.001]")
    parser.add_argument("--iou-thres", type=float, default=0.6, help="IoU above which NMS drops the weaker box [0.6]")
    parser.add_argument("--max-det", type=int, default=300, help="most detections in an image [300]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps [auto]")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument("--strict", action="store_true", help="damaged images or labels stop the evaluation")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    parser.add_argument("--name", default="exp", help="name of the run folder; a number is added if taken [exp]")
    return parser.parse_args()


def find(detector: "Detector", split: "Split", arguments: argparse.Namespace) -> "list[Detections]":
    """Detections on every image of the split."""
    from engine.predict import Thresholds, predict_split

    thresholds = Thresholds(arguments.conf_thres, arguments.iou_thres, arguments.max_det)
    return list(
        predict_split(
            detector.model,
            detector.decoder,
            split.records,
            arguments.imgsz or detector.imgsz,
            thresholds,
            batch_size=arguments.batch_size,
            device=detector.device,
        )
    )


def check_classes(detector: "Detector", split: "Split") -> None:
    """Refuse a checkpoint whose classes are not those of the data."""
    if detector.names != split.description.names:
        raise UserError(
            f"classes {detector.names} are not those of {split.description.yaml}: {split.description.names}",
            where=detector.path,
            mend="give the data yaml that it was trained on",
        )


def summary(metrics: dict[str, Any], split: "Split", detector: "Detector", folder: Path) -> str:
    """The AP table and where the pictures are, as plain text."""

    def share(value: float | None) -> str:
        return "   –  " if value is None else f"{value:6.3f}"

    keys = ("map", "map50", "map75", "map_small", "map_medium", "map_large", "voc07_ap50", "miou")
    counts = f"{metrics['images']} images, {metrics['boxes']} boxes, {metrics['seconds']:.1f} s"
    lines = [f"{detector.path} on {split.description.yaml.name} `{split.name}`: {counts}", ""]
    lines += [f"  {key:<12}{share(metrics[key])}" for key in keys]
    width = max(12, *(len(name) for name in metrics["per_class"]))
    lines += ["", f"  {'class':<{width}}  boxes     map   map50"]
    lines += [
        f"  {name:<{width}}{own['boxes']:7d}  {share(own['map'])}  {share(own['map50'])}"
        for name, own in metrics["per_class"].items()
    ]
    pictures = ", ".join(path.name for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]))
    return "\n".join([*lines, "", f"pictures in {folder}: {pictures}", ""])


def main() -> None:
    """Load, evaluate, draw, write, print."""
    arguments = parse()
    weights = arguments.weights or newest_run(arguments.project) / "weights" / "best.pt"
    from data.description import load_description
    from data.formats import read_split
    from engine.detector import load_detector
    from engine.device import pick_device
    from engine.evaluate import coco_evaluation, detection_metrics
    from engine.pictures import save_pictures

    detector = load_detector(weights, pick_device(arguments.device))
    description = load_description(arguments.data or Path(detector.recipe["data"]))
    split = read_split(description, arguments.task or description.held_out, strict=arguments.strict)
    check_classes(detector, split)
    print(split.summary())
    folder = new_run(arguments.project, "val", arguments.name)
    files = [folder / "metrics.json", *([arguments.json] if arguments.json else [])]
    for path in files:
        make_folder(path.parent)
    began = time.monotonic()
    found = find(detector, split, arguments)
    evaluation = coco_evaluation(split.records, found, detector.names)
    metrics = detection_metrics(evaluation, split.records, found, detector.names)
    metrics["seconds"] = time.monotonic() - began
    save_pictures(evaluation, split, found, folder, SURE, PAGE)
    text = json.dumps({"split": split.name, **metrics}, indent=2) + "\n"
    for path in files:
        write_text(path, text)
    table = summary(metrics, split, detector, folder)
    write_text(folder / "summary.txt", table)
    print(table, end="")


if __name__ == "__main__":
    run_cli(main)
