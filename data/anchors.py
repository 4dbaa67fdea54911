"""Anchors that fit a data set: `python -m data.anchors data/sample.yaml --imgsz 128` prints nine for a recipe."""

import argparse
from pathlib import Path

import numpy as np
import torch

from data.description import load_description
from data.formats import read_split
from data.records import Record
from data.transforms import Letterbox
from utils.boxes import shape_iou
from utils.errors import run_cli


def box_sizes(records: list[Record], imgsz: int) -> np.ndarray:
    """Width and height [n, 2] of all boxes, in pixels of the letterboxed input."""
    sizes = [
        (record.boxes_xyxy[:, 2:] - record.boxes_xyxy[:, :2]) * Letterbox.fit(record.size_hw, imgsz).scale
        for record in records
    ]
    return np.concatenate(sizes)


def cluster(sizes: np.ndarray, count: int = 9) -> np.ndarray:
    """Anchors [count, 2], small to large: k-means on the logarithms, so that errors are relative."""
    from sklearn.cluster import KMeans

    centres = KMeans(count, n_init=10, random_state=0).fit(np.log(sizes)).cluster_centers_
    anchors = np.exp(centres)
    return anchors[np.argsort(anchors.prod(1))]


def main() -> None:
    """Print the anchors as yaml, and the mean shape IoU of boxes with their best anchor."""
    parser = argparse.ArgumentParser(description="Nine anchors, width and height in input pixels, for a data set.")
    parser.add_argument("data", type=Path, help="data yaml")
    parser.add_argument("--imgsz", type=int, default=416, help="side of the network input [416]")
    arguments = parser.parse_args()
    sizes = box_sizes(read_split(load_description(arguments.data), "train").records, arguments.imgsz)
    anchors = cluster(sizes)
    best = shape_iou(torch.from_numpy(sizes), torch.from_numpy(anchors)).amax(1).mean()
    rounded = [[round(float(w), 1), round(float(h), 1)] for w, h in anchors]
    print(f"anchors: {rounded}  # mean shape IoU with the best anchor {best:.3f}")


if __name__ == "__main__":
    run_cli(main)
