"""The flags of `val.py --localise`."""

import argparse
from pathlib import Path

from maps.binary import PERCENTILES
from maps.defaults import DETECTOR_KINDS, EXPLAINED, KINDS, MASKS
from utils.flags import positive
from utils.tables import listed


def add_map_flags(maps: argparse._ArgumentGroup, methods: str) -> None:
    """What only --localise looks at.

    Args:
        methods: the ways to find boxes, as help spells them.
    """
    maps.add_argument(
        "--maps",
        nargs="+",
        metavar="KIND",
        help=f"of {', '.join(listed('map'))} [{' '.join(KINDS)}]; of detectors "
        f"{', '.join(listed('map of a detector'))} [{' '.join(DETECTOR_KINDS)}]",
    )
    maps.add_argument(
        "--percentile",
        type=percentile,
        default=80,
        help="pixels above it are a map's region: 5, 10 … 95, 97, 98, 99, or auto: where end-to-end maps of "
        "images that no network has learnt from are furthest above chance [80]",
    )
    maps.add_argument("--lime", type=int, default=0, metavar="N", help="images to explain by LIME too [0]")
    maps.add_argument(
        "--regions", action="store_true", help="train a convolution on the frozen features of every cut to give boxes"
    )
    add_case_flags(maps, methods)
    maps.add_argument("--images", type=int, metavar="N", help="only so many images, drawn at random [all]")
    maps.add_argument(
        "--stretch",
        action="store_true",
        help="stretch maps over the image, as libraries do [put where their cells are]",
    )
    maps.add_argument(
        "--untrained",
        type=positive,
        default=3,
        metavar="N",
        help="networks without training to explain beside those of each architecture, with N seeds [3]",
    )
    maps.add_argument(
        "--claims",
        action="store_true",
        help="judge the claims of Wang & Farrahi (arXiv 2311.12704) on the first cascaded and end-to-end networks",
    )
    add_detector_flags(maps)
    maps.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep here what is measured of each network, and measure only what is not here yet: after an "
        "interruption, or with one more network [nothing is kept]",
    )
    maps.add_argument("--no-pictures", action="store_true", help="a report without images of the data, for publishing")


def add_case_flags(maps: argparse._ArgumentGroup, methods: str) -> None:
    """What is explained, and what it is compared with."""
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
        help=f"compare ways to get a box instead: all, or some of {methods}",
    )
    maps.add_argument(
        "--reference",
        type=Path,
        metavar="FILE",
        help="with --method: csv of published accuracies (method, class, iou, accuracy, afp); ranked lists end at its "
        "false positives",
    )
    maps.add_argument(
        "--reference-over",
        choices=("class", "all"),
        default="class",
        help="with --reference: false positives are over the boxes of their class, in images that have it, or over all "
        "boxes, in all images with any, which takes a map of each class in each image [class]",
    )
    maps.add_argument(
        "--view",
        choices=("learnt", "pictures"),
        default="learnt",
        help="what is explained: what the classifiers learnt from, or whole pictures at the detector's size [learnt]",
    )


def add_detector_flags(group: argparse._ArgumentGroup) -> None:
    """What decides which answers of a detector are explained."""
    group.add_argument(
        "--explain-boxes",
        choices=EXPLAINED,
        help="of detectors: each class of each image by the best answer to its true boxes, or each true box by the "
        "detection that hits it [true]",
    )
    group.add_argument("--masks", type=int, metavar="N", help=f"masked images behind a map by D-RISE [{MASKS}]")


def percentile(text: str) -> int | None:
    """A percentile that is measured, or None for auto."""
    if text == "auto":
        return None
    if text not in map(str, PERCENTILES):
        raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(map(str, PERCENTILES))}, auto")
    return int(text)
