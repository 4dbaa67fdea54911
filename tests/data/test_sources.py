import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data import sources
from data.description import load_description
from data.formats import read_split
from data.images import check_image, images_below
from data.records import Problem
from data.sources import Frame, find_files, open_source, read_streams
from utils.errors import UserError
from utils.levels import Levels

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


def test_a_glob_of_all_depths_has_each_picture_once(folder: Path) -> None:
    (folder / "deep" / "er").mkdir(parents=True)
    shutil.copyfile(folder / "a.png", folder / "deep" / "er" / "d.png")
    assert [path.name for path in find_files(f"{folder}/**")] == ["a.png", "b.jpg", "c.mp4", "d.png"]


def test_names_for_files_about_a_picture() -> None:
    names = ("a.b.png", "1.2.840.99.1", "x.dcm", "rtsp://camera/live.sdp", "0")
    assert [Frame(np.zeros((1, 1, 3), np.uint8), where).stem for where in names] == [
        "a.b", "1.2.840.99.1", "x", "live", "0",
    ]  # fmt: skip


def test_every_second_frame(folder: Path) -> None:
    frames = everything(folder / "c.mp4", stride=2)
    assert [frame.fps for frame in frames] == [5.0] * len(frames)
    assert [frame.number for frame in frames] == [2, 4], "their numbers in the video"
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


def test_folders_at_any_depth_links_and_pipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("photos/a.png", "photos/more/b.jfif", "photos/more/c.avif", "elsewhere/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        kind = {"jfif": "JPEG"}.get(name.rpartition(".")[2])
        Image.new("RGB", (8, 8), COLOURS[0]).save(tmp_path / name, format=kind)
    photos = tmp_path / "photos"
    (photos / "linked").symlink_to("../elsewhere")
    (photos / "linked_file.png").symlink_to("../elsewhere/d.png")
    (photos / "more" / "around").symlink_to("..")  # leads back
    (photos / "lost.png").symlink_to("nowhere.png")
    (photos / "itself.jpg").symlink_to("itself.jpg")
    (photos / "e.heic").write_bytes(b"some container")
    (photos / "f.flv").write_bytes(b"some film")
    os.mkfifo(photos / "pipe.png")
    names = ["a.png", "d.png", "linked_file.png", "b.jfif", "c.avif"]
    assert [Path(frame.where).name for frame in everything(photos)] == names
    said = capsys.readouterr().out
    assert "e.heic: pictures of this kind are not read; save it as JPEG or PNG" in said
    assert "f.flv: videos of this kind are not read; save it as MP4" in said
    for name in ("lost.png", "itself.jpg", "pipe.png"):
        assert f"left out {photos / name}: a pipe, or a link that leads to no file" in said
    assert isinstance(check_image(photos / "pipe.png"), Problem)
    with pytest.raises(UserError, match="no readable image or video"):
        everything(photos / "e.heic")


def test_brackets_are_part_of_a_folder_s_name(tmp_path: Path) -> None:
    place = tmp_path / "with [1] brackets"
    place.mkdir()
    Image.new("RGB", (8, 8)).save(place / "a.png")
    Image.new("RGB", (8, 8)).save(place / "b.png")
    assert len(everything(f"{place}/*.png")) == 2
    assert len(everything(f"{place}/[a].png")) == 1
    assert len(everything(f"{tmp_path}/with*/*.png")) == 2


def film(path: Path, frames: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10, (64, 48))
    for _ in range(frames):
        writer.write(np.full((48, 64, 3), 99, np.uint8))
    writer.release()
    return path


def test_streams_end_apart_and_dead_ones_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a b").mkdir()
    film(tmp_path / "a b" / "long.mp4", 12)
    film(tmp_path / "short.mp4", 3)
    lines = [f"{tmp_path}/a b/long.mp4", "short.mp4", "short.mp4", "none.mp4", "rtsp://u:secret@127.0.0.1:9/a"]
    (tmp_path / "all.streams").write_text("\ufeff" + "\n\n".join(lines))
    frames = everything(tmp_path / "all.streams")
    numbers = {where: [own.number for own in frames if own.where == where] for where in {own.where for own in frames}}
    short = f"{tmp_path}/short.mp4"
    assert numbers == {
        lines[0]: list(range(1, 13)),
        short: [1, 2, 3],
        f"{short} (2)": [1, 2, 3],
    }
    said = capsys.readouterr().out
    assert "left out none.mp4: cannot be opened" in said
    assert "left out rtsp://127.0.0.1:9/a: cannot be opened" in said
    assert "secret" not in said
    (tmp_path / "dead.streams").write_text("none.mp4\n")
    with pytest.raises(UserError, match="none of its streams can be opened"):
        everything(tmp_path / "dead.streams")
    (tmp_path / "empty.streams").write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        everything(tmp_path / "empty.streams")


def test_no_stream_waits_for_one_that_is_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    thawed = Event()

    def of(name: str, count: int, *, frozen: bool = False) -> Iterator[list[Frame]]:
        for number in range(1, count + 1):
            if frozen and number == 2:
                thawed.wait(60)
            yield [Frame(np.zeros((2, 2, 3), np.uint8), name, number)]

    streams = [("cold", of("cold", 3, frozen=True)), ("warm", of("warm", 5))]
    monkeypatch.setattr("data.sources.opened_streams", lambda *_: iter(streams))
    monkeypatch.setattr("data.sources.PATIENCE_S", 0.2)
    seen = []
    for group in read_streams(tmp_path / "a.streams", 1):
        seen += [(frame.where, frame.number) for frame in group]
        if ("warm", 5) in seen:
            thawed.set()
    assert sorted(seen) == [*(("cold", number) for number in (1, 2, 3)), *(("warm", number) for number in range(1, 6))]
    assert seen.index(("cold", 2)) > seen.index(("warm", 5))
    assert capsys.readouterr().out.count("cold gives no frame for 0.2 s; the others go on") == 1


def test_streams_over_http_show_every_frame_and_no_password(folder: Path, server: str) -> None:
    address = server.replace("http://", "http://admin:secret@") + "/c.mp4?token=secret"
    (folder / "one.streams").write_text(f"{address}\n")
    frames = everything(folder / "one.streams")
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert {(frame.where, frame.stem, frame.seconds) for frame in frames} == {(f"{server}/c.mp4?token=***", "c", None)}


def closed_to(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody list a folder of a name, nor look at what is in it: root may, whatever the permissions."""

    def forbidden(own: Callable[..., Any], path: str, *more: Any, **options: Any) -> Any:
        if name in (Path(path) if own.__name__ == "scandir" else Path(path).parent).parts:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return own(path, *more, **options)

    for own in (os.scandir, os.stat):
        monkeypatch.setattr(os, own.__name__, partial(forbidden, own))


def test_folders_that_cannot_be_read_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("photos/a.png", "photos/secret/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    yaml = write_yaml(tmp_path / "d.yaml", path=".", format="yolo", train="photos", val=None, test=None, names=["a"])
    (tmp_path / "photos/a.txt").write_text("0 0.5 0.5 0.5 0.5")
    closed_to("secret", monkeypatch)
    assert [frame.stem for frame in everything(tmp_path / "photos")] == ["a"]
    assert f"left out {tmp_path / 'photos/secret'}: the folder cannot be read" in capsys.readouterr().out
    (notice,) = read_split(load_description(yaml), "train").notices
    assert notice.line() == f"1 folder cannot be read: {tmp_path / 'photos/secret'}"
    with pytest.raises(UserError, match="no such file or folder"):
        everything(tmp_path / "photos/secret/b.png")


def test_dicom_without_a_suffix_is_found_by_its_mark(tmp_path: Path) -> None:
    for name in ("1.2.840.10008.5", "IM0001", "DICOMDIR", "more/IM0002"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    for name in ("README", "log.1"):
        (tmp_path / name).write_text("notes")
    os.mkfifo(tmp_path / "pipe")
    wanted = ["1.2.840.10008.5", "IM0001", "IM0002"]
    assert [path.name for path in find_files(str(tmp_path))] == wanted
    assert [path.name for path in find_files(str(tmp_path / "*"))] == wanted
    assert [path.name for path in images_below(tmp_path)] == wanted


@pytest.mark.parametrize(
    "source", ["rtsp://admin:pa[ss@cam/1", "rtsp://admin:[secret]@cam/1", "http://u:[se]cret@h/a.png"]
)
def test_brackets_in_a_password_are_one_line_without_it(
    tmp_path: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "one.streams").write_text(source)
    with pytest.raises(UserError, match="is no address: it has brackets") as fault:
        everything(source)
    assert fault.value.__suppress_context__
    with pytest.raises(UserError, match="none of its streams can be opened"):
        everything(tmp_path / "one.streams")
    said = capsys.readouterr().out + str(fault.value)
    assert "left out" in said
    assert not any(secret in said for secret in ("pa[ss", "secret", "[se]cret", "admin"))


def test_names_that_are_too_long(tmp_path: Path) -> None:
    (tmp_path / "one.streams").write_text("a" * 300)
    for source in ("a" * 300, "a" * 300 + "/*.png"):
        with pytest.raises(UserError, match="there"):
            everything(source)
    with pytest.raises(UserError, match="none of its streams can be opened"):
        everything(tmp_path / "one.streams")


@pytest.mark.parametrize("levels", [None, Levels(10, 3000, "as in training")])
def test_what_becomes_black_and_white_is_said_once(
    levels: Levels | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for name in ("b", "c"):
        Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 60).save(tmp_path / f"{name}.png")
    assert len([frame for group in open_source(str(tmp_path), levels=levels) for frame in group]) == 3
    what = levels or "the 0.1 and 99.9 % of each picture's own values become 0 and 255"
    assert capsys.readouterr().out == f"pictures of more than 8 bits: {what}\n"


def test_large_pictures_are_looked_through_in_smaller_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "ROOM", 200)
    for name in "abcde":
        Image.new("RGB", (12, 10)).save(tmp_path / f"{name}.png")
    assert [len(group) for group in open_source(str(tmp_path))] == [2, 2, 1]


def test_a_folder_called_as_a_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "2024").mkdir()
    Image.new("RGB", (12, 10)).save(tmp_path / "2024" / "a.png")
    monkeypatch.chdir(tmp_path)
    assert [frame.stem for frame in everything(Path("2024"))] == ["a"]


def test_a_video_of_a_kind_that_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "film.flv").write_bytes(b"FLV")
    with pytest.raises(UserError, match="videos of this kind are not read — save it as MP4"):
        everything(tmp_path / "film.flv")
