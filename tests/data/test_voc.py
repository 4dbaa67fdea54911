import unicodedata
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from data.voc import parse_xml
from utils.errors import UserError

OBJECT = (
    "<object><name>{name}</name><difficult>{difficult}</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def xml(*objects: str) -> str:
    return "<annotation>{}</annotation>".format("\n".join(objects))


def thing(*box: object, name: str = "3", difficult: object = 0) -> str:
    return OBJECT.format(*box, name=name, difficult=difficult)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A VOC folder with one good image, `good`, 40 wide and 30 high."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / part).mkdir(parents=True)
    add(tmp_path, "good", xml(thing(1, 1, 10, 20)))
    return tmp_path


def add(folder: Path, name: str, annotation: str | None) -> Path:
    image = folder / "JPEGImages" / f"{name}.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(image)
    if annotation is not None:
        (folder / "Annotations" / f"{name}.xml").write_text(annotation)
    names = sorted(path.stem for path in (folder / "JPEGImages").iterdir())
    (folder / "ImageSets" / "Main" / "train.txt").write_text("\n".join(names) + "\n\n")
    return image


def describe(folder: Path) -> Description:
    return load_description(write_yaml(folder / "d.yaml", path=str(folder)))


def test_boxes_become_half_open_from_zero(folder: Path) -> None:
    add(folder, "more", xml(thing("5.0", 6, 40, 30, name="7", difficult="True "), thing(-3, 2, 60, 9)))
    record = read_split(describe(folder), "train", strict=True).records[1]
    assert record.boxes_xyxy.tolist() == [[4, 5, 40, 30], [0, 1, 40, 9]]
    assert record.labels.tolist() == [7, 3]
    assert record.difficult.tolist() == [True, False]
    assert record.size_hw == (30, 40)


def test_image_without_objects_is_kept(folder: Path) -> None:
    add(folder, "nothing", xml())
    assert read_split(describe(folder), "train", strict=True).records[1].boxes_xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        ("this is no xml", "not XML"),
        ("", "not XML"),
        ("<html><body>404</body></html>", "no annotation of Pascal VOC: it begins with <html>"),
        ('<annotations><image name="worse.jpg"/></annotations>', "it begins with <annotations>"),
        (xml(thing(5, 5, 5, 5)), "zero size"),
        (xml(thing(9, 5, 5, 8)), "zero size"),
        (xml(thing("nan", 5, 7, 8)), "not finite"),
        (xml(thing(100, 5, 120, 8)), "outside the image"),
        (xml(thing("a", 5, 7, 8)), "four numbers"),
        (xml("<object><name>3</name></object>"), "four numbers"),
    ],
)
def test_damaged_annotation_is_reported_and_left_out(folder: Path, annotation: str, what: str) -> None:
    add(folder, "worse", annotation)
    found = read_split(describe(folder), "train")
    assert len(found.problems) == 1
    assert what in found.problems[0].what
    assert "worse" in found.problems[0].where
    assert sum(len(record.labels) for record in found.records) == 1
    assert "1 left out" in found.summary()
    with pytest.raises(UserError, match=what):
        read_split(describe(folder), "train", strict=True)


@pytest.mark.parametrize(
    "wrap",
    [
        "\n\n<?xml version='1.0'?>{}",
        "<?xml version='1.0' encoding='latin-1'?>\n{}",
        "<annotation xmlns='http://example.org'><objects>{}</objects></annotation>",
    ],
)
def test_objects_in_unusual_wrapping(folder: Path, wrap: str) -> None:
    inside = thing(1, 1, 5, 5)
    add(folder, "worse", wrap.format(inside if "xmlns" in wrap else xml(inside)))
    assert read_split(describe(folder), "train", strict=True).records[1].boxes_xyxy.tolist() == [[0, 0, 5, 5]]


@pytest.mark.parametrize("fault", ["not an image", "truncated", "missing"])
def test_damaged_image_is_reported_and_left_out(folder: Path, fault: str) -> None:
    image = add(folder, "worse", xml(thing(1, 1, 5, 5)))
    if fault == "missing":
        image.unlink()
    else:
        image.write_bytes(b"hello" if fault == "not an image" else image.read_bytes()[:700])
    found = read_split(describe(folder), "train")
    assert [record.image.stem for record in found.records] == ["good"]
    assert str(image) in found.problems[0].where
    with pytest.raises(UserError, match=r"worse\.jpg"):
        read_split(describe(folder), "train", strict=True)


def test_label_outside_the_classes_names_the_file(folder: Path) -> None:
    add(folder, "worse", xml(thing(1, 1, 5, 5), thing(1, 1, 5, 5, name="cat")))
    with pytest.raises(UserError, match=r"worse\.xml:2: label `cat`"):
        read_split(describe(folder), "train")


def test_nothing_readable(folder: Path) -> None:
    (folder / "ImageSets" / "Main" / "train.txt").write_text("absent\n")
    with pytest.raises(UserError, match="no readable image"):
        read_split(describe(folder), "train")


def test_no_list_for_the_split(folder: Path) -> None:
    with pytest.raises(UserError, match=r"val\.txt"):
        read_split(describe(folder), "val")


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        load_description(write_yaml(tmp_path / "d.yaml", path="nowhere"))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"nmaes": ["a"]}, "unknown key `nmaes` — did you mean names"),
        ({"of_others": 1}, "unknown key `of_others` — leave it out"),
        ({"train": []}, "`train` is "),
        ({"names": None}, "`names` is missing"),
        ({"names": []}, "every class once"),
    ],
)
def test_bad_yaml(tmp_path: Path, changes: dict[str, object], what: str) -> None:
    with pytest.raises(UserError, match=what):
        load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path), **changes))


def test_yaml_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("names: [a\n  b: :")
    with pytest.raises(UserError, match=r"d\.yaml:\d+: is not valid yaml"):
        load_description(tmp_path / "d.yaml")


@pytest.mark.skipif(not (SHARED / "bccd").exists(), reason="the BCCD data set is not beside this checkout")
def test_bccd_counts() -> None:
    description = load_description(Path(__file__).parents[2] / "data" / "bccd.yaml")
    found = [read_split(description, split) for split in ("train", "val", "test")]
    assert [len(split.records) for split in found] == [205, 87, 72]
    assert sum(len(split.problems) for split in found) == 2
    assert sum(len(record.labels) for split in found for record in split.records) == 4888 - 2
    assert all("zero size" in problem.what for split in found for problem in split.problems)


@pytest.mark.skipif(not (SHARED / "voc2012_mini").exists(), reason="the VOC 2012 part is not beside this checkout")
def test_voc2012_counts(tmp_path: Path) -> None:
    root = SHARED / "voc2012_mini" / "VOCdevkit" / "VOC2012"
    names = (SHARED / "voc2012_mini" / "voc.names").read_text().split()
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(root), test=None, names=names))
    train, val = read_split(description, "train", strict=True), read_split(description, "val", strict=True)
    assert [sum(len(r.labels) for r in split.records) for split in (train, val)] == [100, 97]
    assert [sum(int(r.difficult.sum()) for r in split.records) for split in (train, val)] == [16, 8]


def test_lists_name_images_with_or_without_suffix_and_columns(folder: Path) -> None:
    for name in ("a b", "dots.in.name", "UPPER"):
        add(folder, name, xml(thing(1, 1, 10, 20)))
    (folder / "JPEGImages/UPPER.jpg").rename(folder / "JPEGImages/UPPER.JPEG")
    (folder / "mine.txt").write_text("a b\ndots.in.name  -1\nUPPER.JPEG\ngood 1\n")
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), train="mine.txt"))
    found = read_split(description, "train", strict=True)
    assert [record.image.name for record in found.records] == ["a b.jpg", "dots.in.name.jpg", "UPPER.JPEG", "good.jpg"]


def test_any_two_folders_shared_out(folder: Path) -> None:
    for number in range(9):
        add(folder, f"n{number}", xml(thing(1, 1, 10, 20)))
    (folder / "JPEGImages").rename(folder / "pictures")
    (folder / "Annotations").rename(folder / "notes")
    changes: dict[str, object] = {"images": "pictures", "labels": "notes", "train": 0.7, "val": 0.3, "test": None}
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), **changes))
    train, val = (read_split(description, name, strict=True).records for name in ("train", "val"))
    assert (len(train), len(val)) == (7, 3)
    assert len({record.image for record in (*train, *val)}) == 10


def test_class_names_with_other_capitals(folder: Path) -> None:
    add(folder, "more", xml(thing(1, 1, 10, 20, name="cat"), thing(1, 1, 10, 20, name="DOG")))
    changes: dict[str, object] = {"names": ["Cat", "dog", "3"]}
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), **changes))
    assert read_split(description, "train", strict=True).records[1].labels.tolist() == [0, 1]


def test_annotation_of_another_picture_is_left_out(folder: Path) -> None:
    size = "<size><width>{}</width><height>{}</height><depth>3</depth></size>"
    add(folder, "turned", xml(size.format(30, 40), thing(1, 1, 10, 20)))
    add(folder, "unknown", xml(size.format(0, 0), thing(1, 1, 10, 20)))
    add(folder, "right", xml(size.format("40.0", 30), thing(1, 1, 10, 20)))
    found = read_split(describe(folder), "train")
    assert [record.image.stem for record in found.records] == ["good", "right", "unknown"]
    assert [problem.what for problem in found.problems] == ["is of 40×30, its annotation of 30×40"]


def test_fields_that_may_be_missing(folder: Path) -> None:
    box = "<bndbox><ymax>20.6</ymax><xmin>1</xmin><ymin>1</ymin><xmax>10.2</xmax></bndbox>"
    nameless = f"<object>{box}</object>"
    add(folder, "more", xml(f"<object>{box}<name> 3 </name></object>", nameless))
    found = read_split(describe(folder), "train")
    assert found.records[1].difficult.tolist() == [False]
    assert found.records[1].boxes_xyxy.tolist() == [pytest.approx([0, 0, 10.2, 20.6])]
    assert [problem.what for problem in found.problems] == ["an object without name"]


def test_entities_are_not_blown_up(folder: Path) -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    add(folder, "bomb", f'<!DOCTYPE a [<!ENTITY e0 "boom">{levels}]><annotation>&e11;</annotation>')
    found = read_split(describe(folder), "train")
    assert len(found.records) == 1
    assert "not XML" in found.problems[0].what


def test_an_image_without_xml_has_no_boxes(folder: Path) -> None:
    add(folder, "bare", None)
    found = read_split(describe(folder), "train", strict=True)
    assert {record.image.stem: len(record.labels) for record in found.records} == {"bare": 0, "good": 1}
    assert [Path(place).name for notice in found.notices for place in notice.places] == ["bare.jpg"]
    assert "looked for" in found.notices[0].line()


def test_not_one_xml(folder: Path) -> None:
    (folder / "Annotations/good.xml").rename(folder / "good.xml")
    with pytest.raises(UserError, match=r"no labels for `train`, looked for .*Annotations/good\.xml"):
        read_split(describe(folder), "train")


def test_xml_beside_its_image_and_xml_of_no_image(folder: Path) -> None:
    add(folder, "other", xml(thing(1, 1, 10, 20)))
    (folder / "Annotations/other.xml").rename(folder / "JPEGImages/other.XML")
    (folder / "Annotations/lost.xml").write_text(xml(thing(1, 1, 10, 20)))
    found = read_split(describe(folder), "train", strict=True)
    assert [len(record.labels) for record in found.records] == [1, 1]
    assert [(notice.what, [Path(place).name for place in notice.places]) for notice in found.notices] == [
        ("label files belong to no image", ["lost.xml"])
    ]


def test_a_folder_as_a_split(folder: Path) -> None:
    (folder / "Annotations/good.xml").rename(folder / "JPEGImages/good.xml")
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), train="JPEGImages"))
    assert len(read_split(description, "train", strict=True).records[0].labels) == 1


@pytest.mark.parametrize("encoding", ["gb2312", "GBK", "Shift_JIS", "big5", "euc-jp", "latin-1", "UTF-8", "UTF-16"])
def test_xml_in_any_encoding(folder: Path, encoding: str) -> None:
    name = "café" if encoding == "latin-1" else "日本"
    text = f'<?xml version="1.0" encoding="{encoding}"?>\n{xml(thing(1, 1, 10, 20, name=name))}'
    (folder / "Annotations/good.xml").write_bytes(text.encode(encoding))
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), names=["other", name]))
    assert read_split(description, "train", strict=True).records[0].labels.tolist() == [1]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("declared", ["utf-16", "gb2312", "utf-8"])
def test_xml_in_utf_8_that_declares_another_encoding(mark: bytes, declared: str) -> None:
    if declared == "gb2312" and not mark:
        return  # it may be that
    text = f'<?xml version="1.0" encoding="{declared}"?>\n<annotation>日本</annotation>'
    assert parse_xml(mark + text.encode()).text == "日本"


def test_a_class_composed_differently(folder: Path) -> None:
    (folder / "Annotations/good.xml").write_text(xml(thing(1, 1, 10, 20, name=unicodedata.normalize("NFD", "Bär"))))
    description = load_description(write_yaml(folder / "d.yaml", path=str(folder), names=["b", "bär"]))
    assert read_split(description, "train", strict=True).records[0].labels.tolist() == [1]
