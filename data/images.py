"""Image files: which there are, whether they are whole, and their pixels the right way up."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from data.records import Problem, Record

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
THREADS = max(4, os.cpu_count() or 1)
MANY_MISSING = 10  # missing images above which one problem counts them all: a part of a large set was fetched
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


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth, by their suffix, in alphabetical order."""
    return sorted(
        path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )


def read_rgb(path: Path) -> np.ndarray:
    """[H, W, 3] uint8, upright by its EXIF tag; 16 bits are cut to the upper eight, transparency is left out.

    Raises:
        OSError, ValueError: missing, truncated, no image, or of floating-point or 32-bit numbers.
    """
    with Image.open(path) as image:
        turn = UPRIGHT.get(orientation(image))
        return np.array(as_rgb(image if turn is None else image.transpose(turn)))


def record_rgb(record: Record) -> np.ndarray:
    """[H, W, 3] uint8 of a record, whether its image is a file of its own or not."""
    return read_rgb(record.image) if record.pixels is None else record.pixels


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


def check_image(path: Path) -> tuple[int, int] | Problem:
    """Size of an image, or what is wrong with it."""
    try:
        return image_size(path)
    except FileNotFoundError:
        return Problem(str(path), "the image does not exist", "add it, or take its name off the list")
    except Image.UnidentifiedImageError:
        what = "not an image"
    except Exception as error:  # a decoder that meets garbage raises whatever it stumbles over
        what = f"damaged image ({error or type(error).__name__})"
    return Problem(str(path), what, "replace the file, or take its name off the list")


def check_images(paths: Sequence[Path]) -> list[tuple[int, int] | Problem]:
    """check_image for many, in threads: decoding releases the interpreter."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(check_image, paths))


def readable(paths: Sequence[Path], problems: list[Problem]) -> list[tuple[int, int] | None]:
    """Height and width of each image; None for the missing and the damaged ones, which go to problems."""
    missing = {path for path in paths if not path.exists()}
    problems += missing_images([path for path in paths if path in missing])
    found: dict[Path, tuple[int, int]] = {}
    present = [path for path in paths if path not in missing]
    for path, size in zip(present, check_images(present), strict=True):
        if isinstance(size, Problem):
            problems.append(size)
        else:
            found[path] = size
    return [found.get(path) for path in paths]


def missing_images(paths: Sequence[Path]) -> list[Problem]:
    """A problem for each missing image, or one that counts them where they are many."""
    mend = "add it, or take its name off the list"
    if len(paths) <= MANY_MISSING:
        return [Problem(str(path), "the image does not exist", mend) for path in paths]
    what = f"{len(paths)} images do not exist, the first is {paths[0].name}"
    return [Problem(str(paths[0].parent), what, "add them, or take their names off the list")]
