"""Image files of any kind as upright 8-bit RGB."""

from pathlib import Path

import numpy as np
from PIL import Image

ORIENTATION = 0x0112  # the EXIF tag of how a camera was held
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)


def read_rgb(path: Path) -> np.ndarray:
    """[H, W, 3] uint8, upright by its EXIF tag; 16 bits are cut to the upper eight, transparency is left out.

    Raises:
        OSError, ValueError: missing, truncated, no image, or of floating-point or 32-bit numbers.
    """
    with Image.open(path) as image:
        return upright_rgb(image)


def upright_rgb(image: Image.Image) -> np.ndarray:
    """[H, W, 3] uint8 of an image that PIL has opened, as read_rgb gives it.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    turn = UPRIGHT.get(orientation(image))
    return np.array(as_rgb(image if turn is None else image.transpose(turn)))


def as_rgb(image: Image.Image) -> Image.Image:
    """Any kind of image as 8-bit RGB."""
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range nobody knows")
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF tag, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # damaged EXIF makes Pillow raise half a dozen types; the picture itself may be whole
        return 1


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a readable image, upright.

    Decodes all of it, JPEGs at an eighth of their size, so that a truncated file is found here, not in training.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    with Image.open(path) as image:
        width, height = image.size
        if image.mode in ("I", "F"):
            as_rgb(image)
        image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
        image.load()
        return (width, height) if orientation(image) in SIDEWAYS else (height, width)
