"""Figures and pictures on held-out images: of a detector, a segmenter, or the classifiers of pre-trained backbones."""

import argparse
import contextlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from utils.errors import UserError, run_cli
from utils.flags import DRAWS, THRESHOLDS, add_name, parsed_for, positive, resamples, written_as
from utils.limits import LIMITS, add_limit_flags
from utils.parser import Parser
from utils.plugins import add_import_flag, from_arguments
from utils.runs import located, made, new_run, newest_backbones, newest_detector, newest_segmenter
from utils.tables import listed
from utils.version import add_version_flag
from utils.zoo import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data.records import Split
    from data.views import View
    from maps.plan import Plan
    from utils.levels import Levels

FIRST_IMAGES = 40  # explained by the weights that ship


def parse() -> argparse.Namespace:
    """Flags, by the names that YOLO users know."""
    from_arguments()
    epilog = "Without arguments: --map of the newest finished run."
    parser = Parser(allow_abbrev=False, description=__doc__, epilog=epilog)
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
    mode.add_argument("--segment", action="store_true", help="mean IoU and pixel accuracy of a segmenter")
    parser.add_argument(
        "--weights",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="checkpoint of a detector (several are compared) or of a segmenter, or backbone files with --accuracy "
        "and --localise [best.pt, or all backbone_*.pt of the newest run]",
    )
    parser.add_argument("--data", type=Path, help="data yaml [the run's]")
    about = "split [test, else val, else the tenth of train that training holds out by default]"
    parser.add_argument("--task", choices=("train", "val", "test"), help=about)
    parser.add_argument("--batch-size", type=positive, default=16, help="images per step [16]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (a GPU), mps [auto]")
    parser.add_argument("--json", type=written_as(".json"), help="write the figures to this file too")
    report = parser.add_argument(
        "--report",
        type=written_as(".md"),
        help="with --accuracy and --localise: write Markdown to this file too, its plots beside it",
    )
    parser.add_argument(
        "--bootstrap",
        type=resamples,
        metavar="N",
        help=f"resamples behind the intervals; 0: none [{DRAWS}; with --map of one detector and --segment 0]",
    )
    parser.add_argument("--download", action="store_true", help="fetch what the data yaml names and is not there yet")
    parser.add_argument("--dry-run", action="store_true", help="read weights and data, say what they are, and stop")
    parser.add_argument("--strict", action="store_true", help="damaged images or labels stop the evaluation")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_name(parser)
    only = add_mode_flags(parser)
    only["accuracy"].append(report)
    add_limit_flags(parser, *LIMITS)
    add_import_flag(parser)
    add_version_flag(parser)
    return parsed_for(parser, mode_of, only, {"localise": (*THRESHOLDS, "report"), "segment": ("imgsz",)})


def mode_of(arguments: argparse.Namespace) -> str:
    """Which of the modes is asked for."""
    return next((mode for mode in ("accuracy", "localise", "segment") if getattr(arguments, mode)), "map")


def add_mode_flags(parser: argparse.ArgumentParser) -> dict[str, list[argparse.Action]]:
    """What only one of the modes looks at, by mode."""
    from evaluation.flags import add_find_flags, add_look_flags
    from maps.flags import add_map_flags

    looks, boxes = parser.add_argument_group("with --accuracy"), parser.add_argument_group("with --map")
    add_look_flags(looks)
    add_find_flags(boxes)
    maps = parser.add_argument_group("with --localise", f"measures: {', '.join(listed('measure'))}")
    add_map_flags(maps, ", ".join(listed("method")))
    groups = {"accuracy": looks, "map": boxes, "localise": maps}
    return {mode: list(group._group_actions) for mode, group in groups.items()}


def read_data(
    arguments: argparse.Namespace,
    own: Path | None,
    names: list[str] | None,
    trained: Path,
    levels: "Levels | None",
    view: "View | None" = None,
    *,
    masked: bool = False,
) -> "Split":
    """The split to evaluate on, as the flags say; the rest as in evaluation.held_out.read_held_out."""
    from evaluation.held_out import Wanted, read_held_out

    wanted = Wanted(arguments.data, arguments.task, arguments.download, arguments.strict, masked)
    return read_held_out(wanted, own, names, trained, levels, view)


def average_precision(arguments: argparse.Namespace) -> None:
    """Find boxes with a detector, draw, write, print; with several detectors, compare them on the same images."""
    weights = arguments.weights or [newest_detector(arguments.project)]
    if len(weights) > 1 and arguments.save_json:
        raise UserError("several detectors", where="--save-json", hint="leave it out, or give one detector")
    from evaluation.average_precision import Finding, judge, write_metrics
    from evaluation.comparison import check_comparable, lines_of
    from models import Thresholds, load_detector
    from utils.device import pick_device

    device = pick_device(arguments.device)
    detector, *others = (load_detector(path, device, arguments.precision) for path in weights)
    lines = lines_of(weights)
    split = read_data(arguments, detector.data, detector.names, detector.path, detector.levels)
    least = 0.001 if arguments.conf_thres is None else arguments.conf_thres
    thresholds = Thresholds(least, arguments.iou_thres, arguments.max_det)
    keys = ("batch_size", "augment", "save_json", "precision")
    finding = Finding(arguments.imgsz or detector.imgsz, thresholds, *(getattr(arguments, key) for key in keys))
    check_comparable([detector, *others])
    if checked_only(arguments, split):
        return
    with result_folder(arguments) as folder:
        if others:
            from evaluation.comparison import compare, write_comparison

            draws = draws_of(arguments)
            named = [(*lines[own.path], own) for own in (detector, *others)]
            found, runs = compare(named, split, finding, draws, resize=arguments.imgsz is None)
            print(write_comparison(found, runs, split, draws, folder, arguments.json))
            print(f"\ncomparison.json, comparison.md and comparison.png in {folder}")
            return
        metrics = judge(detector, split, finding, folder, arguments.bootstrap or 0)
        if arguments.json:
            write_metrics(metrics, arguments.json)
        print((folder / "summary.txt").read_text(), end="")


@contextlib.contextmanager
def result_folder(arguments: argparse.Namespace) -> "Iterator[Path]":
    """A new run folder, and folders for the other files that were asked for; what stays empty goes if this fails."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(new_run(arguments.project, "val", arguments.name))
        for path in filter(None, (arguments.json, arguments.report)):
            stack.enter_context(made(path.parent))
        yield folder


def segment(arguments: argparse.Namespace) -> None:
    """Find the class of every pixel with a segmenter, draw, write, print."""
    weights = arguments.weights or [newest_segmenter(arguments.project)]
    from evaluation.average_precision import write_metrics
    from evaluation.segmentation_report import judge_segmenter
    from models.segmenter import load_segmenter
    from utils.device import pick_device

    if len(weights) > 1:
        raise UserError("several files", where="--weights", hint="give one segmenter")
    segmenter = load_segmenter(weights[0], pick_device(arguments.device))
    about = segmenter.data, segmenter.names, segmenter.path, segmenter.levels
    split = read_data(arguments, *about, masked=True)
    if checked_only(arguments, split):
        return
    imgsz, draws = arguments.imgsz or segmenter.imgsz, arguments.bootstrap or 0
    with result_folder(arguments) as folder:
        metrics = judge_segmenter(segmenter, split, folder, imgsz=imgsz, batch_size=arguments.batch_size, draws=draws)
        if arguments.json:
            write_metrics(metrics, arguments.json)
        print((folder / "summary.txt").read_text(), end="")


def accuracy(arguments: argparse.Namespace) -> None:
    """Classify with every classifier of the backbone files, write tables and the curve, print."""
    weights = arguments.weights or newest_backbones(arguments.project)
    from evaluation.accuracy import own_data, read_backbones
    from evaluation.accuracy_report import shown_command, terminal_table, write_study
    from evaluation.accuracy_study import run_study
    from evaluation.looks import asked
    from utils.device import pick_device

    device = pick_device(arguments.device)
    backbones = read_backbones(weights)
    own = arguments.data or own_data(backbones)
    split = read_data(arguments, own, backbones[0].names, backbones[0].path, backbones[0].levels, backbones[0].view)
    if checked_only(arguments, split):
        return
    with result_folder(arguments) as folder:
        counts = {"batch_size": arguments.batch_size, "draws": draws_of(arguments)}
        study = run_study(backbones, split, asked(arguments), device=device, **counts)
        command = shown_command(sys.argv[1:])
        written = write_study(study, command, folder, figures=arguments.json, report=arguments.report)
    print(terminal_table(study))
    print(f"\ntables and curves in {folder}: {', '.join(written)}")


def localise(arguments: argparse.Namespace) -> None:
    """Explain with every classifier of the backbone files, or with detectors; write the report, print."""
    weights = arguments.weights or newest_backbones(arguments.project)
    if not arguments.weights and weights[0].parent == FOLDER and arguments.images is None:
        print(f"{FIRST_IMAGES} images, for a first look; --images says how many")
        arguments.images = FIRST_IMAGES
    for flag in ("lime", "images"):
        if (count := getattr(arguments, flag)) is not None and count < (flag == "images"):
            raise UserError(f"{count}", where=f"--{flag}", hint="give a number of images")
    from maps.detector_flags import for_backbones, for_detectors
    from maps.detector_plan import are_detectors

    if are_detectors(weights):
        for_detectors(arguments)
        localise_detectors(arguments, weights)
    else:
        for_backbones(arguments)
        localise_backbones(arguments, weights)


def localise_backbones(arguments: argparse.Namespace, weights: list[Path]) -> None:
    """Explain with every classifier of the backbone files, or compare ways to get boxes; write the report, print."""
    from evaluation.accuracy_report import shown_command
    from maps.regions import check_training, propose
    from maps.report import write_report
    from maps.study import run
    from maps.summary import summarise

    plan = backbone_plan(arguments, weights)
    if arguments.method:
        from wsol.report import compare_and_report, read_published, wanted

        methods, reference = wanted(plan, arguments.method), read_published(arguments.reference, plan.names)
    if arguments.regions:
        check_training(plan)
    if checked_only(arguments, plan.split):
        return
    files, command = report_files(arguments), shown_command(sys.argv[1:])
    with result_folder(arguments) as folder:
        if arguments.method:
            files |= {"reference": reference, "over": arguments.reference_over}
            print(compare_and_report(plan, methods, draws_of(arguments), command, folder, **files))
            return
        from studies.claims import judged

        summary = summarise(run(plan), draws_of(arguments), propose(plan) if arguments.regions else ())
        claims = judged(summary) if arguments.claims else ()
        if arguments.claims and not claims:
            why = "No claim is judged: that takes a cascaded network that is compared with an end-to-end one (cl…, e2e)"
            summary = replace(summary, notes=(*summary.notes, why))
        print(write_report(summary, command, folder, claims=claims, **files))
    print(f"{plan.kept.about()}\nopen {folder / 'report.html'}; tables, figures and values by image beside it")


def backbone_plan(arguments: argparse.Namespace, weights: list[Path]) -> "Plan":
    """What is explained, of which images, as the flags say."""
    from data.objects import BACKGROUND
    from evaluation.accuracy import own_data, read_backbones
    from maps.defaults import KINDS
    from maps.prepare import prepare
    from utils.device import pick_device
    from wsol.methods import all_blind

    device = pick_device(arguments.device)
    backbones = read_backbones(weights)
    own = arguments.data or own_data(backbones)
    names = None if arguments.explain or all_blind(arguments.method or ()) else backbones[0].names
    if arguments.view == "pictures":
        backbones = [file.on_pictures() for file in backbones]
        names = names and [name for name in names if name != BACKGROUND]
    split = read_data(arguments, own, names, backbones[0].path, backbones[0].levels, backbones[0].view)
    return prepare(
        backbones,
        split,
        kinds=arguments.maps or KINDS,
        percentile=arguments.percentile,
        explain=arguments.explain,
        targets=arguments.targets,
        lime=arguments.lime,
        images=arguments.images,
        stretched=arguments.stretch,
        untrained=arguments.untrained,
        tuned=bool(arguments.method),
        keep=arguments.keep,
        dry=arguments.dry_run,
        device=device,
        batch_size=arguments.batch_size,
    )


def checked_only(arguments: argparse.Namespace, split: "Split") -> bool:
    """Whether weights and data were to be read only; if so, says what they are."""
    if arguments.dry_run:
        print(f"{split.description.yaml.name} {split.summary()}\nweights and data: checked")
    return bool(arguments.dry_run)


def report_files(arguments: argparse.Namespace) -> dict[str, Any]:
    """Where the report goes besides the run folder, and whether images of the data are in it."""
    return {"published": arguments.report, "figures": arguments.json, "pictures": not arguments.no_pictures}


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
    detectors = read_detectors(weights)
    first = detectors[0].detector
    split = read_data(arguments, first.data, first.names, first.path, first.levels)
    plan = planned(arguments, detectors, split, device)
    if checked_only(arguments, split):
        return
    files, command = report_files(arguments), shown_command(sys.argv[1:])
    with result_folder(arguments) as folder:
        summary = summarise(run_detectors(plan), draws_of(arguments))
        print(write_report(summary, command, folder, **files))
    print(f"\nopen {folder / 'report.html'}; tables, figures and values by image beside it")


def draws_of(arguments: argparse.Namespace) -> int:
    """Resamples of accuracy and maps."""
    return DRAWS if arguments.bootstrap is None else int(arguments.bootstrap)


def main() -> None:
    """Evaluate what is asked for."""
    arguments = parse()
    if arguments.weights:
        arguments.weights = [located(path, arguments.project) for path in arguments.weights]
    modes = {"map": average_precision, "accuracy": accuracy, "localise": localise, "segment": segment}
    modes[mode_of(arguments)](arguments)


if __name__ == "__main__":
    run_cli(main)
