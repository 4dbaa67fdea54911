"""Image files of a data set: which there are, and whether they are whole."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from data.records import Problem, Record
from utils import dicom
from utils.images import image_size, read_rgb

SUFFIXES = dicom.SUFFIXES | frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .gif .webp .tif .tiff .ppm .pgm .avif .jp2".split()  # noqa: SIM905
)
UNREAD = frozenset((".heic", ".heif", ".jxl", ".svg", ".psd", ".exr", ".hdr", ".dng", ".cr2", ".nef", ".arw", ".nii"))
THREADS = max(4, os.cpu_count() or 1)
T = TypeVar("T")
MANY_MISSING = 10  # missing images above which one problem counts them all: a part of a large set was fetched


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth, by their suffix, in alphabetical order; linked folders are looked through too."""
    return files_below(folder, SUFFIXES)


def files_below(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of some kinds at any depth in alphabetical order, but hidden ones.

    Links are followed, and each folder is entered once.
    """
    found, entered = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        some = (Path(place, name) for name in names if not name.startswith("."))
        found += [path for path in some if path.suffix.lower() in suffixes and path.is_file()]
    return sorted(found)


def record_rgb(record: Record) -> np.ndarray:
    """[H, W, 3] uint8 of a record, whether its image is a file of its own or not."""
    return read_rgb(record.image, record.levels) if record.pixels is None else np.array(record.pixels)


def check_image(path: Path) -> tuple[int, int] | Problem:
    """Size of an image, or what is wrong with it."""
    return attempt(image_size, path)


def attempt(read: Callable[[Path], T], path: Path) -> T | Problem:
    """What `read` makes of an image file, or what is wrong with it."""
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            return Problem(str(path), "no file but a folder, a pipe or a device", "take its name off the list")
        return read(path)
    except FileNotFoundError:
        return Problem(str(path), "the image does not exist", "add it, or take its name off the list")
    except Image.UnidentifiedImageError:
        what = "pictures of this kind are not read" if path.suffix.lower() in UNREAD else "not an image"
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
