"""What is written about pictures that a detector, a segmenter or a classifier has looked through."""

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.sources import Frame, split_address
from models import Found
from models.classified import Classified
from models.segmented import Segmented
from utils.boxes import xyxy_to_cxcywh
from utils.draw import save_image
from utils.errors import UserError
from utils.files import csv_text, first_free, json_text, make_folder, write_text
from utils.names import MOST_BYTES, as_name

FREE = "free the disk, or use --nosave"
LEAST_FREE = 4 * 2**20  # bytes of disk that a video needs for its index, which is written at its end
FRAME = re.compile(r"(.+)_(?:\d{6}|[1-9]\d{6,})")  # how a frame of a video is called
SLOWEST, USUAL = 1.0, 25.0  # frames a second: the least that players take, and what is meant where nothing is said


@dataclass
class Names:
    """Names in one folder, in small letters but for the given ones, since some systems know no capitals.

    Attributes:
        given: by key.
        taken: all of them.
        moving: those of videos and streams, whose frames add their number: no picture may be called like one of them.
        ahead: what is before such a number in the names of pictures: no video may be called so.
    """

    given: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    moving: set[str] = field(default_factory=set)
    ahead: set[str] = field(default_factory=set)

    def clash(self, name: str, *, moves: bool) -> bool:
        """Whether a name is taken, or that of a frame."""
        return name in self.taken or (name in self.ahead if moves else before_number(name) in self.moving)

    def note(self, name: str, *, moves: bool) -> None:
        """Take a name."""
        self.taken.add(name)
        if moves:
            self.moving.add(name)
        elif ahead := before_number(name):
            self.ahead.add(ahead)


@dataclass
class Film:
    """A video that is written frame by frame; it gets its name when it is closed."""

    path: Path
    size_hw: tuple[int, int]
    fps: float

    frames = 0

    def __post_init__(self) -> None:
        self.temporary = self.path.with_name(f".{self.path.name}")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self.writer = cv2.VideoWriter(str(self.temporary), code, self.fps, self.size_hw[::-1])
        if not self.writer.isOpened():
            raise UserError("cannot write a video", where=self.path, hint=FREE)

    def add(self, image: np.ndarray, seconds: float | None = None) -> None:
        """One more frame, RGB.

        Args:
            seconds: when it was seen: frames that were missed before it are filled with it, so that the video lasts as
                long as what it shows.
        """
        self._check_room()
        missed = 0 if seconds is None else round(seconds * self.fps) - self.frames
        for _ in range(max(1, missed)):
            self.writer.write(np.ascontiguousarray(image[..., ::-1]))
            self.frames += 1

    def _check_room(self) -> None:
        """Refuse to continue where the disk is as good as full: the writer would drop frames without a word.

        Raises:
            UserError: it is.
        """
        height, width = self.size_hw
        if (free := shutil.disk_usage(self.path.parent).free) < LEAST_FREE + 3 * height * width:
            what = f"{free / 2**20:.0f} MiB are free; the video ends after {self.frames} frames"
            raise UserError(what, where=self.path, hint=FREE)

    def close(self) -> None:
        """Finish the file.

        Raises:
            UserError: it could not be written to its end.
        """
        self.writer.release()
        self.temporary.replace(self.path)
        if self.frames and not readable(self.path):
            raise UserError("the video is damaged", where=self.path, hint=FREE)


def readable(path: Path) -> bool:
    """Whether a video begins with a frame."""
    reader = cv2.VideoCapture(str(path))
    try:
        return bool(reader.read()[0])
    finally:
        reader.release()


@dataclass
class Sink:
    """Writes what was found into a folder.

    Attributes:
        pictures: copies with boxes drawn on them; of videos and streams, a video.
        txt: labels/NAME.txt: class cx cy w h, fractions of the image, and the score.
        json: detections.json or classes.json of all of them, at the end.
        csv: classes.csv of a classifier, a row for each class of a picture, at the end.
        crop: crops/CLASS/NAME_1.jpg and so on, what is in each box, surest first.
        mask: masks/NAME.png, the class number of every pixel.
    """

    folder: Path
    pictures: bool = True
    txt: bool = False
    json: bool = False
    crop: bool = False
    mask: bool = False
    csv: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "detections"
    films: dict[str, Film] = field(default_factory=dict)
    stems: Names = field(default_factory=Names)
    classes: Names = field(default_factory=Names)

    def write(self, frame: Frame, found: Found | Segmented | Classified) -> None:
        """All that is asked for about one picture; `txt` and `crops` of boxes, `masks` of a segmenter's."""
        stem = self.stem(frame)
        name = stem if frame.number is None else f"{stem}_{frame.number:06d}"
        if self.pictures:
            if frame.number is None:
                found.save(self.folder / f"{name}.jpg")
            else:
                self.film(frame).add(np.asarray(found.plot()), frame.seconds)
        if isinstance(found, Segmented):
            if self.mask:
                found.save_mask(self.folder / "masks" / f"{name}.png")
            return
        if self.json or self.csv:
            self.rows.append(found.to_dict())
        if isinstance(found, Classified):
            self.kind = "classes"
            return
        if self.txt:
            write_text(make_folder(self.folder / "labels") / f"{name}.txt", as_txt(found))
        if self.crop:
            self.cut_out(frame, found, name)

    def stem(self, frame: Frame) -> str:
        """What the files about a place are called."""
        return free_name(frame.where, name_about(frame), self.stems, moves=frame.number is not None)

    def film(self, frame: Frame) -> Film:
        """The video that a frame goes into: one for each place, and a new one where the size changes."""
        film, size_hw = self.films.get(frame.where), (frame.image.shape[0], frame.image.shape[1])
        if film is None or film.size_hw != size_hw:
            if film:
                film.close()
            path = first_free(lambda stem: self.folder / f"{stem}.mp4", self.stem(frame))
            film = self.films[frame.where] = Film(path, size_hw, max(SLOWEST, frame.fps or USUAL))
        return film

    def cut_out(self, frame: Frame, found: Found, name: str) -> None:
        """A picture of each box, in a folder for each class; whole pixels that the box touches."""
        height, width = frame.image.shape[:2]
        for number, (box, label) in enumerate(zip(found.boxes_xyxy, found.names, strict=True), 1):
            x1, y1 = box[:2].floor().long().clamp(min=0).tolist()
            x2, y2 = box[2:].ceil().long().tolist()
            cut = frame.image[y1 : min(y2, height), x1 : min(x2, width)]
            if cut.size:
                folder = make_folder(self.folder / "crops" / free_name(label, as_name(label), self.classes))
                save_image(cut, folder / f"{name}_{number}.jpg")

    def close(self) -> None:
        """Finish videos, the JSON file and the CSV file.

        Raises:
            UserError: one of them could not be written to its end.
        """
        faults = []
        for film in self.films.values():
            try:
                film.close()
            except UserError as error:
                faults.append(error)
        if self.json:
            write_text(self.folder / f"{self.kind}.json", json_text(self.rows, 1))
        if self.csv:
            write_text(self.folder / f"{self.kind}.csv", as_csv(self.rows))
        if faults:
            raise faults[0]


def free_name(key: str, text: str, names: Names, *, moves: bool = False) -> str:
    """The name that a key has among others, or gets: a text, with a number where another key has that name.

    Args:
        moves: the key is a video or stream.
    """
    if key not in names.given:
        number, name = 1, text
        while names.clash(name.lower(), moves=moves):
            number += 1
            name = f"{text}_{number}"
        names.given[key] = name
        names.note(name.lower(), moves=moves)
    return names.given[key]


def name_about(frame: Frame) -> str:
    """What files about a picture or video are called: like it, so that labels belong to it.

    Addresses, names that steer a terminal and very long ones follow the rule of utils/names.py.
    """
    stem = frame.stem
    fits = stem.isprintable() and 0 < len(os.fsencode(stem)) <= MOST_BYTES
    return stem if fits and not split_address(frame.where).netloc else as_name(stem)


def before_number(name: str) -> str | None:
    """What is before the number in a name like that of a frame; None for any other."""
    found = FRAME.fullmatch(name)
    return found[1] if found else None


def as_txt(found: Found) -> str:
    """Detections of one picture as YOLO lines: class cx cy w h, fractions of the image, and the score."""
    height, width = found.size_hw
    shares = xyxy_to_cxcywh(found.boxes_xyxy) / found.boxes_xyxy.new_tensor([width, height, width, height])
    rows = zip(found.labels.tolist(), shares.tolist(), found.scores.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{part:.6f}' for part in box)} {score:.6f}\n" for label, box, score in rows)


def as_csv(pictures: Sequence[dict[str, Any]]) -> str:
    """The classes of pictures, as Classified.to_dict gives them: a row for each class."""
    rows = [
        {"image": own["image"], "frame": own.get("frame", ""), "rank": rank, **one}
        for own in pictures
        for rank, one in enumerate(own["classes"], start=1)
    ]
    return csv_text(rows, ["image", "frame", "rank", "class", "name", "score", "logit"])
