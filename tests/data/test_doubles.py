"""Pictures in two places, and sizes that are noted for the next time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import sizes
from data.description import load_description
from data.doubles import common, in_one_split, in_two_splits
from data.formats import read_split
from data.images import readable
from data.records import Problem
from utils import files


def put(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (8, 8, 3), np.uint8)).save(path)
    path.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.2\n")
    return path


def test_a_picture_twice_in_a_list_counts_once(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    (tmp_path / "list.txt").write_text("a.png\n./a.png\na.png\n")
    (tmp_path / "d.yaml").write_text("train: list.txt\nnames: [a]\n")
    found = read_split(load_description(tmp_path / "d.yaml"), "train", strict=True)
    assert [len(record.labels) for record in found.records] == [1]
    assert [notice.line() for notice in found.notices] == [
        f"1 picture is there more than once and counts once: {tmp_path / 'a.png'}"
    ]


def test_pictures_of_two_splits_are_known_by_their_content(tmp_path: Path) -> None:
    put(tmp_path / "train/a.png", 0)
    put(tmp_path / "train/b.png", 1)
    put(tmp_path / "val/other_name.png", 1)
    (tmp_path / "d.yaml").write_text("train: train\nval: val\nnames: [a]\n")
    description = load_description(tmp_path / "d.yaml")
    lines = in_two_splits([read_split(description, name) for name in ("train", "val")])
    assert len(lines) == 1
    assert lines[0].startswith("1 picture of `train` is in `val` too")
    assert "b.png" in lines[0]
    assert common([tmp_path / "train/a.png"], [tmp_path / "gone.png", tmp_path / "val/other_name.png"]) == []


@pytest.fixture
def noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of its own, in which every size is noted."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("data.images.SLOW_S", -1.0)
    return tmp_path / "cache" / "cascade-yolo" / sizes.FILE


def test_copies_in_one_split_are_named(tmp_path: Path, noted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seed in (("a", 0), ("b", 1), ("copy", 0), ("deep/copy", 0)):
        put(tmp_path / f"train/{name}.png", seed)
    (tmp_path / "d.yaml").write_text("train: train\nval: train\nnames: [a]\n")
    split = read_split(load_description(tmp_path / "d.yaml"), "train")
    two = f"{tmp_path / 'train/copy.png'}, {tmp_path / 'train/deep/copy.png'}"
    line = f"2 pictures of `train` are copies of others in it, byte for byte: {two}"
    assert in_one_split([split]) == [line]
    monkeypatch.setattr("data.doubles.MANY", 1)
    assert [in_one_split([split]) for _ in range(2)] == [[line]] * 2


def test_sizes_are_noted_and_a_changed_file_is_read_again(tmp_path: Path, noted: Path) -> None:
    paths = [put(tmp_path / f"{number}.png", number) for number in range(70)]
    assert readable(paths, []) == [(8, 8)] * 70
    assert noted.stat().st_mode & 0o077 == 0o044
    assert noted.parent.stat().st_mode & 0o777 == 0o700
    stamps = {path: sizes.stamp(path.stat()) for path in paths}
    assert sizes.known(stamps) == dict.fromkeys(paths, (8, 8))
    whole = paths[3].read_bytes()
    paths[3].write_bytes(whole[: len(whole) // 2])
    problems: list[Problem] = []
    assert readable(paths, problems)[3] is None
    assert [problem.where for problem in problems] == [str(paths[3])]
    noted.write_bytes(b"no data base at all, but long enough to look like a file of something" * 20)
    assert sizes.known(stamps) == {}
    assert not noted.exists()
    assert readable(paths[:3], []) == [(8, 8)] * 3


def test_no_place_for_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert files.user_cache() is None
    assert sizes.known({tmp_path / "file": "x"}) == {}
    sizes.note([(tmp_path / "file", "x", (1, 1))])
