"""Images decoded once and kept, in RAM or in files that are mapped into memory."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from data.images import record_rgb
from data.records import Record, Split
from utils.errors import UserError
from utils.files import make_folder, written_whole
from utils.memory import GIB, free_memory
from utils.names import as_name
from utils.threads import each

RAM_SHARE = 0.8  # of what is free: training wants some too


def keep_images(split: Split, place: Literal["ram", "disk"], folder: Path) -> Split:
    """The split with the pixels of every image at hand; what is read from it is the same to the last bit.

    Args:
        folder: of the files, for `disk`; those that are there already are taken as they are.

    Raises:
        UserError: there is no room; says both numbers.
    """
    files = [record for record in split.records if record.pixels is None]
    needed = sum(3 * record.size_hw[0] * record.size_hw[1] for record in files)
    free = free_memory() * RAM_SHARE if place == "ram" else shutil.disk_usage(make_folder(folder)).free
    if needed > free:
        what = f"the images of `{split.name}` need {needed / GIB:.2f} GiB, free are {free / GIB:.2f} GiB"
        raise UserError(what, where=f"--cache-images {place}", hint="leave it out, or free some")
    keep = in_ram if place == "ram" else partial(on_disk, folder)
    return replace(split, records=list(each(lambda own: keep(*own), enumerate(split.records))))


def in_ram(_: int, record: Record) -> Record:
    """The record with its pixels."""
    return record if record.pixels is not None else replace(record, pixels=record_rgb(record))


def on_disk(folder: Path, number: int, record: Record) -> Record:
    """The record with its pixels mapped from a file, which is written where it is not there yet."""
    if record.pixels is not None:
        return record
    found = record.image.stat()  # another picture in its place has other pixels, and so has one with other levels
    levels = "" if record.levels is None else f"_{record.levels.black:g}_{record.levels.white:g}"
    path = folder / f"{number}_{as_name(record.image.stem)[:40]}_{found.st_size}_{found.st_mtime_ns}{levels}.npy"
    if (pixels := mapped(path, record.size_hw)) is None:
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, record_rgb(record))
        pixels = np.load(path, mmap_mode="r")
    return replace(record, pixels=pixels)


def mapped(path: Path, size_hw: tuple[int, int]) -> np.ndarray | None:
    """The pixels in a file, [H, W, 3] uint8; None where there is none, or not that of such an image."""
    try:
        pixels = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    fits = isinstance(pixels, np.memmap) and pixels.dtype == np.uint8 and pixels.shape == (*size_hw, 3)
    return pixels if fits else None
