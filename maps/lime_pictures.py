"""LIME as pictures: the superpixels that count, and how they are found, step by step (figures 3 and 5 of the paper)."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from skimage.segmentation import mark_boundaries

from maps import lime
from maps.cases import Cases
from maps.localise import Column
from maps.networks import is_untrained
from maps.overlap import region_iou
from maps.overlay import as_uri, greyed, masked, outlined, picture, pixels_rgb, written
from maps.shown import Strip

SHOWN = 3  # cases
EXAMPLES = 3  # perturbed images of the pipeline


@dataclass(frozen=True)
class Explanation:
    """What LIME made of one case.

    Attributes:
        index: of the case.
        segments: [H, W] superpixels.
        coefficients: a row for each cut of each column, in their order, [cuts, superpixels].
        perturbed: the first images with superpixels switched off, [n, 3, H, W], and the probabilities of their class by
            the last classifier of the first column.
    """

    index: int
    case: Cases
    segments: np.ndarray
    columns: Sequence[Column]
    coefficients: Sequence[np.ndarray]
    perturbed: np.ndarray
    probabilities: Sequence[float]


def lime_strips(own: Explanation) -> list[Strip]:
    """Of the first seed of each trained line: its regions at every cut."""
    found: dict[str, Strip] = {}
    for column, rows in zip(own.columns, own.coefficients, strict=True):
        if column.line not in found and not is_untrained(column.line):
            found[column.line] = lime_strip(own, column, rows)
    return list(found.values())


def lime_strip(own: Explanation, column: Column, rows: np.ndarray) -> Strip:
    """The regions of one column."""
    image, height = picture(own.case.images[0]), own.case.truth.shape[1]
    regions = [lime.explanation(row, own.segments) for row in rows]
    ious = [float(region_iou(region[None], own.case.truth)[0]) for region in regions]
    pictures = [
        outlined(
            written(masked(greyed(image, cut in column.coarse), region), f"IoU {iou:.2f}"), own.case.boxes[0], height
        )
        for region, iou, cut in zip(regions, ious, column.cuts, strict=True)
    ]
    return Strip(column.line, column.kind, column.cuts, ious, as_uri(np.concatenate(pictures, 1)), column.coarse)


def pipeline(own: Explanation) -> list[tuple[str, np.ndarray]]:
    """Captions and pictures of the steps, from the image to the superpixels that add most."""
    image, row = picture(own.case.images[0]), own.coefficients[0][-1]
    height, width = image.shape[:2]
    sized = cv2.resize(own.segments.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
    edges = (mark_boundaries(image, sized, color=(1, 1, 0)) * 255).astype(np.uint8)
    steps = [("1. the image", image), (f"2. {len(row)} superpixels", edges)]
    for number, (one, share) in enumerate(zip(own.perturbed, own.probabilities, strict=True)):
        pixels = pixels_rgb(torch.from_numpy(one))
        drawn = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_CUBIC)
        steps.append((f"3{'abc'[number]}. some are off: probability {share:.2f}", drawn))
    return [*steps, ("4. what each adds (red) or takes (blue)", added(image, row[sized])), best(own, image, row)]


def added(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Coefficients [H, W] over the picture in grey, red above 0 and blue below."""
    import matplotlib

    most = float(np.abs(values).max()) or 1.0
    coloured = matplotlib.colormaps["coolwarm"]((values / most + 1) / 2)[..., :3] * 255
    return np.asarray((0.65 * coloured + 0.35 * image.mean(2, keepdims=True)).round().astype(np.uint8))


def best(own: Explanation, image: np.ndarray, row: np.ndarray) -> tuple[str, np.ndarray]:
    """The superpixels that add most, with the true boxes."""
    region = lime.explanation(row, own.segments)
    iou = float(region_iou(region[None], own.case.truth)[0])
    drawn = outlined(masked(image, region), own.case.boxes[0], own.case.truth.shape[1])
    return f"5. those that add most: IoU with the box {iou:.2f}", drawn
