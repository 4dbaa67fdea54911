import os
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from data import image_cache
from data.description import load_description
from data.formats import read_split
from data.image_cache import keep_images, on_disk
from data.loader import DetectionSet
from data.records import make_record
from data.transforms import train_transform
from utils.config import Augment
from utils.errors import UserError
from utils.levels import Levels


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_kept_images_are_those_of_the_files(place: Literal["ram", "disk"], scenes_yaml: Path, tmp_path: Path) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    kept = keep_images(split, place, tmp_path / "images")
    plain, cached = (DetectionSet(own.records, train_transform(64, Augment()), 0) for own in (split, kept))
    for index in range(len(split.records)):
        assert all(torch.equal(a, b) for a, b in zip(plain[(1, index)][:3], cached[(1, index)][:3], strict=True))
    assert all(isinstance(record.pixels, np.memmap) == (place == "disk") for record in kept.records)
    assert len(list(tmp_path.glob("images/*.npy"))) == (len(split.records) if place == "disk" else 0)


def test_files_that_are_there_are_not_written_again(scenes_yaml: Path, tmp_path: Path) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    keep_images(split, "disk", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    keep_images(split, "disk", tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("length", [0, 60, 5000])
def test_a_file_cut_short_is_written_again(scenes_yaml: Path, tmp_path: Path, length: int) -> None:
    split = read_split(load_description(scenes_yaml), "train")
    kept = keep_images(split, "disk", tmp_path).records[3].pixels
    assert isinstance(kept, np.memmap)
    wanted, path = np.array(kept), Path(str(kept.filename))
    path.unlink()  # what is mapped stays as it is
    path.write_bytes(b"\x93NUMPY" * (length // 6))
    again = keep_images(split, "disk", tmp_path).records[3].pixels
    assert again is not None
    assert np.array_equal(again, wanted)


@pytest.mark.parametrize("place", ["ram", "disk"])
def test_no_room_is_told_with_both_numbers(place: Literal["ram", "disk"], scenes_yaml: Path, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    split = read_split(load_description(scenes_yaml), "train")
    huge = replace(split, records=[replace(record, size_hw=(10**6, 10**7)) for record in split.records])
    monkeypatch.setattr(image_cache, "record_rgb", lambda record: pytest.fail("nothing may be read"))
    with pytest.raises(UserError, match=r"the images of `train` need 2\d{5}\.\d\d GiB, free are [\d.]+ GiB"):
        keep_images(huge, place, tmp_path)


def test_another_picture_in_its_place_is_read_again(tmp_path: Path) -> None:
    """Of the same size: only its date and length distinguish the two files."""
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 30), "red").save(path)
    record = make_record(path, (30, 40))
    first = on_disk(tmp_path, 0, record).pixels
    Image.new("RGB", (40, 30), "blue").save(path)
    os.utime(path, ns=(1, 1))
    second = on_disk(tmp_path, 0, record).pixels
    assert first is not None
    assert second is not None
    assert (first[0, 0].tolist(), second[0, 0].tolist()) == ([255, 0, 0], [0, 0, 255])


def test_other_levels_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((30, 40), 1000, np.uint16)).save(path)
    record = make_record(path, (30, 40))
    values = [on_disk(tmp_path, 0, replace(record, levels=Levels(0, most))).pixels for most in (1000, 4000)]
    assert [int(own[0, 0, 0]) for own in values if own is not None] == [255, 64]
