"""The flags of `val.py --localise` that only detectors understand, and those that they do not."""

import argparse
from collections.abc import Sequence

from data.records import Split
from maps.defaults import DETECTOR_KINDS as KINDS
from maps.defaults import EXPLAINED, MASKS, MEASURED_ONLY
from maps.detector_kinds import DETECTOR_MAPS
from maps.detector_plan import SURE, DetectorFile, DetectorPlan, prepare_detectors
from maps.kinds import MAPS
from models.decode import Thresholds
from utils.errors import UserError
from utils.flags import THRESHOLDS

ONLY_BACKBONES = ("lime", "regions", "explain", "method", "reference", "reference_over", "view", "claims", "keep")
ONLY_DETECTORS = ("explain_boxes", "masks", *THRESHOLDS)


def for_backbones(arguments: argparse.Namespace) -> None:
    """Refuse flags and maps that mean nothing to backbone files.

    Raises:
        UserError: one is given.
    """
    refuse(arguments, ONLY_DETECTORS, "is for detectors, not for backbone files")
    if arguments.method:
        refuse(arguments, MEASURED_ONLY, "is not for --method")
    if arguments.reference and not arguments.method:
        raise UserError("is for --method", where="--reference", hint="add a method such as mining")
    if not arguments.reference:
        refuse(arguments, ("reference_over",), "is for --reference")
    for kind in arguments.maps or ():
        if kind in DETECTOR_MAPS and kind not in MAPS:
            what = f"no map of backbones `{kind}`"
            raise UserError(what, where="--maps", hint=f"it is for detectors; {MAPS}")


def for_detectors(arguments: argparse.Namespace) -> None:
    """Refuse flags and maps that mean nothing to detectors.

    Raises:
        UserError: one is given, or a number that cannot be.
    """
    refuse(arguments, ONLY_BACKBONES, "is for backbone files, not for detectors")
    for kind in arguments.maps or ():
        DETECTOR_MAPS.pick(kind)
    if arguments.percentile is None:
        raise UserError("auto", where="--percentile", hint="give a number: of detectors none is chosen")
    if arguments.masks is not None and arguments.masks < 1:
        raise UserError(f"{arguments.masks}", where="--masks", hint="give a number of masks")
    if arguments.explain_boxes != "detections":
        refuse(arguments, THRESHOLDS, "is for --explain-boxes detections")
    if not any(DETECTOR_MAPS.pick(kind).masked for kind in arguments.maps or KINDS):
        refuse(arguments, ("masks",), "is for --maps drise")


def refuse(arguments: argparse.Namespace, flags: tuple[str, ...], why: str) -> None:
    """Stop where a flag is given that means nothing here."""
    for flag in flags:
        if flag in arguments.given:
            raise UserError(why, where=f"--{flag.replace('_', '-')}", hint="leave it out")


def planned(arguments: argparse.Namespace, files: Sequence[DetectorFile], split: Split, device: str) -> DetectorPlan:
    """The plan that the flags ask for. A detection is what somebody would look at, unless they say otherwise."""
    least = SURE.conf_thres if arguments.conf_thres is None else arguments.conf_thres
    return prepare_detectors(
        files,
        split,
        kinds=arguments.maps or KINDS,
        percentile=arguments.percentile,
        targets=arguments.targets,
        images=arguments.images,
        explain_boxes=arguments.explain_boxes or EXPLAINED[0],
        masks=arguments.masks or MASKS,
        thresholds=Thresholds(least, arguments.iou_thres, arguments.max_det, multi_label=False),
        stretched=arguments.stretch,
        untrained=arguments.untrained,
        device=device,
        batch_size=arguments.batch_size,
    )
