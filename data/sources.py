"""Where pictures to look through come from: files, folders, globs, videos, webcams, streams and addresses."""

import contextlib
import glob
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from data.archives import fetch
from data.images import SUFFIXES, attempt
from data.records import Problem
from utils.console import console
from utils.errors import UserError
from utils.images import read_rgb
from utils.ultralytics_parts import stream

VIDEOS = frozenset((".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"))
TOGETHER = 16  # pictures that are looked through at once


@dataclass(frozen=True)
class Frame:
    """A picture to look through.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        where: the file or address that it comes from.
        number: its place in a video or stream, from 1; None for a picture of its own.
        fps: frames a second of the video.
    """

    image: np.ndarray
    where: str
    number: int | None = None
    fps: float | None = None

    @property
    def stem(self) -> str:
        """Name for files about it, without suffix."""
        return Path(urlsplit(self.where).path).stem or "stream"


def open_source(source: str, *, stride: int = 1) -> Iterator[list[Frame]]:
    """Pictures that belong together, group after group; says which files cannot be read.

    Args:
        source: image or video, folder or glob of them, address of one, number of a webcam, address of a stream, a file
            of stream addresses (`.streams`), or `screen`.
        stride: every so many frames of a video or stream are looked at.

    Raises:
        UserError: there is nothing, or nothing that can be read.
    """
    address = urlsplit(source)
    if address.scheme in ("http", "https") and Path(address.path).suffix.lower() in SUFFIXES | VIDEOS:
        with tempfile.TemporaryDirectory() as folder:
            path = fetch(source, Path(folder) / Path(address.path).name)
            for frames in read_files([path], stride):
                yield [replace(frame, where=source) for frame in frames]
    elif address.netloc or source.isdecimal() or source == "screen" or source.endswith(".streams"):
        yield from read_stream(source, stride)
    else:
        yield from read_files(find_files(source), stride)


def find_files(source: str) -> list[Path]:
    """Images and videos of a file, a folder or a glob, sorted.

    Raises:
        UserError: there is none.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    candidates = path.iterdir() if path.is_dir() else map(Path, glob.glob(source, recursive=True))
    found = sorted(item for item in candidates if item.suffix.lower() in SUFFIXES | VIDEOS and item.is_file())
    if not found:
        mend = f"give a file, a folder or a glob of {', '.join(sorted(SUFFIXES | VIDEOS))}, a webcam or an address"
        raise UserError("no image or video there", where=source, mend=mend)
    return found


def read_files(paths: list[Path], stride: int = 1) -> Iterator[list[Frame]]:
    """Images, then videos; says which are left out.

    Raises:
        UserError: none can be read.
    """
    read = 0
    moving = [path for path in paths if path.suffix.lower() in VIDEOS]
    still = [path for path in paths if path not in moving]
    for start in range(0, len(still), TOGETHER):
        frames = [frame for path in still[start : start + TOGETHER] if (frame := read_image(path))]
        read += len(frames)
        yield frames
    for path in moving:
        before = read
        with contextlib.suppress(UserError):
            for frames in read_stream(str(path), stride):
                read += len(frames)
                yield frames
        if read == before:
            console.print(f"left out {path}: no frame can be read", markup=False)
    if not read:
        raise UserError("no readable image or video", where=paths[0], mend="replace the files named above")


def read_image(path: Path) -> Frame | None:
    """A picture, or None where it cannot be read, after saying why."""
    image = attempt(read_rgb, path)
    if isinstance(image, Problem):
        console.print(f"left out {image.where}: {image.what}", markup=False)
        return None
    return Frame(image, str(path))


def read_stream(source: str, stride: int) -> Iterator[list[Frame]]:
    """Frames of a video or of streams, counted for each of them.

    Raises:
        UserError: it cannot be opened.
    """
    numbers: dict[str, int] = {}
    for group in stream(source, stride, TOGETHER):
        frames = []
        for where, image, fps in group:
            numbers[where] = numbers.get(where, 0) + 1
            frames.append(Frame(image, where, numbers[where], fps))
        yield frames
