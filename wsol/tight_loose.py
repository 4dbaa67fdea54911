"""Two boxes from one class activation map, a loose and a tight one, and the five guesses that they make."""

import cv2
import numpy as np

from utils.boxes import box_iou

LEVELS = (20, 100, 110)  # of 255, in the released code (github.com/zhoubolei/CAM at c63f285, generate_bbox.m)
SAME = 0.5  # IoU above which two boxes are one


def tight_and_loose(one: np.ndarray) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The loose box, which is the largest, and the tight one, the largest that is another; None where there is none.

    The paper names a fifth of the maximum; its code pools the boxes around everything above three absolute levels. How
    it cleans and merges them is not visible from outside: here boxes that overlap by more than a half are one.

    Args:
        one: [H, W].
    """
    low, high = float(one.min()), float(one.max())
    if not np.isfinite([low, high]).all() or high <= low:
        return None, None
    steps = np.round((one - low) / (high - low) * 255).astype(np.uint8)
    boxes = np.concatenate([components(steps > level) for level in LEVELS])
    boxes = boxes[np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(1), kind="stable")]
    loose = boxes[0]
    others = boxes[box_iou(loose, boxes) <= SAME]
    return loose, others[0] if len(others) else None


def components(region: np.ndarray) -> np.ndarray:
    """[n, 4] boxes around the 8-connected parts of a bool region, half-open pixels."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    x, y, w, h = stats[1:, :4].T
    return np.stack([x, y, x + w, y + h], 1).astype(np.float32)


def five_guesses(ranks: np.ndarray, loose: np.ndarray, tight: np.ndarray) -> np.ndarray:
    """[N] bool: whether one of five guesses is right: both boxes of the two likeliest classes, the third's loose one.

    Args:
        ranks: [N] how many classes are held likelier than the right one.
        loose, tight: [N] bool whether the box of the right class is right.
    """
    return np.asarray(((ranks < 2) & (loose | tight)) | ((ranks == 2) & loose))
