import hashlib
from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml

from data import sample
from data.description import load_description
from data.formats import read_split
from utils.errors import UserError


def digest(folder: Path) -> str:
    parts = (
        path.relative_to(folder).as_posix().encode() + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_same_seed_same_bytes(scenes: Path, tmp_path: Path) -> None:
    again = sample.write(tmp_path / "again", size=sample.SampleSize(8, 4, 4))
    other = sample.write(tmp_path / "other", size=sample.SampleSize(8, 4, 4), seed=1)
    assert digest(again) == digest(scenes)
    assert digest(other) != digest(scenes)


def test_digits_of_the_splits_are_disjoint() -> None:
    shares = [set(own.tolist()) for own in sample.split_digits(1797, seed=0).values()]
    assert sum(map(len, shares)) == len(set.union(*shares)) == 1797


def test_scenes_read_back_as_voc(scenes_yaml: Path) -> None:
    description = load_description(scenes_yaml)
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        found = read_split(description, split, strict=True)
        assert len(found.records) == count
        for record in found.records:
            assert record.size_hw == (256, 256)
            assert len(record.labels) >= 2
            assert (record.boxes_xyxy[:, 2:] <= 256).all()


def test_written_box_is_the_ink(scenes_yaml: Path) -> None:
    rng = np.random.default_rng(0)
    digits, labels = sample.load_digits()
    black = [np.zeros((300, 300, 3), np.uint8)]
    image, placed = sample.compose(rng, black, digits, labels)
    for item in placed:
        x1, y1, x2, y2 = item.box_xyxy
        inside = image[y1:y2, x1:x2].max(-1)
        assert inside[0].max() > 30, "ink touches the box's edge"
        assert inside[-1].max() > 30
        image[max(0, y1 - 2) : y2 + 2, max(0, x1 - 2) : x2 + 2] = 0
    assert image.max() < 60, "nothing but its halo is outside the boxes"


def test_all_three_sizes_occur(scenes_yaml: Path) -> None:
    records = read_split(load_description(scenes_yaml), "train").records
    heights = np.concatenate([record.boxes_xyxy[:, 3] - record.boxes_xyxy[:, 1] for record in records])
    for low, high in sample.SIZES:
        assert ((heights >= low - 4) & (heights <= high + 1)).any()


def test_scenes_are_made_once_and_never_replaced(tmp_path: Path) -> None:
    made = load_description(tiny_scenes(tmp_path, train=3)).root
    before = digest(made)
    assert load_description(tiny_scenes(tmp_path, train=3)).root == made
    with pytest.raises(UserError, match=r"holds other scenes: 3 \+ 1 \+ 1.*delete that folder"):
        load_description(tiny_scenes(tmp_path, train=4))
    assert digest(made) == before


def tiny_scenes(folder: Path, train: int) -> Path:
    return write_yaml(folder / "few.yaml", path="few", scenes={"train": train, "val": 1, "test": 1})
