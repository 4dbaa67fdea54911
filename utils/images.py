"""Image files of any kind as upright 8-bit RGB.

Pictures of more than 8 bits, DICOM among them, are brought to 8 by levels (utils.levels): those of their data set, of
the detector that looks at them, or their own.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from utils import dicom
from utils.errors import NotReadError
from utils.levels import Levels, levels_of, occurring
from utils.limits import PICTURE

Image.MAX_IMAGE_PIXELS = None  # `opened` has a limit of its own, which can be raised
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
EIGHT_BITS = frozenset((".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp", ".avif"))  # have no more
BITS, PLANES, KIND_OF_PAGE, ZERO_IS, NO_DATA = 258, 284, 254, 262, 42113  # tags of TIFF
WHITE = 0  # of what zero is
MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # kinds of which one picture may have many frames
WHOLE = 65535
GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # modes of more than 8 bits


def read_rgb(path: str | Path, levels: Levels | None = None) -> np.ndarray:
    """[H, W, 3] uint8, upright by its EXIF tag; transparency is left out.

    Args:
        levels: of a picture of more than 8 bits [its own].

    Raises:
        OSError, ValueError: missing, truncated, too large, no image, or one of several pages or frames.
    """
    path = Path(path)
    if dicom.is_dicom(path):
        levels = levels or own_levels(path)
        return shown(dicom.dicom_values(path), levels, None if levels else dicom.padding(path))
    with opened(path) as image:
        if is_deep_image(image):
            return shown(deep_values(image, path), levels, padding_of(image))
        return upright_rgb(image, levels)


def upright_rgb(image: Image.Image, levels: Levels | None = None) -> np.ndarray:
    """[H, W, 3] uint8 of an image that PIL has opened, as read_rgb gives it.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    if image.mode in GREY:
        return shown(grey_values(image), levels, padding_of(image))
    turn = UPRIGHT.get(orientation(image))
    return np.array(as_rgb(image if turn is None else image.transpose(turn)))


def shown(values: np.ndarray, levels: Levels | None, padding: tuple[float, float] | None = None) -> np.ndarray:
    """[H, W, 3] uint8 of the values [H, W] or [H, W, 3] of a picture.

    Args:
        padding: the first and the last value of what is outside it, which count for no levels.
    """
    if values.dtype != np.uint8:
        values = (levels or levels_of([occurring(values, padding)], "the picture")).apply(values)
    return np.repeat(values[..., None], 3, 2) if values.ndim == 2 else values


def read_values(path: Path) -> np.ndarray:
    """[H, W] or [H, W, 3] as they are in a picture of more than 8 bits; [H, W, 3] uint8 of any other.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    if dicom.is_dicom(path):
        return dicom.dicom_values(path)
    with opened(path) as image:
        if is_deep_image(image):
            return deep_values(image, path)
    return read_rgb(path)


def read_occurring(path: Path) -> np.ndarray:
    """Those of read_values that are of the picture, in any shape: files may name a value that fills what is outside.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    if dicom.is_dicom(path):
        return occurring(dicom.dicom_values(path), dicom.padding(path))
    with opened(path) as image:
        padding = padding_of(image)
    return occurring(read_values(path), padding)


def padding_of(image: Image.Image) -> tuple[float, float] | None:
    """The value, twice, that a TIFF of GDAL names as that of no data; None where there is none."""
    try:
        value = float(str(image.tag_v2[NO_DATA]).strip("\0 ")) if image.format == "TIFF" else None  # type: ignore[attr-defined]
    except (KeyError, ValueError):
        return None
    if value is None or not math.isfinite(value):
        return None
    own = float(mirrored(np.array(value), image))
    return own, own


def grey_values(image: Image.Image) -> np.ndarray:
    """[H, W] of an opened image of a mode in GREY, upright, as the file has them.

    Raises:
        OSError, ValueError: truncated.
    """
    stretched = (own for own in image.tile if image.format == "PPM" and own[0].startswith("ppm"))  # type: ignore[attr-defined]
    largest = next((own[3][1] for own in stretched), WHOLE)  # Pillow stretches what a PGM calls white to WHOLE
    turn = UPRIGHT.get(orientation(image))
    values = mirrored(np.asarray(image if turn is None else image.transpose(turn)), image)
    return values if largest == WHOLE else np.rint(values * (largest / WHOLE)).astype(values.dtype)


def mirrored(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Grey values of more than 8 bits, larger is brighter: Pillow leaves those of a TIFF in which zero is white."""
    if image.format != "TIFF" or image.tag_v2.get(ZERO_IS) != WHITE:  # type: ignore[attr-defined]
        return values
    bits = max(image.tag_v2.get(BITS, (16,)))  # type: ignore[attr-defined]
    return 2**bits - 1 - values if image.mode.startswith("I;16") else -values


def own_levels(path: Path) -> Levels | None:
    """Levels that a file itself asks for: the window of DICOM.

    Raises:
        OSError, ValueError: as in read_rgb.
    """
    return dicom.voi(path) if dicom.is_dicom(path) else None


def is_deep(path: Path) -> bool:
    """Whether a picture has more than 8 bits, judged by its head; a file that cannot be read has not."""
    if path.suffix.lower() in EIGHT_BITS:
        return False
    try:
        if dicom.is_dicom(path):
            return dicom.is_deep(path)
        with opened(path) as image:
            return is_deep_image(image)
    except Exception:  # whoever decodes it reports what is wrong
        return False


def decoded_head(file: BinaryIO, path: Path) -> Image.Image:
    """A file, its pixels not read yet.

    Raises:
        OSError, ValueError: no image, or a TIFF that is not read.
    """
    try:
        return Image.open(file)
    except Image.UnidentifiedImageError as error:
        file.seek(0)
        if file.read(2) in (b"II", b"MM"):
            raise NotReadError("a TIFF of an unusual type; save it with 8 or 16 bits, or 32-bit floats") from error
        raise Image.UnidentifiedImageError(f"cannot identify image file {str(path)!r}") from None


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A file whose head is read.

    Raises:
        OSError, ValueError: missing, no image, of more pixels than are read without being asked, of several pages or
            frames.
    """
    with path.open("rb") as file, decoded_head(file, path) as image:  # by name, Pillow maps turned grey TIFFs wrongly
        if what := PICTURE.too_much(image.width * image.height / 1e6):
            raise NotReadError(what)
        if image.format == "TIFF" and (pages := count_pages(image)) > 1:
            raise NotReadError(f"TIFF of {pages} pages; save each page as a file of its own")
        if image.format in MOVING and getattr(image, "is_animated", False):
            raise NotReadError("it moves; save each frame as a file of its own, or all of them as MP4")
        yield image


def count_pages(image: Image.Image) -> int:
    """Pages of a TIFF; small copies and masks of others are none."""
    count, frames = 0, getattr(image, "n_frames", 1)
    if frames == 1:
        return 1
    for number in range(frames):
        image.seek(number)
        count += not int(image.tag_v2.get(KIND_OF_PAGE, 0)) & 0b101  # type: ignore[attr-defined]
    image.seek(0)
    return count


def is_deep_image(image: Image.Image) -> bool:
    """Whether an opened image has more than 8 bits in a channel."""
    if image.mode in GREY:
        return True
    if image.format == "TIFF":
        return max(image.tag_v2.get(BITS, (8,))) > 8  # type: ignore[attr-defined]
    return image.format == "PNG" and any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]


def deep_values(image: Image.Image, path: Path) -> np.ndarray:
    """[H, W] or [H, W, 3] RGB of an opened image of more than 8 bits, upright.

    Raises:
        OSError, ValueError: truncated, or of a kind that is not read.
    """
    if image.mode in GREY:
        return grey_values(image)
    turn = UPRIGHT.get(orientation(image))
    import cv2  # Pillow would cut colours to their upper 8 bits

    planar = image.format == "TIFF" and image.tag_v2.get(PLANES, 1) != 1  # type: ignore[attr-defined]
    values = None if planar or turn else cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3 or values.shape[2] < 3:
        raise NotReadError("colours of more than 8 bits that are not read; save it with 8 bits")
    return np.ascontiguousarray(values[..., 2::-1])


def as_rgb(image: Image.Image) -> Image.Image:
    """An image of 8 bits as RGB."""
    return (image.convert("RGBA") if "transparency" in image.info else image).convert("RGB")


def orientation(image: Image.Image) -> int:
    """The EXIF tag, 1 where there is none or it cannot be read.

    Raises:
        OSError, ValueError: the picture is truncated. Pillow decodes a PNG when it is asked for EXIF, and would give
            what it has of a damaged one when it is asked again.
    """
    image.load()
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
    if dicom.is_dicom(path):
        height, width = dicom.dicom_values(path).shape[:2]
        return height, width
    with opened(path) as image:
        width, height = image.size
        if is_deep_image(image):
            deep_values(image, path)
        image.draft("RGB", (max(1, width // 8), max(1, height // 8)))
        image.load()
        return (width, height) if orientation(image) in SIDEWAYS else (height, width)
