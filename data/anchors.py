"""Anchors that fit a data set: `python -m data.anchors data/sample.yaml --imgsz 128` prints nine for a recipe."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from data.description import load_description
from data.formats import read_split
from data.records import Record
from utils.boxes import shape_iou
from utils.errors import UserError, run_cli
from utils.letterbox import Letterbox
from utils.parser import Parser

ANCHORS = 9
WITHIN = 4


def box_sizes(records: list[Record], imgsz: int) -> np.ndarray:
    """Width and height [n, 2] of all boxes, in pixels of the letterboxed input."""
    sizes = [
        (record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2])[record.asked] * Letterbox.fit(record.size_hw, imgsz).scale
        for record in records
    ]
    return np.concatenate(sizes)


def cluster(sizes: np.ndarray, count: int = ANCHORS) -> np.ndarray:
    """Anchors [count, 2], small to large: k-means on the logarithms, so that errors are relative."""
    from sklearn.cluster import KMeans

    centres = KMeans(count, n_init=10, random_state=0).fit(np.log(sizes)).cluster_centers_
    anchors = np.exp(centres)
    return anchors[np.argsort(anchors.prod(1))]


def check_variety(records: list[Record], imgsz: int) -> np.ndarray:
    """Sizes [n, 2] of the boxes of a split, of which there are enough for anchors.

    Raises:
        UserError: fewer than nine sizes of boxes.
    """
    sizes = box_sizes(records, imgsz)
    if (count := len(np.unique(sizes, axis=0))) < ANCHORS:
        what = f"{count} different sizes of boxes for {ANCHORS} anchors"
        raise UserError(what, where="--anchors auto", hint="leave it out: COCO's anchors serve any data")
    return sizes


def fitted(records: list[Record], imgsz: int) -> list[tuple[float, float]]:
    """Nine anchors for the boxes of a split, to a tenth of a pixel.

    Raises:
        UserError: fewer than nine sizes of boxes.
    """
    sizes = check_variety(records, imgsz)
    return [(round(float(w), 1), round(float(h), 1)) for w, h in cluster(sizes)]


def fit(sizes: np.ndarray, anchors: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Best possible recall and mean shape IoU of boxes [n, 2] with their best anchors.

    Recall counts a box whose width and height are both within a factor of 4 of an anchor's, as the anchor-based YOLO
    repositories of Ultralytics do. The darknet criterion gives every box an anchor, however bad.
    """
    boxes, shapes = torch.from_numpy(sizes).double(), torch.tensor(anchors).double()
    ratio = boxes[:, None] / shapes[None]
    within = torch.maximum(ratio, 1 / ratio).amax(2).amin(1) < WITHIN
    return within.double().mean().item(), shape_iou(boxes, shapes).amax(1).mean().item()


def main() -> None:
    """Print the anchors as yaml, and how well they fit."""
    parser = Parser(description="Nine anchors, width and height in input pixels, for a data set.")
    parser.add_argument("data", type=Path, help="data yaml")
    parser.add_argument("--imgsz", type=int, default=416, help="side of the network input [416]")
    arguments = parser.parse_args()
    records = read_split(load_description(arguments.data), "train").records
    anchors = fitted(records, arguments.imgsz)
    print(f"anchors: {[list(anchor) for anchor in anchors]}  # {shown(records, anchors, arguments.imgsz)}")


def shown(records: list[Record], anchors: Sequence[tuple[float, float]], imgsz: int) -> str:
    """How well anchors fit the boxes of a split, in words."""
    recall, overlap = fit(box_sizes(records, imgsz), anchors)
    return f"best possible recall {recall:.3f}, mean shape IoU with the best anchor {overlap:.3f}"


if __name__ == "__main__":
    run_cli(main)
