from pathlib import Path

import cv2
import numpy as np
import pytest

from data.sources import Frame
from deployment import detections
from deployment.detections import Film, Names, free_name, name_about
from utils.errors import UserError


def frames(path: Path) -> int:
    reader, count = cv2.VideoCapture(str(path)), 0
    while reader.read()[0]:
        count += 1
    return count


def test_a_film_lasts_as_long_as_what_it_shows(tmp_path: Path) -> None:
    film = Film(tmp_path / "a.mp4", (48, 64), 10.0)
    for seconds in (0.0, 0.1, 0.9, 1.9):  # frames were missed in between
        film.add(np.zeros((48, 64, 3), np.uint8), seconds)
    film.close()
    assert frames(tmp_path / "a.mp4") == 19
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FPS) == 10


def test_a_film_on_a_full_disk_can_be_read_up_to_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film = Film(tmp_path / "a.mp4", (48, 64), 10.0)
    for _ in range(5):
        film.add(np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setattr(detections, "LEAST_FREE", 2**60)  # more than any disk has
    with pytest.raises(UserError, match="MiB are free; the video ends after 5 frames — free the disk"):
        film.add(np.zeros((48, 64, 3), np.uint8))
    film.close()
    assert frames(tmp_path / "a.mp4") == 5


@pytest.mark.parametrize("first", ["picture", "video"])
@pytest.mark.parametrize("number", [1, 1_000_002])
def test_no_picture_is_called_like_a_frame(first: str, number: int) -> None:
    names, own = Names(), f"Clip_{number:06d}"
    said = {"picture": own, "video": "clip"}
    order = sorted(said, key=lambda kind: kind != first)
    given = {kind: free_name(kind, said[kind], names, moves=kind == "video") for kind in order}
    assert f"{given['video']}_{number:06d}".lower() != given["picture"].lower()
    assert given[first] == said[first]
    assert free_name("other", own, names) != given["picture"]
    assert free_name("picture", own, names) == given["picture"]


@pytest.mark.parametrize(
    ("where", "name"),
    [
        ("photos/IMG (0).jpg", "IMG (0)"),  # as a camera or a browser calls it: labels belong to the file of this name
        ("photos/été, 2.png", "été, 2"),
        ("rtsp://10.0.0.1/a b", "a_b"),
        ("photos/a\x1b[2J.png", "a__2J"),
        (f"photos/{'é' * 120}.png", "é" * 100),
    ],
)
def test_files_about_a_picture_are_called_like_it(where: str, name: str) -> None:
    assert name_about(Frame(np.zeros((1, 1, 3), np.uint8), where)) == name
