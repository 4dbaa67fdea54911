"""Figures and pictures on held-out images: of a trained detector, or of the classifiers of pre-trained backbones."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError, run_cli
from utils.files import make_folder, write_text
from utils.flags import add_precision, input_size
from utils.plugins import add_import_flag, from_arguments
from utils.runs import new_run, newest_detector, newest_run

if TYPE_CHECKING:
    from data.records import Split
    from data.views import View

DRAWS = 1000
MAPS = ("gradcam", "saliency", "cam")  # of backbones


def parse() -> argparse.Namespace:
    """Flags, by the names that YOLO users know."""
    from_arguments()
    parser = argparse.ArgumentParser(description=__doc__, epilog="Without arguments: --map of the newest finished run.")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--map", action="store_true", help="average precision of a detector by pycocotools [the default]")
    mode.add_argument(
        "--accuracy", action="store_true", help="top-1, top-5, balanced error, AUC and mAP at every cut of backbones"
    )
    mode.add_argument(
        "--localise",
        action="store_true",
        help="where backbones look at every cut, or why a detector finds a box, against the true boxes; a report",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="detector checkpoint (several with --localise), or backbone files with --accuracy and --localise "
        "[best.pt, or all backbone_*.pt of the newest run]",
    )
    parser.add_argument("--data", type=Path, help="data yaml [the run's]")
    parser.add_argument(
        "--task", choices=("train", "val", "test"), help="split [test where the data set has one, else val]"
    )
    parser.add_argument("--batch-size", type=int, default=16, help="images per step [16]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps [auto]")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    parser.add_argument(
        "--report",
        type=Path,
        help="with --accuracy and --localise: write Markdown to this file too, its plots beside it",
    )
    parser.add_argument(
        "--bootstrap", type=int, default=DRAWS, metavar="N", help=f"resamples behind the intervals; 0: none [{DRAWS}]"
    )
    parser.add_argument("--download", action="store_true", help="fetch what the data yaml names and is not there yet")
    parser.add_argument("--strict", action="store_true", help="damaged images or labels stop the evaluation")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    parser.add_argument("--name", default="exp", help="name of the run folder; a number is added if taken [exp]")
    add_mode_flags(parser)
    add_import_flag(parser)
    return parser.parse_args()


def add_mode_flags(parser: argparse.ArgumentParser) -> None:
    """What only one of the modes looks at."""
    boxes = parser.add_argument_group("with --map")
    boxes.add_argument("--imgsz", type=input_size, help="side of the network input, a multiple of 32 [the run's]")
    boxes.add_argument("--conf-thres", type=float, help="lowest score of a detection [0.001; with --localise 0.25]")
    boxes.add_argument("--iou-thres", type=float, default=0.6, help="IoU above which NMS drops the weaker box [0.6]")
    add_precision(boxes)
    boxes.add_argument("--augment", action="store_true", help="test-time augmentation: three scales, one mirrored")
    boxes.add_argument(
        "--save-json", action="store_true", help="detections.json and annotations.json, as pycocotools reads them"
    )
    boxes.add_argument("--max-det", type=int, default=300, help="most detections in an image [300]")
    add_map_flags(parser.add_argument_group("with --localise"))


def add_map_flags(maps: argparse._ArgumentGroup) -> None:
    """What only --localise looks at."""
    from maps.detector_flags import add_detector_flags
    from maps.detector_kinds import DETECTOR_MAPS

    maps.add_argument(
        "--maps",
        nargs="+",
        metavar="KIND",
        help=f"of {', '.join(MAPS)} [gradcam saliency]; of detectors {', '.join(DETECTOR_MAPS)} [gradcam layercam]",
    )
    maps.add_argument(
        "--percentile",
        type=percentile,
        default=80,
        help="pixels above it are a map's region: 50, 55 … 95, or auto: best for end-to-end maps of val [80]",
    )
    maps.add_argument("--lime", type=int, default=0, metavar="N", help="images to explain by LIME too [0]")
    maps.add_argument(
        "--regions", action="store_true", help="train a convolution on the frozen features of every cut to give boxes"
    )
    maps.add_argument(
        "--explain",
        metavar="CLASS",
        help="explain this class in every image, whatever its boxes are [those of the boxes]",
    )
    maps.add_argument(
        "--targets", nargs="+", default=(), metavar="CLASS", help="only boxes of these classes count [all]"
    )
    maps.add_argument(
        "--method",
        nargs="+",
        metavar="NAME",
        help="compare ways to get a box instead: sensitivity, attention, gradcam, cam, saliency …, or all",
    )
    maps.add_argument(
        "--view",
        choices=("learnt", "pictures"),
        default="learnt",
        help="what is explained: what the classifiers learnt from, or whole pictures at the detector's size [learnt]",
    )
    maps.add_argument("--images", type=int, metavar="N", help="only so many images, drawn at random [all]")
    maps.add_argument(
        "--stretch",
        action="store_true",
        help="stretch maps over the image, as libraries do [put where their cells lie]",
    )
    maps.add_argument(
        "--claims",
        action="store_true",
        help="judge the claims of Wang & Farrahi (arXiv 2311.12704) on the first cascaded and end-to-end networks",
    )
    add_detector_flags(maps)
    maps.add_argument("--no-pictures", action="store_true", help="a report without images of the data, for publishing")


def percentile(text: str) -> int | None:
    """A percentile that is measured, or None for auto."""
    if text == "auto":
        return None
    if text not in map(str, range(50, 100, 5)):
        raise argparse.ArgumentTypeError(f"{text} is none of 50, 55 … 95, auto")
    return int(text)


def read_data(
    arguments: argparse.Namespace, own: Path | None, names: list[str] | None, trained: Path, view: "View | None" = None
) -> "Split":
    """The split to evaluate on, of --data or else of the run's own data yaml; prints what is in it.

    Args:
        names: of the classes that the checkpoint was trained on, where the data have to have them.
        view: how its classifiers are shown the data; None for pictures as they are.

    Raises:
        UserError: its classes are not those that the checkpoint was trained on; nobody says which data.
    """
    from data.description import load_description
    from data.formats import read_split

    if not (data := arguments.data or own):
        raise UserError("does not tell its data set", where=trained, mend="name the data yaml with --data")
    description = load_description(data, download=arguments.download)
    split = read_split(description, arguments.task or description.held_out, strict=arguments.strict)
    print(split.summary())
    if view is not None and view.source == "objects":
        split, told = view.shown(split)
        print(told)
    if names is not None and names != split.description.names:
        raise UserError(
            f"classes {names} are not those of {description.yaml}: {split.description.names}",
            where=trained,
            mend="give the data yaml that it was trained on",
        )
    return split


def average_precision(arguments: argparse.Namespace) -> None:
    """Find boxes with a detector, draw, write, print."""
    weights = arguments.weights or [newest_detector(arguments.project)]
    if len(weights) > 1:
        raise UserError(f"{len(weights)} files", where="--weights", mend="give one detector, or say --accuracy")
    from evaluation.average_precision import Finding, evaluate_detector, summary
    from models import Thresholds, load_detector
    from utils.device import pick_device

    detector = load_detector(weights[0], pick_device(arguments.device), arguments.precision)
    split = read_data(arguments, detector.data, detector.names, detector.path)
    folder = new_run(arguments.project, "val", arguments.name)
    files = [folder / "metrics.json", *([arguments.json] if arguments.json else [])]
    for path in files:
        make_folder(path.parent)
    least = Thresholds().conf_thres if arguments.conf_thres is None else arguments.conf_thres
    thresholds = Thresholds(least, arguments.iou_thres, arguments.max_det)
    finding = Finding(
        arguments.imgsz or detector.imgsz, thresholds, arguments.batch_size, arguments.augment, arguments.save_json
    )
    metrics = evaluate_detector(detector, split, finding, folder)
    for path in files:
        write_text(path, json.dumps({"split": split.name, **metrics}, indent=2) + "\n")
    table = summary(metrics, split, detector, folder)
    write_text(folder / "summary.txt", table)
    print(table, end="")


def accuracy(arguments: argparse.Namespace) -> None:
    """Classify with every classifier of the backbone files, write tables and the curve, print."""
    weights = arguments.weights or newest_backbones(arguments.project)
    from evaluation.accuracy import own_data, read_backbones, run_study
    from evaluation.accuracy_report import shown_command, terminal_table, write_study
    from utils.device import pick_device

    device = pick_device(arguments.device)
    backbones = read_backbones(weights)
    own = arguments.data or own_data(backbones)
    split = read_data(arguments, own, backbones[0].names, backbones[0].path, backbones[0].view)
    folder = new_run(arguments.project, "val", arguments.name)
    for path in filter(None, (arguments.json, arguments.report)):
        make_folder(path.parent)
    study = run_study(backbones, split, device=device, batch_size=arguments.batch_size, draws=arguments.bootstrap)
    write_study(study, shown_command(sys.argv[1:]), folder, figures=arguments.json, report=arguments.report)
    print(terminal_table(study))
    print(f"\ntables and curve in {folder}: accuracy.json, accuracy.md, accuracy.png")


def localise(arguments: argparse.Namespace) -> None:
    """Explain with every classifier of the backbone files, or with detectors; write the report, print."""
    weights = arguments.weights or newest_backbones(arguments.project)
    for flag in ("lime", "images"):
        if (count := getattr(arguments, flag)) is not None and count < (flag == "images"):
            raise UserError(f"{count}", where=f"--{flag}", mend="give a number of images")
    from maps.detector_flags import for_backbones, for_detectors
    from maps.detector_plan import are_detectors

    if are_detectors(weights):
        for_detectors(arguments)
        localise_detectors(arguments, weights)
        return
    for_backbones(arguments, MAPS)
    from data.objects import BACKGROUND
    from evaluation.accuracy import own_data, read_backbones
    from evaluation.accuracy_report import shown_command
    from maps.localise import run
    from maps.prepare import prepare
    from maps.regions import propose
    from maps.report import write_report
    from maps.summary import summarise
    from utils.device import pick_device

    device = pick_device(arguments.device)
    backbones = read_backbones(weights)
    own = arguments.data or own_data(backbones)
    names = None if arguments.explain else backbones[0].names
    if arguments.view == "pictures":
        backbones = [file.on_pictures() for file in backbones]
        names = names and [name for name in names if name != BACKGROUND]
    split = read_data(arguments, own, names, backbones[0].path, backbones[0].view)
    plan = prepare(
        backbones,
        split,
        kinds=arguments.maps or MAPS[:2],
        percentile=arguments.percentile,
        explain=arguments.explain,
        targets=arguments.targets,
        lime=arguments.lime,
        images=arguments.images,
        stretched=arguments.stretch,
        device=device,
        batch_size=arguments.batch_size,
    )
    folder, files = report_places(arguments)
    command = shown_command(sys.argv[1:])
    if arguments.method:
        from wsol.report import compare_and_report

        print(compare_and_report(plan, arguments.method, arguments.bootstrap, command, folder, **files))
        return
    from studies.claims import judged

    summary = summarise(run(plan), arguments.bootstrap, propose(plan) if arguments.regions else ())
    claims = judged(summary) if arguments.claims else ()
    print(write_report(summary, command, folder, claims=claims, pictures=not arguments.no_pictures, **files))
    print(f"\nopen {folder / 'report.html'}; tables, figures and values by image beside it")


def report_places(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The new run folder, and where else the report goes, with folders for it."""
    folder = new_run(arguments.project, "val", arguments.name)
    files: dict[str, Any] = {"published": arguments.report, "figures": arguments.json}
    for path in filter(None, files.values()):
        make_folder(path.parent)
    return folder, files


def localise_detectors(arguments: argparse.Namespace, weights: list[Path]) -> None:
    """Explain the answers of detectors, write the report, print."""
    from evaluation.accuracy_report import shown_command
    from maps.detector_flags import planned
    from maps.detector_plan import read_detectors
    from maps.detector_study import run_detectors
    from maps.report import write_report
    from maps.summary import summarise
    from utils.device import pick_device

    device = pick_device(arguments.device)
    files = read_detectors(weights)
    first = files[0].detector
    split = read_data(arguments, first.data, first.names, first.path)
    plan = planned(arguments, files, split, device)
    folder, places = report_places(arguments)
    summary = summarise(run_detectors(plan), arguments.bootstrap)
    command = shown_command(sys.argv[1:])
    print(write_report(summary, command, folder, pictures=not arguments.no_pictures, **places))
    print(f"\nopen {folder / 'report.html'}; tables, figures and values by image beside it")


def newest_backbones(project: Path) -> list[Path]:
    """All backbone files of the newest finished run.

    Raises:
        UserError: it has none.
    """
    run = newest_run(project)
    found = sorted((run / "weights").glob("backbone_*.pt"))
    if not found:
        raise UserError("holds no backbone_*.pt", where=run, mend="name backbone files with --weights")
    return found


def main() -> None:
    """Evaluate what is asked for."""
    arguments = parse()
    if arguments.bootstrap < 0:
        raise UserError(f"{arguments.bootstrap}", where="--bootstrap", mend="give a number of resamples, or 0")
    mode = accuracy if arguments.accuracy else localise if arguments.localise else average_precision
    mode(arguments)


if __name__ == "__main__":
    run_cli(main)
