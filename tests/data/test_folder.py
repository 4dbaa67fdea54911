from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError


def add(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(path, path.suffix.lower().replace(".jpg", ".jpeg")[1:])
    return path


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    for name in ("train/dog/1.JPG", "train/dog/deep/er/2.png", "train/Cat/1.bmp", "test/dog/9.Jpeg"):
        add(tmp_path / name)
    (tmp_path / "train" / "dog" / "Thumbs.db").write_bytes(b"no image")
    (tmp_path / "train" / ".cache").mkdir()
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "folder", "val": None, "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_class_folders(pets: Path) -> None:
    description = describe(pets)
    assert description.names == ["Cat", "dog"]
    records = read_split(description, "train", strict=True).records
    assert [(record.image.name, record.classes.tolist()) for record in records] == [  # type: ignore[union-attr]
        ("1.bmp", [0]),
        ("1.JPG", [1]),
        ("2.png", [1]),
    ]
    assert records[0].size_hw == (6, 9)
    assert records[0].boxes_xyxy.shape == (0, 4)
    assert records[0].pixels is None


def test_names_of_the_yaml_set_the_order(pets: Path) -> None:
    records = read_split(describe(pets, names=["dog", "bird", "Cat"]), "test").records
    assert [record.classes.tolist() for record in records] == [[0]]  # type: ignore[union-attr]


def test_damaged_image(pets: Path) -> None:
    path = pets / "train" / "dog" / "1.JPG"
    path.write_bytes(b"hello")
    found = read_split(describe(pets), "train")
    assert [problem.where for problem in found.problems] == [str(path)]
    assert found.summary().startswith("train: 2 images, 2 classes, 1 left out")


def test_class_folder_outside_the_names(pets: Path) -> None:
    with pytest.raises(UserError, match="dog: label `dog` is not in `names`"):
        read_split(describe(pets, names=["Cat"]), "train")


def test_no_such_split(pets: Path) -> None:
    with pytest.raises(UserError, match="no class folders here"):
        read_split(describe(pets, val="valid"), "val")
    with pytest.raises(UserError, match="no class folders here"):
        describe(pets, train="nowhere")


def test_pictures_in_no_class_folder_are_named(pets: Path) -> None:
    beside = add(pets / "train/0001.png")
    (pets / "train/notes.txt").write_text("nothing")
    (notice,) = read_split(describe(pets), "train").notices
    assert notice.line() == f"1 picture is in no class folder and has no class: {beside}"
