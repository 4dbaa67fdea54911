"""What is written about pictures that a detector has looked through."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from data.sources import Frame
from models import Found
from utils.boxes import xyxy_to_cxcywh
from utils.draw import draw_detections, save_image
from utils.errors import UserError
from utils.files import first_free, json_text, make_folder, write_text

SLOWEST, USUAL = 1.0, 25.0  # frames a second: the least that players take, and what is meant where nothing is said


@dataclass
class Film:
    """A video that is written frame by frame; it gets its name when it is closed."""

    path: Path
    size_hw: tuple[int, int]
    fps: float

    def __post_init__(self) -> None:
        self.temporary = self.path.with_name(f".{self.path.name}")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self.writer = cv2.VideoWriter(str(self.temporary), code, self.fps, self.size_hw[::-1])
        if not self.writer.isOpened():
            raise UserError("cannot write a video", where=self.path, mend="free the disk, or use --nosave")

    def add(self, image: np.ndarray) -> None:
        """One more frame, RGB."""
        self.writer.write(np.ascontiguousarray(image[..., ::-1]))

    def close(self) -> None:
        """Finish the file."""
        self.writer.release()
        self.temporary.replace(self.path)


@dataclass
class Sink:
    """Writes what was found into a folder.

    Attributes:
        pictures: copies with boxes drawn on them; of videos and streams, a video.
        txt: labels/NAME.txt: class cx cy w h, shares of the image, and the score.
        json: detections.json of all of them, at the end.
        crops: crops/CLASS/NAME_1.jpg and so on, what is in each box, surest first.
    """

    folder: Path
    names: list[str]
    pictures: bool = True
    txt: bool = False
    json: bool = False
    crops: bool = False
    rows: list[dict[str, Any]] = field(default_factory=list)
    films: dict[str, Film] = field(default_factory=dict)
    stems: dict[str, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def write(self, frame: Frame, found: Found) -> None:
        """All that is asked for about one picture."""
        stem = self.stem(frame)
        name = stem if frame.number is None else f"{stem}_{frame.number:06d}"
        if self.pictures:
            drawn = draw_detections(frame.image, found, self.names)
            if frame.number is None:
                save_image(drawn, self.folder / f"{name}.jpg")
            else:
                self.film(frame).add(drawn)
        if self.txt:
            write_text(make_folder(self.folder / "labels") / f"{name}.txt", as_txt(frame, found))
        if self.json:
            self.rows.append(as_json(frame, found))
        if self.crops:
            self.crop(frame, found, name)

    def stem(self, frame: Frame) -> str:
        """What the files about a place are called: its name, with a number where another place has that name."""
        if frame.where not in self.stems:
            number = 1
            while (stem := f"{frame.stem}{number if number > 1 else ''}") in self.taken:
                number += 1
            self.stems[frame.where] = stem
            self.taken.add(stem)
        return self.stems[frame.where]

    def film(self, frame: Frame) -> Film:
        """The video that a frame goes into: one for each place, and a new one where the size changes."""
        film, size_hw = self.films.get(frame.where), (frame.image.shape[0], frame.image.shape[1])
        if film is None or film.size_hw != size_hw:
            if film:
                film.close()
            path = first_free(lambda stem: self.folder / f"{stem}.mp4", self.stem(frame))
            film = self.films[frame.where] = Film(path, size_hw, max(SLOWEST, frame.fps or USUAL))
        return film

    def crop(self, frame: Frame, found: Found, name: str) -> None:
        """A picture of each box, in a folder for each class; whole pixels that the box touches."""
        height, width = frame.image.shape[:2]
        for number, (box, label) in enumerate(zip(found.boxes_xyxy, found.names, strict=True), 1):
            x1, y1 = box[:2].floor().long().clamp(min=0).tolist()
            x2, y2 = box[2:].ceil().long().tolist()
            cut = frame.image[y1 : min(y2, height), x1 : min(x2, width)]
            if cut.size:
                folder = make_folder(self.folder / "crops" / re.sub(r"[^\w .-]", "_", label))
                save_image(cut, folder / f"{name}_{number}.jpg")

    def close(self) -> None:
        """Finish videos and the JSON file."""
        for film in self.films.values():
            film.close()
        if self.json:
            write_text(self.folder / "detections.json", json_text(self.rows, indent=1) + "\n")


def as_json(frame: Frame, found: Found) -> dict[str, Any]:
    """Detections of one picture; boxes x1 y1 x2 y2 in pixels."""
    parts = (found.boxes_xyxy.tolist(), found.scores.tolist(), found.labels.tolist(), found.names)
    boxes = [
        {"box_xyxy": box, "score": score, "class": label, "name": name}
        for box, score, label, name in zip(*parts, strict=True)
    ]
    number = {} if frame.number is None else {"frame": frame.number}
    return {"image": frame.where, **number, "size_hw": list(frame.image.shape[:2]), "boxes": boxes}


def as_txt(frame: Frame, found: Found) -> str:
    """Detections of one picture as YOLO lines: class cx cy w h, shares of the image, and the score."""
    height, width = frame.image.shape[:2]
    shares = xyxy_to_cxcywh(found.boxes_xyxy) / found.boxes_xyxy.new_tensor([width, height, width, height])
    rows = zip(found.labels.tolist(), shares.tolist(), found.scores.tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{part:.6f}' for part in box)} {score:.6f}\n" for label, box, score in rows)
