"""Maps over pictures."""

import cv2
import numpy as np
from torch import Tensor

SIDE = 168  # pixels of a picture, at least
BOX_COLOUR = (255, 64, 64)
OPACITY = 0.55


def picture(image: Tensor) -> np.ndarray:
    """[H, W, 3] uint8 RGB of an image [3, H, W] in 0–1, enlarged by a whole number where it is small."""
    pixels = (image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    times = -(-SIDE // max(pixels.shape[:2]))
    return cv2.resize(pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC) if times > 1 else pixels


def overlaid(picture: np.ndarray, one: np.ndarray) -> np.ndarray:
    """A map from its lowest to its highest value in colours, over a picture in grey."""
    import matplotlib

    span = float(np.ptp(one))
    level = (one - one.min()) / span if span > 0 else np.zeros_like(one)
    height, width = picture.shape[:2]
    sized = cv2.resize(level.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = matplotlib.colormaps["inferno"](sized)[..., :3] * 255
    grey = picture.mean(2, keepdims=True)
    return np.asarray((OPACITY * colours + (1 - OPACITY) * grey).round().astype(np.uint8))


def outlined(picture: np.ndarray, boxes_xyxy: np.ndarray, height: int) -> np.ndarray:
    """The picture with boxes [n, 4], in pixels of an image of that height."""
    found = np.ascontiguousarray(picture)
    for x1, y1, x2, y2 in np.round(boxes_xyxy * (picture.shape[0] / height)).astype(int).tolist():
        cv2.rectangle(found, (x1, y1), (x2 - 1, y2 - 1), BOX_COLOUR, 2)
    return found
