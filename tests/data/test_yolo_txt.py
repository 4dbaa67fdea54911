from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError


def add(folder: Path, name: str, text: str | None) -> None:
    """An image of 40 × 20 in images/train, and its labels."""
    image, labels = folder / "images/train" / f"{name}.JPG", folder / "labels/train" / f"{name}.txt"
    for path in (image, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(image, "JPEG")
    if text is not None:
        labels.write_text(text)


def describe(folder: Path, **changes: object) -> Description:
    content = {
        "path": str(folder),
        "format": None,
        "train": "images/train",
        "val": None,
        "test": None,
        "names": ["a", "b"],
    }
    return load_description(write_yaml(folder / "d.yaml", **content | changes))


def test_boxes_become_pixels(tmp_path: Path) -> None:
    add(tmp_path, "one.of.two", "1 0.5 0.5 0.5 0.2\n\n0 0.25 0.5 0.5 1\n")
    record = read_split(describe(tmp_path), "train", strict=True).records[0]
    assert record.boxes_xyxy.round(4).tolist() == [[10, 8, 30, 12], [0, 0, 20, 20]]
    assert record.labels.tolist() == [1, 0]
    assert record.size_hw == (20, 40)


def test_a_polygon_becomes_the_box_around_it(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.1 0.5 0.3 0.25 0.2 0.75\n")
    assert read_split(describe(tmp_path), "train", strict=True).records[0].boxes_xyxy.round(4).tolist() == [
        [4, 5, 12, 15]
    ]


def test_an_image_without_labels_is_background(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2")
    add(tmp_path, "two", None)
    add(tmp_path, "three", "")
    assert [len(record.labels) for record in read_split(describe(tmp_path), "train", strict=True).records] == [1, 0, 0]


def test_not_one_label_says_where_they_were_looked_for(tmp_path: Path) -> None:
    add(tmp_path, "one", None)
    with pytest.raises(UserError, match=r"looked for .*labels/train/one.txt — put them there, or name their folder"):
        read_split(describe(tmp_path), "train")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0 0.5 0.5 0.5", "instead of `class cx cy w h`"),
        ("0 0.5 0.5 0.5 0.2 0.3", "instead of"),
        ("a 0.5 0.5 0.5 0.2", "instead of"),
        ("0.0 0.5 0.5 0.5 0.2", "instead of"),
        ("0 0.5 0.5 x 0.2", "instead of"),
        ("0 20 10 8 4", "in pixels"),
        ("0 0.5 0.5 0 0.2", "zero size"),
        ("0 0.5 0.5 -0.1 0.2", "zero size"),
        ("0 nan 0.5 0.1 0.2", "zero size"),
        ("0 1.5 0.5 0.1 0.2", "outside the image"),
    ],
)
def test_a_damaged_line_is_named_and_left_out(tmp_path: Path, line: str, what: str) -> None:
    add(tmp_path, "one", f"0 0.5 0.5 0.5 0.2\n{line}\n")
    found = read_split(describe(tmp_path), "train")
    assert len(found.records[0].labels) == 1
    assert [(what in problem.what, problem.where.endswith("one.txt:2")) for problem in found.problems] == [(True, True)]


@pytest.mark.parametrize("label", [2, -1])
def test_a_class_that_is_not_there(tmp_path: Path, label: int) -> None:
    add(tmp_path, "one", f"{label} 0.5 0.5 0.5 0.2")
    with pytest.raises(UserError, match=rf"one.txt:1: class {label}, but there are 2: 0 to 1"):
        read_split(describe(tmp_path), "train")


def test_boxes_that_reach_out_are_clipped_and_counted(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.0 0.5 0.5 0.2\n0 0.5 0.5 1.0001 0.2")
    found = read_split(describe(tmp_path), "train", strict=True)
    assert found.records[0].boxes_xyxy.round(3).tolist() == [[0, 8, 10, 12], [0, 8, 40, 12]]
    assert found.summary().startswith("train: 1 images, 2 boxes, 0 left out, 1 clipped to their image")


def test_lists_are_relative_to_the_root_or_with_a_dot_to_themselves(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        add(tmp_path, name, "0 0.5 0.5 0.5 0.2")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text(
        f"images/train/one.JPG\n./../images/train/two.JPG\n{tmp_path}/images/train/three.JPG\n"
    )
    records = read_split(describe(tmp_path, train="lists/train.txt"), "train", strict=True).records
    assert [len(record.labels) for record in records] == [1, 1, 1]


def test_labels_beside_the_images_or_in_a_folder_of_any_name(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2")
    (tmp_path / "images").rename(tmp_path / "pictures")
    (tmp_path / "labels").rename(tmp_path / "notes")
    changes: dict[str, object] = {"images": "pictures", "labels": "notes", "train": "pictures/train"}
    assert len(read_split(describe(tmp_path, **changes), "train", strict=True).records[0].labels) == 1
    (tmp_path / "notes/train/one.txt").rename(tmp_path / "pictures/train/one.txt")
    assert len(read_split(describe(tmp_path, train="pictures/train"), "train", strict=True).records[0].labels) == 1


def test_shares_of_all_images(tmp_path: Path) -> None:
    for number in range(10):
        add(tmp_path, f"n{number}", "0 0.5 0.5 0.5 0.2")
    description = describe(tmp_path, train=0.7, val=0.2, test=0.1)
    splits = {name: [r.image.stem for r in read_split(description, name).records] for name in ("train", "val", "test")}
    assert {name: len(found) for name, found in splits.items()} == {"train": 7, "val": 2, "test": 1}
    assert sorted(stem for found in splits.values() for stem in found) == [f"n{number}" for number in range(10)]
    assert (
        [r.image.stem for r in read_split(description, "train").records] == splits["train"] == sorted(splits["train"])
    )
    assert splits["train"] != [f"n{number}" for number in range(7)]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train": 0.8, "val": 0.3}, "add up to 1"),
        ({"train": 0.8, "val": "images/val"}, "for all splits or none"),
        ({"train": 0.8, "val": 0.2, "format": "coco"}, "shares are for voc and yolo"),
        ({"nc": 3}, "nc is 3, but there are 2 names"),
        ({"names": {0: "a", 2: "b"}}, "from 0 without a gap"),
        ({"train": "images/vain"}, "images/vain: cannot be read"),
    ],
)
def test_yaml_that_contradicts_itself(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2")
    with pytest.raises(UserError, match=what):
        read_split(describe(tmp_path, **changes), "train")


def test_names_by_index(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2")
    assert describe(tmp_path, names={1: "b", 0: "a"}, nc=2).names == ["a", "b"]
