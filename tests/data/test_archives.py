import hashlib
import io
import socket
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from conftest import QuietHandler, write_yaml
from PIL import Image

from data.archives import unpack
from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError
from utils.fetch import fetch
from utils.files import make_folder


def picture(side: int = 8) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def make_tar(path: Path, *members: str, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:  # type: ignore[call-overload]
        for name in members:
            info = tarfile.TarInfo(name)
            info.size = len(picture())
            file.addfile(info, io.BytesIO(picture()))
    return path


def make_zip(path: Path, *members: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in members:
            file.writestr(name, picture())
    return path


def describe(folder: Path, *archives: str, path: str = "sets/pets") -> Description:
    changes = {"val": None, "test": None, "names": None, "format": "folder"}
    return load_description(write_yaml(folder / "d.yaml", path=path, archives=list(archives), **changes))


def test_tar_and_zip_go_into_one_folder_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tar = make_tar(tmp_path / "a.tar.gz", "train/cat/1.png", "train/cat/2.png")
    make_zip(tmp_path / "b.zip", "train/dog/1.png")
    description = describe(tmp_path, "a.tar.gz", "b.zip")
    assert len(read_split(description, "train", strict=True).records) == 3
    assert capsys.readouterr().out.count("unpacking a.tar.gz, b.zip into") == 1
    tar.unlink()
    assert describe(tmp_path, "a.tar.gz", "b.zip") == description
    assert not capsys.readouterr().out
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["pets"]


@pytest.mark.parametrize(("top", "images"), [("pets", "train"), ("other", "other/train")])
def test_a_top_folder_of_the_same_name_becomes_the_root(tmp_path: Path, top: str, images: str) -> None:
    make_tar(tmp_path / "a.tar", f"{top}/train/cat/1.png", mode="w")
    make_zip(tmp_path / "b.zip", f"{top}/train/dog/1.png")
    with pytest.raises(UserError, match="class folders") if top == "other" else pytest.MonkeyPatch.context():
        describe(tmp_path, "a.tar", "b.zip")
    assert (tmp_path / "sets" / "pets" / images / "dog" / "1.png").is_file()


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = make_zip(tmp_path / "inner.zip", "evil.png")
    with tarfile.open(make_tar(tmp_path / "a.tar", "train/cat/1.png", mode="w"), "a") as file:
        file.add(inner, "inner.zip")
    describe(tmp_path, "a.tar")
    assert (tmp_path / "sets" / "pets" / "inner.zip").is_file()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (make_tar, "../evil.png"),
        (make_tar, "train/../../evil.png"),
        (make_zip, "../evil.png"),
        (make_zip, "train/../../evil.png"),
        (make_zip, "..\\evil.png"),
        (make_zip, "/evil.png"),
    ],
)
def test_members_that_lead_out(tmp_path: Path, make: Callable[..., Path], name: str) -> None:
    make(tmp_path / "a.zip", "train/cat/1.png", name)
    with pytest.raises(UserError, match="leads out of the folder"):
        describe(tmp_path, "a.zip")
    assert not list((tmp_path / "sets").iterdir())
    assert not list(tmp_path.rglob("evil.png"))


def test_links_that_lead_out(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("train")
        info.type, info.linkname = tarfile.SYMTYPE, "../../.."
        file.addfile(info)
    with pytest.raises(UserError, match="leads out of the folder"):
        describe(tmp_path, "a.tar")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz", "zip"])
def test_archives_cut_short_leave_nothing(tmp_path: Path, mode: str) -> None:
    names = [f"train/cat/{number}.png" for number in range(50)]
    archive = tmp_path / "a.archive"
    make_zip(archive, *names) if mode == "zip" else make_tar(archive, *names, mode=mode)
    content = archive.read_bytes()
    for length in (len(content) // 2, len(content) // 2 + 100, 20):
        archive.write_bytes(content[:length])
        with pytest.raises(UserError, match="no whole tar or zip"):
            describe(tmp_path, "a.archive")
    assert not list((tmp_path / "sets").iterdir())


def test_no_such_archive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"d\.yaml: the archive .*absent\.tar does not exist"):
        describe(tmp_path, "absent.tar")


def test_nowhere_to_unpack(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", "train/cat/1.png")
    (tmp_path / "sets").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        describe(tmp_path, "a.tar")


def published(folder: Path, url: str, digest: str, *, download: bool) -> Description:
    archives = [{"file": "sets/a.tar.gz", "url": url, "sha256": digest}]
    changes = {"val": None, "test": None, "names": None, "format": "folder", "archives": archives}
    return load_description(write_yaml(folder / "d.yaml", path="sets/pets", **changes), download=download)


def test_fetched_when_asked_and_only_then(tmp_path: Path, server: str) -> None:
    digest = hashlib.sha256(make_tar(tmp_path / "web/a.tar.gz", "train/cat/1.png").read_bytes()).hexdigest()
    url = f"{server}/a.tar.gz"
    with pytest.raises(UserError, match=rf"a.tar.gz does not exist — add it, or let it be fetched from {url} with"):
        published(tmp_path, url, digest, download=False)
    assert len(read_split(published(tmp_path, url, digest, download=True), "train").records) == 1
    (tmp_path / "web/a.tar.gz").unlink()
    assert published(tmp_path, url, digest, download=True).names == ["cat"]


@pytest.mark.parametrize(("name", "what"), [("a.tar.gz", "its sha256 is"), ("b.tar.gz", "404")])
def test_what_is_not_what_was_published_is_not_kept(tmp_path: Path, server: str, name: str, what: str) -> None:
    make_tar(tmp_path / "web/a.tar.gz", "train/cat/1.png")
    with pytest.raises(UserError, match=f"cannot fetch a.tar.gz .*{what}"):
        published(tmp_path, f"{server}/{name}", "0" * 64, download=True)
    assert not list((tmp_path / "sets").iterdir())


def test_an_address_wants_a_hash(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give `url` and `sha256` together"):
        describe(tmp_path, {"file": "a.tar", "url": "http://127.0.0.1/a.tar"})  # type: ignore[arg-type]


class Halting(QuietHandler):
    """Sends half of a file and hangs up, the first time; then what is asked for."""

    halted = False

    def do_GET(self) -> None:  # noqa: N802
        content = (Path(self.directory) / self.path.strip("/")).read_bytes()
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:] if type(self).halted else content[: len(content) // 2])
        type(self).halted = True


def test_a_download_goes_on_where_it_stopped(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(3 * 2**20)
    (tmp_path / "a.bin").write_bytes(content)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Halting, directory=str(tmp_path))) as own:
        Thread(target=own.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{own.server_port}/a.bin"
        found = fetch(url, tmp_path / "b.bin", hashlib.sha256(content).hexdigest())
        own.shutdown()
    assert found.read_bytes() == content
    assert Halting.halted
    assert not (tmp_path / ".b.bin.part").exists()


def test_a_silent_server_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("utils.fetch.TIMEOUT", 0.2)
    with (
        socket.create_server(("127.0.0.1", 0)) as own,
        pytest.raises(UserError, match=r"cannot fetch b.bin .*timed out"),
    ):
        fetch(f"http://u:secret@127.0.0.1:{own.getsockname()[1]}/b.bin", tmp_path / "b.bin")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_an_archive_that_unfolds_is_not_unpacked(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CASCADE_MAX_UNPACKED", "0.01")
    path = tmp_path / f"a{suffix}"
    zeros = bytes(20 * 2**20)
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("train/cat/1.png", zeros)
    else:
        with tarfile.open(path, "w:gz") as tar:
            member = tarfile.TarInfo("train/cat/1.png")
            member.size = len(zeros)
            tar.addfile(member, io.BytesIO(zeros))
    with pytest.raises(UserError, match=r"unpacks to .* GiB, more than 0.01; read it with --max-unpacked"):
        unpack([path], tmp_path / "out", yaml=tmp_path / "d.yaml")
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_is_unpacked_into(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "train/cat/1.png")
    (tmp_path / "sets" / "pets").mkdir(parents=True)
    assert len(read_split(describe(tmp_path, "a.zip"), "train").records) == 1


def test_archives_need_a_place(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", "train/cat/1.png")
    (tmp_path / "d.yaml").write_text("format: folder\ntrain: train\narchives: [a.zip]\n")
    with pytest.raises(UserError, match="`archives` are unpacked into `path`: give it, a folder that is not there yet"):
        load_description(tmp_path / "d.yaml")


def test_an_archive_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.zip: cannot be read \(Is a directory\)"):
        unpack([make_folder(tmp_path / "a.zip")], tmp_path / "pets", yaml=tmp_path / "d.yaml")
