import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data.sources import Frame, open_source
from utils.errors import UserError

COLOURS = [(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 10), (10, 240, 240)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, one of them damaged, a text, and a video of five colours."""
    Image.new("RGB", (64, 48), COLOURS[0]).save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_text("no picture")
    (tmp_path / "notes.md").write_text("nothing")
    writer = cv2.VideoWriter(str(tmp_path / "c.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for colour in COLOURS:
        writer.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    writer.release()
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    """Address of the folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as own:
        threading.Thread(target=own.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{own.server_address[1]}"
        own.shutdown()


def everything(source: object, stride: int = 1) -> list[Frame]:
    return [frame for group in open_source(str(source), stride=stride) for frame in group]


def near(frame: Frame, colour: tuple[int, int, int]) -> bool:
    """Whether a frame has this colour, RGB; videos are compressed."""
    return bool(np.abs(frame.image.reshape(-1, 3).mean(0) - colour).max() < 25)


def test_folder_of_pictures_and_videos(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture, *frames = everything(folder)
    assert "left out" in capsys.readouterr().out
    assert (picture.stem, picture.number, picture.fps) == ("a", None, None)
    assert [(frame.stem, frame.number, frame.fps) for frame in frames] == [("c", n, 10.0) for n in range(1, 6)]
    assert all(near(frame, colour) for frame, colour in zip([picture, *frames], [COLOURS[0], *COLOURS], strict=True))
    assert frames[0].image.shape == (48, 64, 3)


def test_every_second_frame(folder: Path) -> None:
    frames = everything(folder / "c.mp4", stride=2)
    assert [frame.fps for frame in frames] == [5.0] * len(frames)
    assert [near(frame, colour) for frame, colour in zip(frames, (COLOURS[1], COLOURS[3]), strict=True)] == [True] * 2


def test_addresses(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    (picture,) = everything(f"{server}/a.png?size=large")
    assert near(picture, COLOURS[0])
    assert picture.where == f"{server}/a.png?size=large"
    assert picture.stem == "a"
    assert len(everything(f"{server}/c.mp4")) == 5
    with pytest.raises(UserError, match=r"cannot fetch none\.png"):
        everything(f"{server}/none.png")
    assert "fetching" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore")
def test_streams_from_a_file_of_addresses(folder: Path) -> None:
    (folder / "d.mp4").write_bytes((folder / "c.mp4").read_bytes())
    (folder / "two.streams").write_text(f"{folder / 'c.mp4'}\n{folder / 'd.mp4'}\n")
    groups = list(open_source(str(folder / "two.streams")))
    for number, group in enumerate(groups, 1):  # a stream does not wait: frames may have been passed over
        assert [frame.number for frame in group] == [number] * 2
        assert [frame.where.endswith(name) for frame, name in zip(group, ("c.mp4", "d.mp4"), strict=True)] == [True] * 2
        assert all(any(near(frame, colour) for colour in COLOURS) for frame in group)


@pytest.mark.parametrize("source", ["7", "rtsp://127.0.0.1:9/none", "http://127.0.0.1:9/stream"])
@pytest.mark.filterwarnings("ignore")
def test_streams_that_are_not_there(source: str) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        everything(source)


def test_nothing_that_can_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "d.mp4").write_bytes(b"no video at all")
    for name in ("d.mp4", "b.jpg"):
        with pytest.raises(UserError, match="no readable image or video"):
            everything(folder / name)
    (folder / "a.png").unlink()
    (folder / "c.mp4").unlink()
    with pytest.raises(UserError, match="no readable image or video"):
        everything(folder)
    assert "d.mp4" in capsys.readouterr().out
