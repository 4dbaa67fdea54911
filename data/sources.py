"""Where pictures to look through come from: files, folders, globs, videos, webcams, streams and addresses."""

import contextlib
import glob
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from urllib.parse import SplitResult, urlsplit

import numpy as np

from data.images import SUFFIXES, UNREAD, attempt, images_below, is_marked
from data.records import Problem
from utils.console import console
from utils.errors import UserError
from utils.fetch import fetch
from utils.images import is_deep, read_rgb
from utils.levels import BLACK, WHITE, Levels
from utils.paths import is_file, is_folder, kind_of
from utils.text import counted, redacted
from utils.ultralytics_parts import Shot, stream, ultralytics

VIDEOS = frozenset((".asf", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"))
UNREAD_VIDEOS = frozenset((".flv", ".3gp", ".mts", ".m2ts", ".vob", ".ogv"))
PATIENCE_S, GLANCE_S = 5.0, 0.01  # of waiting for a stream: at first, and while it gives nothing
TOGETHER = 16  # pictures that are looked through at once,
ROOM = 10**8  # unless they have so many pixels: 300 MB


@dataclass(frozen=True)
class Frame:
    """A picture to look through.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        where: the file or address that it comes from, without user, password and token.
        number: its place in a video or stream, from 1; None for a picture of its own.
        fps: frames a second of the video.
        seconds: since the first frame of a live stream, of which frames may be missed; None where none are.
    """

    image: np.ndarray
    where: str
    number: int | None = None
    fps: float | None = None
    seconds: float | None = None

    @property
    def stem(self) -> str:
        """Name for files about it, without the suffix of a picture or video: `1.2.840` of a DICOM file has none."""
        address = split_address(self.where)
        path = Path(address.path if address.netloc else self.where)
        whole = not address.netloc and path.suffix.lower() not in SUFFIXES | VIDEOS
        return (path.name if whole else path.stem) or "stream"


def split_address(source: str) -> SplitResult:
    """The parts of an address; of a file, one without a host.

    Raises:
        UserError: it has brackets where a host should be; its password is not shown.
    """
    try:
        return urlsplit(source)
    except ValueError:  # whose message repeats what is in the brackets
        what, hint = "is no address: it has brackets", "write those of a user or password as %5B and %5D"
        raise UserError(what, where=redacted(source), hint=hint) from None


def open_source(source: str, *, stride: int = 1, levels: Levels | None = None) -> Iterator[list[Frame]]:
    """Pictures that belong together, group after group; says which files cannot be read.

    Args:
        source: image or video, folder or glob of them, address of one, number of a webcam, address of a stream, a file
            of stream addresses (`.streams`), or `screen`.
        stride: every so many frames of a video or stream are looked at.
        levels: of pictures of more than 8 bits [each has its own].

    Raises:
        UserError: there is nothing, or nothing that can be read, or an address is none.
    """
    address = split_address(source)
    if address.scheme in ("http", "https") and Path(address.path).suffix.lower() in SUFFIXES | VIDEOS:
        with tempfile.TemporaryDirectory() as folder:
            path = fetch(source, Path(folder) / Path(address.path).name, hint="try again, or save it and give the file")
            for frames in read_files([path], stride, levels):
                yield [replace(frame, where=redacted(source)) for frame in frames]
    elif source.endswith(".streams"):
        yield from read_streams(Path(source), stride)
    elif address.netloc or (kind_of(Path(source)) is None and (source.isdecimal() or source == "screen")):
        yield from numbered(stream(source, stride, TOGETHER), redacted(source), stride)
    else:
        yield from read_files(find_files(source), stride, levels)


def find_files(source: str) -> list[Path]:
    """Images and videos of a file, below a folder or of a glob, sorted; says which are of a kind that is not read.

    Raises:
        UserError: there is none, or the only one is of such a kind.
    """
    path = Path(source)
    if is_file(path):
        if path.suffix.lower() in UNREAD_VIDEOS:
            raise UserError("videos of this kind are not read", where=source, hint="save it as MP4")
        return [path]
    places = [path] if is_folder(path) else map(Path, glob.glob(as_glob(path), recursive=True))
    closed: list[Path] = []
    found = []
    for file in sorted({*all_files(places, closed)}):
        if why := why_left_out(file):
            print(f"left out {file}: {why}")
        else:
            found.append(file)
    for folder in closed:
        print(f"left out {folder}: the folder cannot be read")
    if not found:
        hint = f"give a file, a folder or a glob of {', '.join(sorted(SUFFIXES | VIDEOS))}, a webcam or an address"
        if kind_of(path) is not None or glob.has_magic(source):
            raise UserError("no image or video there", where=source, hint=hint)
        raise UserError("there is no such file or folder", where=source, hint=hint)
    return found


def all_files(places: Iterable[Path], closed: list[Path]) -> Iterator[Path]:
    """What is called as a picture or a video, or is DICOM without a suffix, in places that are files or folders.

    Args:
        closed: takes the folders that cannot be read.
    """
    others = VIDEOS | UNREAD | UNREAD_VIDEOS
    for place in places:
        if is_folder(place):
            yield from images_below(place, closed, others=others)
        elif place.suffix.lower() in SUFFIXES | others or is_marked(str(place)):
            yield place


def why_left_out(file: Path) -> str | None:
    """Why a file is not read; None for one that is."""
    suffix = file.suffix.lower()
    if suffix in UNREAD:
        return "pictures of this kind are not read; save it as JPEG or PNG"
    if suffix in UNREAD_VIDEOS:
        return "videos of this kind are not read; save it as MP4"
    return None if is_file(file) else "a pipe, or a link that leads to no file"


def as_glob(pattern: Path) -> str:
    """The pattern with the folders that it begins with taken as they are: they may have brackets in their names."""
    there, rest = Path(), list(pattern.parts)
    while len(rest) > 1 and kind_of(there / rest[0]) is not None:
        there /= rest.pop(0)
    return str(Path(glob.escape(str(there)), *rest))


def read_files(paths: list[Path], stride: int = 1, levels: Levels | None = None) -> Iterator[list[Frame]]:
    """Images, then videos; says which are left out, and what becomes black and white in those of more than 8 bits.

    Raises:
        UserError: none can be read.
    """
    read = 0
    for frames in read_images([path for path in paths if path.suffix.lower() not in VIDEOS], levels):
        read += len(frames)
        yield frames
    for path in (path for path in paths if path.suffix.lower() in VIDEOS):
        before = read
        with contextlib.suppress(UserError):
            for frames in numbered(stream(str(path), stride, TOGETHER), str(path), stride):
                read += len(frames)
                yield frames
        if read == before:
            fewer = f", or it has fewer than the {stride} of --vid-stride" if stride > 1 else ""
            console.print(f"left out {path}: no frame can be read{fewer}")
    if not read:
        raise UserError("no readable image or video", where=paths[0], hint="replace the files named above")


def read_images(paths: list[Path], levels: Levels | None = None) -> Iterator[list[Frame]]:
    """Images in groups that fit into memory; says which are left out, and what becomes black and white."""
    some, pixels, said = list[Frame](), 0, False
    for path in paths:
        said = said or says_levels([path], levels)
        if frame := read_image(path, levels):
            some.append(frame)
            pixels += frame.image.size // 3
        if len(some) == TOGETHER or pixels >= ROOM:
            yield some
            some, pixels = [], 0
    if some:
        yield some


def says_levels(paths: list[Path], levels: Levels | None) -> bool:
    """Whether a picture has more than 8 bits; then says what becomes black and white."""
    deep = any(map(is_deep, paths))
    if deep:
        what = levels or f"the {BLACK:g} and {WHITE:g} % of each picture's own values become 0 and 255"
        console.print(f"pictures of more than 8 bits: {what}")
    return deep


def read_image(path: Path, levels: Levels | None = None) -> Frame | None:
    """A picture, or None where it cannot be read, after saying why."""
    image = attempt(lambda own: read_rgb(own, levels), path)
    if isinstance(image, Problem):
        console.print(f"left out {image.where}: {image.what}")
        return None
    return Frame(image, str(path))


def numbered(groups: Iterable[list[Shot]], where: str, stride: int = 1) -> Iterator[list[Frame]]:
    """Every so many frames of one video or stream, with their numbers in it, from 1.

    Raises:
        UserError: it cannot be opened.
    """
    count = 0
    for group in groups:
        numbers = range(stride * (count + 1), stride * (count + len(group)) + 1, stride)
        yield [
            Frame(own.image, where, number, own.fps, own.seconds) for number, own in zip(numbers, group, strict=True)
        ]
        count += len(group)


def read_streams(path: Path, stride: int) -> Iterator[list[Frame]]:
    """A frame of each stream in a list, again and again; says which cannot be opened, and which end before others.

    None waits for one that gives no frames.


    Raises:
        UserError: there is no such list, or none of its streams can be opened.
    """
    ultralytics("data.build")  # once, before several threads ask for it
    live, read = {where: Asked(where, own) for where, own in opened_streams(path, stride)}, 0
    while live:
        frames = []
        for own in live.values():
            own.ask()
        for where, own in list(live.items()):
            try:
                found = own.answer()
            except UserError as error:
                del live[where]
                print(f"left out {error}")
                continue
            if found is None:
                del live[where]
                print(f"{where} has ended" + (f", {counted(len(live), 'streams')} left" if live else ""))
            frames += found or []
        read += len(frames)
        if frames:
            yield frames
    if not read:
        raise UserError("none of its streams can be opened", where=path, hint="check the addresses in it")


class Asked:
    """A stream that a thread asks for its next frame, so that whoever wants it need not wait for ever.

    The thread may be left alone with a stream that is frozen, and ends with the process.
    """

    def __init__(self, where: str, frames: Iterator[list[Frame]]) -> None:
        self.where, self.frames = where, frames
        self.answers: Queue[list[Frame] | Exception | None] = Queue()
        self.asked = self.late = False

    def ask(self) -> None:
        """Begin to read a frame, unless one is still being read."""
        if not self.asked:
            self.asked = True
            Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            self.answers.put(next(self.frames, None))
        except Exception as error:  # whoever wants the frame gets it
            self.answers.put(error)

    def answer(self) -> list[Frame] | None:
        """The frame that was asked for; nothing while there is none, None at the end of the stream.

        Raises:
            UserError: it cannot be opened.
        """
        try:
            found = self.answers.get(timeout=GLANCE_S if self.late else PATIENCE_S)
        except Empty:
            if not self.late:
                print(f"{self.where} gives no frame for {PATIENCE_S:g} s; the others go on")
            self.late = True
            return []
        self.asked = self.late = False
        if isinstance(found, Exception):
            raise found
        return found


def opened_streams(path: Path, stride: int) -> Iterator[tuple[str, Iterator[list[Frame]]]]:
    """Each stream of a list under a name of its own; a line is an address, a webcam, or a file beside the list.

    Raises:
        UserError: no such list, or nothing in it.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, hint="give a text file of addresses, one a line") from error
    if not lines:
        raise UserError("is empty", where=path, hint="write addresses of streams into it, one a line")
    taken: Counter[str] = Counter()
    for line in lines:
        try:
            address = address_in(path, line)
        except UserError as error:
            print(f"left out {error}")
            continue
        where = redacted(address)
        taken[where] += 1
        name = where if taken[where] == 1 else f"{where} ({taken[where]})"
        yield name, numbered(stream(address, stride, 1, live=True), name, stride)


def address_in(path: Path, line: str) -> str:
    """What a line of a list means: an address, a webcam, or a file, which may be beside the list.

    Raises:
        UserError: an address with brackets in it.
    """
    beside = path.parent / line
    given = split_address(line).netloc or kind_of(Path(line)) is not None
    return line if given or kind_of(beside) is None else str(beside)
