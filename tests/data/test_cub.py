from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

LISTS = {
    "images": ("1 001.Auk/a.jpg", "2 001.Auk/b.jpg", "3 002.Jay/c.jpg"),
    "image_class_labels": ("1 1", "2 1", "3 2"),
    "train_test_split": ("1 1", "2 0", "3 1"),
    "bounding_boxes": ("1 2.0 3.0 10.0 5.0", "2 0.0 0.0 30.0 20.0", "3 1.0 1.0 4.0 4.0"),
    "classes": ("1 001.Auk", "2 002.Jay"),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, lines in LISTS.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    for line in LISTS["images"]:
        path = tmp_path / "images" / line.split()[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "cub", "train": "train", "val": None, "test": "test", "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_splits_classes_and_boxes(root: Path) -> None:
    description = describe(root)
    assert description.names == ["001.Auk", "002.Jay"]
    train, test = (read_split(description, name, strict=True).records for name in ("train", "test"))
    assert [(own.image.name, own.boxes_xyxy.tolist()) for own in train] == [
        ("a.jpg", [[2, 3, 12, 8]]),
        ("c.jpg", [[1, 1, 5, 5]]),
    ]
    assert [own.labels.tolist() for own in train] == [[0], [1]]
    assert [own.boxes_xyxy.tolist() for own in test] == [[[0, 0, 30, 20]]]


@pytest.mark.parametrize("box", ["1 2 3", "1 2 3 0 5", "1 40 3 9 5", "1 a b c d", "9 0 0 1 1"])
def test_a_bad_box_leaves_its_image(root: Path, box: str) -> None:
    (root / "bounding_boxes.txt").write_text("\n".join([box, *LISTS["bounding_boxes"][1:]]))
    found = read_split(describe(root), "train")
    assert [own.classes.tolist() for own in found.records] == [[0], [1]]  # type: ignore[union-attr]
    assert [len(own.labels) for own in found.records] == [0, 1]
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("train_test_split", None, r"train_test_split\.txt: cannot be read"),
        ("image_class_labels", "2 1\n3 2", r"image_class_labels\.txt: nothing for number 1"),
        ("classes", "2 002.Jay\n", r"classes\.txt: nothing for number 1"),
        ("classes", "1\n2 002.Jay\n", r"classes\.txt:1: `1` has a number and no name"),
    ],
)
def test_lists_that_do_not_fit(root: Path, name: str, text: str | None, what: str) -> None:
    path = root / f"{name}.txt"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=what):
        read_split(describe(root), "train")


def test_other_parts(root: Path) -> None:
    with pytest.raises(UserError, match="its parts are test and train, not `val`"):
        read_split(describe(root, test="val"), "test")
