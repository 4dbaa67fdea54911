import os
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
        ("a 0.5 0.5 0.5 0.2", "instead of"),
        ("0.5 0.5 0.5 0.5 0.2", "instead of"),
        ("nan 0.5 0.5 0.5 0.2", "instead of"),
        (f"{'1' * 5000} 0.5 0.5 0.5 0.2", "instead of"),
        ("0 0.5 0.5 0.5 0.2 0.3 0.1 0.1", "neither a box nor the points of a polygon"),
        ("0 10 10 40 10 40 30", "in pixels"),
        ("0 0.5 0.5 x 0.2", "instead of"),
        ("0 20 10 8 4", "in pixels"),
        ("0 0.5 0.5 0 0.2", "zero size"),
        ("0 0.5 0.5 -0.1 0.2", "zero size"),
        ("0 nan 0.5 0.1 0.2", "not finite"),
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
    with pytest.raises(UserError, match=rf"one.txt:1: class number {label}, but those of `names` are 0 to 1"):
        read_split(describe(tmp_path), "train")


def test_boxes_that_reach_out_are_clipped_and_counted(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.0 0.5 0.5 0.2\n0 0.5 0.5 1.0001 0.2")
    found = read_split(describe(tmp_path), "train", strict=True)
    assert found.records[0].boxes_xyxy.round(3).tolist() == [[0, 8, 10, 12], [0, 8, 40, 12]]
    assert found.summary().startswith("train: 1 image, 2 boxes, 0 left out, 1 clipped to their image")


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
    usual = describe(tmp_path, labels="notes", images=None, train="images/train")
    (tmp_path / "pictures").rename(tmp_path / "images")
    assert len(read_split(usual, "train", strict=True).records[0].labels) == 1, "labels/train beside images/train"
    (tmp_path / "images").rename(tmp_path / "pictures")
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
        ({"train": 0.8, "val": 0.2, "format": "folder"}, "fractions are for voc, yolo"),
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
    assert describe(tmp_path, names={"1": "b", "0": "a"}).names == ["a", "b"]


def test_a_score_and_a_class_with_a_point_are_read(tmp_path: Path) -> None:
    add(tmp_path, "one", "1.000e+00 0.5 0.5 0.5 0.2 0.93\n0.0 0.25 0.5 0.5 1\n")
    found = read_split(describe(tmp_path), "train", strict=True)
    assert found.records[0].boxes_xyxy.round(4).tolist() == [[10, 8, 30, 12], [0, 0, 20, 20]]
    assert found.records[0].labels.tolist() == [1, 0]
    assert [notice.line().split(": ")[0] for notice in found.notices] == [
        "1 line ends with a score, which does not count"
    ]


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("0 0.5 0.5 0.5 0.2 0.91 3", "line is taken for a box with a score and a track's number"),
        ("0 0.5 0.5 0.5 0.2 17", "line ends with a number that is no score and does not count"),
        ("0 0.5 0.5 0.5 0.2 -0.78", "line ends with a number that is no score and does not count"),
    ],
)
def test_numbers_of_tracks_and_angles_are_named(tmp_path: Path, line: str, what: str) -> None:
    add(tmp_path, "one", line)
    found = read_split(describe(tmp_path), "train", strict=True)
    assert found.records[0].boxes_xyxy.round(4).tolist() == [[10, 8, 30, 12]]
    assert [notice.line().split(": ")[0] for notice in found.notices] == [f"1 {what}"]


def test_equal_lines_count_once(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2\n1 0.5 0.5 0.5 0.2\n0 0.500 0.5 0.5 0.2\n")
    found = read_split(describe(tmp_path), "train", strict=True)
    assert found.records[0].labels.tolist() == [0, 1]
    assert [notice.what for notice in found.notices] == ["pictures have equal boxes of one class, which count once"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_text_as_windows_writes_it(tmp_path: Path, encoding: str) -> None:
    add(tmp_path, "one", None)
    (tmp_path / "labels/train/one.txt").write_bytes("0 0.5 0.5 0.5 0.2\n".encode(encoding))
    (tmp_path / "list.txt").write_bytes("images/train/one.JPG\r\n".encode(encoding))
    found = read_split(describe(tmp_path, train="list.txt"), "train", strict=True)
    assert [len(record.labels) for record in found.records] == [1]
    assert not found.notices


def test_labels_that_are_no_text_are_named_and_their_image_is_left_out(tmp_path: Path) -> None:
    add(tmp_path, "good", "0 0.5 0.5 0.5 0.2")
    add(tmp_path, "worse", None)
    (tmp_path / "labels/train/worse.txt").write_bytes(b"\x81\xfe\xff")
    found = read_split(describe(tmp_path), "train")
    assert [record.image.stem for record in found.records] == ["good"]
    assert [Path(problem.where).name for problem in found.problems] == ["worse.txt"]


def test_a_pipe_among_images_and_among_labels(tmp_path: Path) -> None:
    add(tmp_path, "good", "0 0.5 0.5 0.5 0.2")
    add(tmp_path, "other", None)
    os.mkfifo(tmp_path / "images/train/pipe.jpg")
    os.mkfifo(tmp_path / "labels/train/other.txt")
    found = read_split(describe(tmp_path), "train")
    assert [record.image.stem for record in found.records] == ["good"]
    assert {Path(problem.where).name for problem in found.problems} == {"pipe.jpg", "other.txt"}


def test_a_data_yaml_as_roboflow_ships_it(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2")
    (tmp_path / "data.yaml").write_text("train: ../images/train\nnc: 1\nnames: ['cat']\nroboflow:\n  version: 1\n")
    assert len(read_split(load_description(tmp_path / "data.yaml"), "train", strict=True).records[0].labels) == 1


@pytest.mark.parametrize("names", ["[yes, no]", "[0, 1]", "{0: on, 1: b}", "[1.5, a]", "[~, a]", "[2001-01-01, a]"])
def test_names_that_yaml_takes_for_something_else(tmp_path: Path, names: str) -> None:
    (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
    with pytest.raises(UserError, match="put names in quotes"):
        load_description(tmp_path / "data.yaml")


def test_labels_of_one_image_are_short(tmp_path: Path) -> None:
    add(tmp_path, "one", "0 0.5 0.5 0.5 0.2\n")
    add(tmp_path, "two", "0 0.5 0.5 0.5 0.2\n" + " " * 2**22)
    found = read_split(describe(tmp_path), "train")
    assert [len(record.labels) for record in found.records] == [1]
    assert [problem.what for problem in found.problems] == ["cannot be read (more than 4 MiB)"]


def test_poses_are_told_from_polygons_once(tmp_path: Path) -> None:
    square, crossed = "0 0.5 0.5 0.4 0.4 0.4 0.4 0.6 0.6", "0 0.5 0.5 0.4 0.4 0.4 0.4 0.6 0.6 0.4 0.6 0.6 0.4"
    found = {}
    for name, line in (("one", crossed), ("two", square)):
        add(tmp_path, name, line)
        for kind in ("images", "labels"):
            (tmp_path / kind / name).mkdir(parents=True)
            path = next((tmp_path / kind / "train").glob(f"{name}.*"))
            path.rename(tmp_path / kind / name / path.name)
    description = describe(tmp_path, train=["images/one", "images/two"], val="images/two", test="images/two")
    for split in ("train", "val"):
        own = read_split(description, split)
        found[split] = [record.boxes_xyxy.round(3).tolist() for record in own.records]
        description = own.description
    assert found["train"] == [[[12, 6, 28, 14]]] * 2
    assert found["val"] == found["train"][1:]


@pytest.mark.parametrize("content", ['{"images": []}', "\n [1, 2]"])
def test_json_is_no_list(tmp_path: Path, content: str) -> None:
    """One line that does not repeat the file, however long it is."""
    (tmp_path / "a.json").write_text(content + " " * 100_000)
    yaml = write_yaml(tmp_path / "d.yaml", path=".", train="a.json", val=None, test=None, format="yolo", names=["cat"])
    with pytest.raises(UserError, match=r"a\.json: `train:` is JSON, not a list of pictures — write `format: c") as e:
        read_split(load_description(yaml), "train")
    assert len(str(e.value)) < 400
