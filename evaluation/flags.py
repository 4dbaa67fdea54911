"""Flags of val.py about classifiers and detectors."""

import argparse

from utils.flags import add_precision, add_threshold_flags, input_size


def add_look_flags(group: argparse._ArgumentGroup) -> None:
    """How classifiers look at pictures: evaluation.looks.asked."""
    about = "also average over 5 or 10 crops of each picture: corners and middle; 10: mirrored ones too"
    group.add_argument("--crops", type=int, nargs="+", choices=(5, 10), default=(), help=about)
    about = "also average over all windows at six sizes, with the last pool at every offset (OverFeat)"
    group.add_argument("--dense", action="store_true", help=about)


def add_find_flags(group: argparse._ArgumentGroup) -> None:
    """How a detector looks for boxes, and what is written about them."""
    group.add_argument("--imgsz", type=input_size, help="side of the network input, a multiple of 32 [the run's]")
    add_threshold_flags(group, None, 0.6, default="0.001; with --localise 0.25")
    add_precision(group)
    group.add_argument("--augment", action="store_true", help="test-time augmentation: three scales, one mirrored")
    group.add_argument(
        "--save-json", action="store_true", help="detections.json and annotations.json, as pycocotools reads them"
    )
