"""Image files of a data set: which there are, and whether they are whole."""

import os
import stat
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from data import sizes
from data.listing import files_below, parted
from data.records import Notice, Problem, Record
from utils import dicom
from utils.console import SLOW_S, said_if_slow
from utils.errors import NotReadError, UserError
from utils.images import image_size, read_rgb
from utils.paths import is_file, status_of
from utils.threads import each

SUFFIXES = dicom.SUFFIXES | frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .bmp .tga .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .avif "  # noqa: SIM905
    ".jp2 .j2k .j2c .jpx".split()
)
UNREAD = frozenset(
    ".heic .heif .hif .jxl .svg .psd .exr .hdr .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .nii".split()  # noqa: SIM905
)
T = TypeVar("T")
MANY_MISSING = 10  # missing images above which one problem counts them all: a part of a large set was fetched


def images_below(folder: Path, closed: list[Path] | None = None, *, others: Collection[str] = ()) -> list[Path]:
    """Image files at any depth in alphabetical order, by their suffix, or DICOM without one; linked folders count.

    Args:
        closed: takes the folders that cannot be read.
        others: suffixes of other files that are wanted.
    """
    return files_below(folder, {*SUFFIXES, *others}, closed, is_marked)


def is_marked(path: str) -> bool:
    """Whether a file without a suffix, or whose name is a number with dots (a UID), is a DICOM picture by its mark."""
    name = path.rpartition(os.sep)[2]
    suffix = parted(name)[1]
    if (suffix and not suffix[1:].isdecimal()) or name.upper() == "DICOMDIR":  # the list of the others
        return False
    try:
        return is_file(Path(path)) and dicom.is_dicom(Path(path))
    except OSError:
        return False


def unread_folders(closed: Sequence[Path]) -> list[Notice]:
    """What is to be said of folders that cannot be read."""
    return [Notice("folders cannot be read", [str(path) for path in closed])] if closed else []


class UnreadableError(UserError):
    """A picture that was whole when its data set was read is so no more."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(what, where=where, hint="restore it, then continue; or start again without it")
        self.problem = where, what


def record_rgb(record: Record) -> np.ndarray:
    """[H, W, 3] uint8 of a record, as it is shown; grey values are repeated.

    Raises:
        UnreadableError: the file is gone, or damaged.
    """
    pixels = record_pixels(record)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, 2)


def record_pixels(record: Record) -> np.ndarray:
    """[H, W, C] uint8 of a record, as a network is given it, whether its image is a file of its own or not.

    Raises:
        UnreadableError: the file is gone, or damaged.
    """
    if record.pixels is not None:
        return np.array(record.pixels)
    found = attempt(lambda path: read_rgb(path, record.levels), record.image)
    if isinstance(found, Problem):
        raise UnreadableError(found.where, found.what)
    return found


def files_of(records: Sequence[Record], where: str | Path, hint: str) -> list[Path]:
    """The image files of records.

    Raises:
        UserError: their images are no files of their own, but slices of a volume or rows of an archive.
    """
    if any(record.pixels is not None for record in records):
        raise UserError("has no pictures that are files", where=where, hint=hint)
    return [record.image for record in records]


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
    except NotReadError as error:
        what = f"is not read: {error}"
    except Exception as error:  # a decoder that meets garbage raises whatever it stumbles over
        what = f"damaged image ({error or type(error).__name__})"
    return Problem(str(path), what, "replace the file, or take its name off the list")


def checked(stamps: Mapping[Path, str]) -> dict[Path, tuple[int, int] | Problem]:
    """check_image for each file of a stamp.

    Where this takes long, the sizes are noted, and the next time only files that have changed are decoded.
    """
    known = sizes.known(stamps)
    new, found = [path for path in stamps if path not in known], dict[Path, tuple[int, int] | Problem]()
    began = time.monotonic()

    def so_far() -> str:
        return f"reading {len(new):,} images: {len(found):,} in {SLOW_S:g} s"

    with said_if_slow(so_far):
        for path, outcome in zip(new, each(check_image, new), strict=True):
            found[path] = outcome
    if time.monotonic() - began > SLOW_S:
        whole = ((path, stamps[path], size) for path, size in found.items() if not isinstance(size, Problem))
        sizes.note(whole)
    return found | known


def readable(paths: Sequence[Path], problems: list[Problem]) -> list[tuple[int, int] | None]:
    """Height and width of each image; None for the missing and the damaged ones, which go to problems."""
    there = {path: status for path in dict.fromkeys(paths) if (status := status_of(path)) is not None}
    problems += missing_images([path for path in dict.fromkeys(paths) if path not in there])
    odd = [path for path, status in there.items() if not stat.S_ISREG(status.st_mode)]
    problems += [Problem(str(path), "no file, but a folder or a pipe", "take its name off the list") for path in odd]
    for path in odd:
        del there[path]
    found = checked({path: sizes.stamp(status) for path, status in there.items()})
    problems += [own for path in there if isinstance(own := found[path], Problem)]
    return [None if isinstance(size := found.get(path), Problem) else size for path in paths]


def missing_images(paths: Sequence[Path]) -> list[Problem]:
    """A problem for each missing image, or one that counts them where they are many."""
    hint = "add it, or take its name off the list"
    if len(paths) <= MANY_MISSING:
        return [Problem(str(path), "the image does not exist", hint) for path in paths]
    what = f"{len(paths)} images do not exist, the first is {paths[0].name}"
    return [Problem(str(paths[0].parent), what, "add them, or take their names off the list")]
