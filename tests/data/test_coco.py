import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SHARED, write_yaml
from PIL import Image

from data.chestxray import csv_rows
from data.coco_json import read_instances
from data.description import Description, load_description
from data.formats import read_split
from data.loader import DetectionSet
from data.transforms import eval_transform
from utils.errors import UserError

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]


def add(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def image(number: int, **more: object) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012}.jpg", "width": 40, "height": 30} | more


def annotation(number: int, *bbox: object, **more: object) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 18, "bbox": list(bbox), "iscrowd": 0} | more


def write(root: Path, images: list[Any], annotations: list[Any], **more: object) -> Path:
    path = root / "annotations" / "instances_train2017.json"
    path.parent.mkdir(exist_ok=True)
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES} | more
    path.write_text(json.dumps(content))
    return path


def describe(root: Path, **changes: object) -> Description:
    train = "annotations/instances_train2017.json"
    keys = {"path": str(root), "format": "coco", "train": train, "val": None, "test": None, "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A COCO folder with the images 1 and 2, both 40 wide and 30 high."""
    for number in (1, 2):
        add(tmp_path / "train2017" / f"{number:012}.jpg")
    return tmp_path


def test_boxes_crowds_and_categories(root: Path) -> None:
    annotations = [
        annotation(7, 1.5, 2, 10, 20, area=150),
        annotation(8, 30, 20, 99, 99, category_id=3, iscrowd=1),
    ]
    write(root, [image(2), image(1)], annotations)
    description = describe(root)
    assert description.names == ["car", "dog"]
    empty, record = read_split(description, "train", strict=True).records
    assert empty.boxes_xyxy.shape == (0, 4)
    assert record.boxes_xyxy.tolist() == [[1.5, 2, 11.5, 22], [30, 20, 40, 30]]
    assert record.labels.tolist() == [1, 0]
    assert record.crowd is not None
    assert record.areas is not None
    assert (record.crowd.tolist(), record.difficult.tolist()) == ([False, True], [False, False])
    assert record.areas.tolist() == pytest.approx([150, 100])
    item = DetectionSet([record], eval_transform(32), 0)[(0, 0)]
    assert item[2].tolist() == [1], "a detector learns no crowds"
    assert record.classes is None


def test_boxes_follow_an_image_of_another_size(root: Path) -> None:
    write(root, [image(1, width=400, height=600)], [annotation(7, 100, 60, 200, 540)])
    record = read_split(describe(root), "train", strict=True).records[0]
    np.testing.assert_allclose(record.boxes_xyxy, [[10, 3, 30, 30]])


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "images", "annotations"])
def test_where_images_may_lie(tmp_path: Path, place: str) -> None:
    add(tmp_path / place / f"{1:012}.jpg")
    write(tmp_path, [image(1)], [])
    assert len(read_split(describe(tmp_path), "train", strict=True).records) == 1


def test_the_folder_of_the_yaml_goes_first(root: Path) -> None:
    add(root / "elsewhere" / "deep" / "x.jpg")
    write(root, [image(1, file_name="deep/x.jpg")], [])
    record = read_split(describe(root, images="elsewhere"), "train", strict=True).records[0]
    assert record.image == root / "elsewhere" / "deep" / "x.jpg"


def test_whose_image_it_is(root: Path) -> None:
    write(root, [image(1, patient=7), image(2, patient="a"), image(3)], [])
    add(root / "train2017" / f"{3:012}.jpg")
    add(root / "train2017" / f"{2:012}.jpg")
    records = read_split(describe(root, group="patient"), "train").records
    assert [record.group for record in records] == ["7", "a", None]
    assert {record.group for record in read_split(describe(root), "train").records} == {None}
    with pytest.raises(UserError, match="group"):
        load_description(write_yaml(root / "voc.yaml", path=str(root), group="patient"))


def test_a_part_of_a_json(root: Path) -> None:
    write(root, [image(1, split="train"), image(2, split="test")], [annotation(7, 1, 1, 5, 5, image_id=2)])
    description = describe(root, **{name: f"annotations/instances_train2017.json#{name}" for name in ("train", "test")})
    for name, stem, boxes in (("train", 1, 0), ("test", 2, 1)):
        records = read_split(description, name, strict=True).records
        assert [(int(record.image.stem), len(record.labels)) for record in records] == [(stem, boxes)]
    with pytest.raises(UserError, match="no readable image"):
        read_split(describe(root, val="annotations/instances_train2017.json#dev"), "val")


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        (annotation(7, 1, 1, 0, 5), "zero size"),
        (annotation(7, 1, 1, -4, 5), "zero size"),
        (annotation(7, 1, float("nan"), 4, 5), "not finite"),
        (annotation(7, 50, 1, 4, 5), "outside the image"),
        (annotation(7, 1, 1, 4), "four numbers"),
        (annotation(7, 1, 1, 4, "x"), "four numbers"),
        (annotation(7) | {"bbox": None}, "four numbers"),
        (annotation(7, 1, 1, 4, 5, category_id=99), "no category of id 99"),
        ({"id": 7, "image_id": 1, "bbox": [1, 1, 5, 5]}, "no category of id None"),
        (annotation(7, 1, 1, 4, 5, image_id=99), "image_id 99 is not among the images"),
        (annotation(7, 1, 1, 4, 5, image_id=[1]), "image_id None is not among the images"),
        (annotation(7, 1, 1, 4, 10**400), "four numbers"),
        (annotation(7, 1, 1, 4, float("inf")), "not finite"),
        ({"id": 7, "bbox": [1, 1, 5, 5]}, "image_id None is not among the images"),
    ],
)
def test_damaged_annotation_is_reported_and_left_out(root: Path, entry: dict[str, Any], what: str) -> None:
    path = write(root, [image(1)], [annotation(6, 1, 1, 5, 5), entry])
    found = read_split(describe(root), "train")
    assert [problem.where for problem in found.problems] == [f"{path}, annotation 7"]
    assert what in found.problems[0].what
    assert found.summary().startswith("train: 1 image, 1 box, 1 left out")


def test_a_turned_image(root: Path) -> None:
    write(root, [image(1, width=30, height=40)], [annotation(7, 1, 1, 5, 5)])
    assert "was turned" in read_split(describe(root), "train").problems[0].what


def test_images_of_another_size(root: Path) -> None:
    write(root, [image(1, width=80, height=60), image(2)], [annotation(7, 8, 6, 16, 12)])
    found = read_split(describe(root), "train")
    assert found.records[0].boxes_xyxy.tolist() == [[4, 3, 12, 9]]
    (said,) = [line for line in found.summary().splitlines() if "size" in line]
    assert said.strip() == "1 image is not of the size that the json states: 000000000001.jpg; their boxes are scaled"


@pytest.mark.parametrize("section", ["images", "categories"])
def test_an_id_of_two(root: Path, section: str) -> None:
    path = write(root, [image(1)], [annotation(7, 1, 1, 5, 5)])
    content = json.loads(path.read_text())
    first = content[section][0]
    content[section].append({key: "other" if isinstance(value, str) else value for key, value in first.items()})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"`{section}` has the id \d+ twice, for .* and for other — give each an id"):
        describe(root)


def test_images_that_are_not_there(root: Path) -> None:
    write(root, [image(1), *(image(number) for number in range(10, 60))], [])
    found = read_split(describe(root), "train")
    assert [problem.what for problem in found.problems] == ["50 images do not exist, the first is 000000000010.jpg"]
    assert found.problems[0].where == str(root / "train2017")


def test_category_outside_the_names(root: Path) -> None:
    write(root, [image(1)], [annotation(7, 1, 1, 5, 5)])
    with pytest.raises(UserError, match=r"json, category 18: label `dog` is not in `names`"):
        read_split(describe(root, names=["car"]), "train")
    assert read_split(describe(root, names=["dog"]), "train").records[0].labels.tolist() == [0]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [],\n "annotations"', r"json:2: not json"),
        ("[]", "no list `images`"),
        ('{"images": [{"id": 1}]}', "`images` entry 0 is without id and file_name"),
        ('{"images": [], "categories": {}}', "no list `categories`"),
    ],
)
def test_json_of_something_else(root: Path, text: str, what: str) -> None:
    write(root, [], []).write_text(text)
    with pytest.raises(UserError, match=what):
        describe(root)


def test_no_json(root: Path) -> None:
    with pytest.raises(UserError, match=r"instances_train2017\.json: there is no such file"):
        describe(root)
    with pytest.raises(UserError, match="there is no such file"):
        read_instances(Path("a" * 300 + ".json"))


@pytest.mark.skipif(not (SHARED / "covid_cxr").exists(), reason="the chest X-rays are not beside this checkout")
def test_real_lungs() -> None:
    description = load_description(ROOT / "data" / "covid_cxr.yaml")
    assert description.names == ["Right Lung", "Left Lung"]
    train, test = (read_split(description, split) for split in ("train", "test"))
    assert [len(split.records) for split in (train, test)] == [362, 135]
    assert [problem.what for split in (train, test) for problem in split.problems] == ["no category of id None"]
    labels = np.concatenate([record.labels for record in train.records + test.records])
    assert np.bincount(labels).tolist() == [496, 497]
    first = next(record for record in test.records if "2020_01_28_23_51_6665" in record.image.name)
    scale = np.array([254 / 882, 256 / 888] * 2)
    np.testing.assert_allclose(first.boxes_xyxy[0], np.array([42, 72, 287, 576]) * scale, rtol=1e-6)
    assert first.size_hw == (256, 254)


def test_texts_where_numbers_belong(root: Path) -> None:
    texts = annotation(7, "1", "2", "3.5", "4", image_id="1", category_id="18", area="x", iscrowd="1")
    write(root, [image(1, width="40", height="30.0")], [texts, annotation(8, 1, 2, 3, 4, image_id=1.0, area=10**400)])
    record = read_split(describe(root), "train", strict=True).records[0]
    assert record.boxes_xyxy.tolist() == [[1, 2, 4.5, 6], [1, 2, 4, 6]]
    assert (record.areas.tolist(), record.crowd.tolist()) == ([14, 12], [True, False])  # type: ignore[union-attr]


def test_ids_of_categories_as_text_in_either_place(root: Path) -> None:
    for own, named in (("text", "number"), ("number", "text")):
        kinds = {"text": str, "number": int}
        categories = [
            {"id": kinds[own](1), "name": "animal"},
            {"id": kinds[own](2), "name": "dog", "supercategory": "animal"},
        ]
        boxes = [annotation(6 + label, label, 1, 5, 5, category_id=kinds[named](label)) for label in (1, 2)]
        write(root, [image(1)], boxes, categories=categories)
        found = read_split(describe(root), "train", strict=True)
        assert found.description.names == ["animal", "dog"]
        assert found.records[0].labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("width", "shown"), [(-1, "-1×30"), ("wide", "wide×30"), (10**400, "1" + "0" * 19 + "×30"), ([], None)]
)
def test_sides_that_no_image_has(root: Path, width: object, shown: str | None) -> None:
    write(root, [image(1, width=width)], [annotation(7, 1, 1, 5, 5)])
    assert [own.what for own in read_split(describe(root), "train").problems] == (
        [] if shown is None else [f"its image is said to be of {shown}"]
    )


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": [' + "1" * 5000 + "]}"])
def test_json_that_no_parser_takes(root: Path, text: str) -> None:
    write(root, [], []).write_text(text)
    with pytest.raises(UserError, match="not json"):
        describe(root)


ROOTS = {
    "of the same name": ([{"id": 9, "name": "dog"}], ["car", "dog"]),
    "of all others": ([{"id": 0, "name": "things"}], ["car", "dog"]),
    "none": ([{"id": 99, "name": "cat"}], ["car", "dog", "cat"]),
}


@pytest.mark.parametrize("case", ROOTS)
def test_a_root_that_no_box_uses_is_no_class(root: Path, case: str) -> None:
    more, names = ROOTS[case]
    categories = [*({**own, "supercategory": "things"} for own in CATEGORIES), *more]
    boxes = [annotation(7, 1, 1, 5, 5), annotation(8, 9, 9, 5, 5, category_id=3)]
    write(root, [image(1)], boxes, categories=categories)
    description = describe(root)
    assert description.names == names
    found = read_split(description, "train", strict=True)
    assert found.records[0].labels.tolist() == [1, 0]
    said = [place for own in found.notices for place in own.places if "left out of the classes" in own.what]
    assert said == ([] if case == "none" else [f"{more[0]['name']} ({more[0]['id']})"])


def test_one_picture_under_two_ids_has_the_boxes_of_both(root: Path) -> None:
    again = image(5, file_name=image(1)["file_name"])
    write(root, [image(1), again], [annotation(7, 1, 1, 5, 5), annotation(8, 9, 9, 5, 5, image_id=5),
                                    annotation(9, 1, 1, 5, 5, image_id=5)])  # fmt: skip
    found = read_split(describe(root), "train", strict=True)
    assert [len(record.labels) for record in found.records] == [2]
    assert any("count once" in notice.what for notice in found.notices)


def test_images_without_annotations_are_counted(root: Path) -> None:
    write(root, [image(1), image(2)], [annotation(7, 1, 1, 5, 5)])
    lines = [notice.line() for notice in read_split(describe(root), "train", strict=True).notices]
    assert lines == ["1 of 2 images has no annotation: 000000000002.jpg; such images count as images without boxes"]


def test_names_with_other_slashes_and_folders(root: Path) -> None:
    names = ["C:\\data\\000000000001.jpg", "/home/me/set/000000000002.JPG"]
    write(root, [image(number, file_name=name) for number, name in enumerate(names, 1)], [])
    found = read_split(describe(root), "train", strict=True)
    assert [record.image.parent.name for record in found.records] == ["train2017"] * 2
    assert [notice.places for notice in found.notices if "elsewhere" in notice.what] == [names]


def test_boxes_of_a_missing_picture_go_to_no_other_of_its_name(tmp_path: Path) -> None:
    add(tmp_path / "cam1" / "1.jpg")
    entries = [image(1, file_name="cam1/1.jpg"), image(2, file_name="cam2/1.jpg")]
    write(tmp_path, entries, [annotation(7, 1, 1, 5, 5), annotation(8, 9, 9, 5, 5, image_id=2)])
    found = read_split(describe(tmp_path), "train")
    assert [record.boxes_xyxy.tolist() for record in found.records] == [[[1, 1, 6, 6]]]
    assert [problem.where for problem in found.problems] == [str(tmp_path / "annotations" / "cam2" / "1.jpg")]


@pytest.mark.parametrize("names", [("cam1/1.jpg", "cam2/1.jpg"), ("1.png", "1.jpg"), ("val2017/1.jpg",)])
def test_a_picture_that_several_may_mean_is_none_of_theirs(tmp_path: Path, names: tuple[str, ...]) -> None:
    add(tmp_path / "train" / "1.jpeg")
    add(tmp_path / "train" / "other.jpg")
    entries = [image(number, file_name=name) for number, name in enumerate(("train/other.jpg", *names), 1)]
    write(tmp_path, entries, [])
    found = read_split(describe(tmp_path), "train")
    assert [record.image.name for record in found.records] == ["other.jpg"]
    assert len(found.problems) == len(names)


def test_annotations_may_name_a_file(root: Path) -> None:
    write(root, [image(1), image(2, image_id=2)], [annotation(7, 1, 1, 5, 5, file_name=f"{1:012}.jpg")])
    assert sum(len(record.labels) for record in read_split(describe(root), "train", strict=True).records) == 1


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_instances(tmp_path / "a.json")
    with pytest.raises(UserError, match="is no csv file"):
        list(csv_rows(tmp_path / "a.json"))


def test_a_folder_with_its_json_as_roboflow_ships_it(tmp_path: Path) -> None:
    add(tmp_path / "train" / "a.jpg")
    write(tmp_path, [image(1, file_name="a.jpg")], []).rename(tmp_path / "train" / "_annotations.coco.json")
    assert len(read_split(describe(tmp_path, train="../train"), "train", strict=True).records) == 1


@pytest.mark.parametrize("named", [{"labels": "annotations/all.json"}, {"images": "../train2017"}])
def test_fractions_of_one_json(root: Path, named: dict[str, str]) -> None:
    for number in range(3, 11):
        add(root / "train2017" / f"{number:012}.jpg")
    own = [annotation(number, 1, 2, 10, 20, image_id=number) for number in range(1, 11)]
    entries = [image(number, patient=f"p{number // 2}") for number in range(1, 11)]
    write(root, entries, own).rename(root / "annotations" / "all.json")
    shares = {"train": 0.6, "val": 0.2, "test": 0.2, "group": "patient"}
    path = root if "labels" in named else root / "annotations"  # the only json of its folder
    description = describe(root, path=str(path), **shares, **named)
    splits = [read_split(description, split, strict=True).records for split in ("train", "val", "test")]
    assert sum(map(len, splits)) == 10
    groups = [{record.group for record in records} for records in splits]
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert all(len(record.boxes_xyxy) == 1 for records in splits for record in records)


def test_labels_of_a_json_belong_to_fractions(root: Path) -> None:
    with pytest.raises(UserError, match="`labels` of a json is for splits that are fractions"):
        describe(root, labels="annotations/all.json")
    with pytest.raises(UserError, match="0 json files instead of one"):
        describe(root, train=1.0)
