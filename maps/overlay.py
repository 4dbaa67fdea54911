"""Maps, regions and boxes over pictures; boxes in the paper's colours, the true ones green, those found red."""

import cv2
import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from utils.fonts import drawing_font
from utils.pages import data_uri

SIDE = 144  # pixels of the longer side of a picture: a page of four networks stays below 5 MB
TRUE, FOUND = (0, 190, 60), (235, 45, 45)
OPACITY = 0.55
DIMMED = 0.3  # of what is outside a region
LETTERS = 12  # pixels
QUALITY = 55  # of WebP


def pixels_rgb(image: Tensor) -> np.ndarray:
    """[H, W, 3] uint8 RGB of an image [3, H, W], or [1, H, W] of grey values, in 0–1."""
    return (image.expand(3, -1, -1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


def picture(image: Tensor) -> np.ndarray:
    """[h, w, 3] uint8 RGB of an image [3, H, W] or [1, H, W] in 0–1, the longer side SIDE."""
    pixels = pixels_rgb(image)
    scale = SIDE / max(pixels.shape[:2])
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=how))


def overlaid(picture: np.ndarray, one: np.ndarray, colours: str = "inferno") -> np.ndarray:
    """A map from its lowest to its highest value in colours, over a picture in grey."""
    import matplotlib

    span = float(np.ptp(one))
    level = (one - one.min()) / span if span > 0 else np.zeros_like(one)
    height, width = picture.shape[:2]
    sized = cv2.resize(level.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    coloured = matplotlib.colormaps[colours](sized)[..., :3] * 255
    grey = picture.mean(2, keepdims=True)
    return np.asarray((OPACITY * coloured + (1 - OPACITY) * grey).round().astype(np.uint8))


def greyed(picture: np.ndarray, grey: bool) -> np.ndarray:
    """The picture without colour, if it is to be grey."""
    return np.repeat(picture.mean(2, keepdims=True), 3, 2).round().astype(np.uint8) if grey else picture


def masked(picture: np.ndarray, region: np.ndarray) -> np.ndarray:
    """The picture as it is inside a region [h, w] bool, dark outside, with the region's edge in white."""
    height, width = picture.shape[:2]
    sized = cv2.resize(region.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    found = np.where(sized[..., None] > 0, picture, (DIMMED * picture).astype(np.uint8))
    edges, _ = cv2.findContours(sized, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(found), edges, -1, (255, 255, 255), 1))


def outlined(
    picture: np.ndarray, boxes_xyxy: np.ndarray, height: int, colour: tuple[int, int, int] = TRUE
) -> np.ndarray:
    """The picture with boxes [n, 4], in pixels of an image of that height."""
    found = np.array(picture, order="C")
    for x1, y1, x2, y2 in np.round(boxes_xyxy * (picture.shape[0] / height)).astype(int).tolist():
        cv2.rectangle(found, (x1, y1), (x2 - 1, y2 - 1), colour, 2)
    return found


def written(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a few words in its lower left corner, white on black."""
    found, font = Image.fromarray(picture), drawing_font(text, LETTERS)
    pen, base = ImageDraw.Draw(found), found.height - 4
    pen.rectangle((0, base - LETTERS, font.getlength(text) + 6, found.height), fill=(0, 0, 0))
    pen.text((3, base), text, fill=(255, 255, 255), font=font, anchor="ls")
    return np.asarray(found)


def as_uri(picture: np.ndarray) -> str:
    """A WebP as a data URI."""
    _, content = cv2.imencode(".webp", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return data_uri(content.tobytes(), "webp")


def as_jpeg(picture: np.ndarray) -> bytes:
    """The picture as a file."""
    _, content = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return content.tobytes()
