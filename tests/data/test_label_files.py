"""Labels wherever people keep them, and those that fit nothing."""

import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from data.records import Split
from utils.errors import UserError

BOX = "0 0.5 0.5 0.5 0.2\n"


def put(path: Path, text: str | None = None) -> Path:
    """An image of its own, or a text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if text is None:
        Image.new("RGB", (20, 10)).save(path, "JPEG")
    else:
        path.write_text(text)
    return path


def describe(root: Path, text: str = "train: pictures\n", **more: str) -> Description:
    lines = [text, "names: [a, b]\n", *(f"{key}: {value}\n" for key, value in more.items())]
    put(root / "d.yaml", "".join(lines))
    return load_description(root / "d.yaml")


def labelled(split: Split) -> dict[str, int]:
    return {record.image.name: len(record.labels) for record in split.records}


def said(split: Split) -> dict[str, list[str]]:
    return {notice.what: [Path(place).name for place in notice.places] for notice in split.notices}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("pictures/a.jpg", "pictures/a.txt"),
        ("pictures/a.jpg", "pictures/a.TXT"),
        ("pictures/a.jpg", "pictures/a.jpg.txt"),
        ("pictures/IMG_1.JPG", "pictures/img_1.txt"),
        ("pictures/deep/Images/a.jpg", "pictures/deep/Labels/a.txt"),
        ("pictures/deep/a.jpg", "labels/pictures/deep/a.txt"),
        ("pictures/deep/a.jpg", "labels/a.txt"),
        ("pictures/a.jpg", "labels/deep/a.txt"),
        (unicodedata.normalize("NFC", "pictures/Bär.jpg"), unicodedata.normalize("NFD", "labels/pictures/bär.txt")),
        (unicodedata.normalize("NFD", "pictures/é/a.jpg"), unicodedata.normalize("NFC", "labels/pictures/é/a.txt")),
    ],
)
def test_where_labels_may_be(tmp_path: Path, image: str, label: str) -> None:
    put(tmp_path / image)
    put(tmp_path / label, BOX)
    found = read_split(describe(tmp_path), "train", strict=True)
    assert [len(record.labels) for record in found.records] == [1]
    by_name = label in ("labels/a.txt", "labels/deep/a.txt")
    said = "label files were found by their names, in other folders than expected"
    assert [own.what for own in found.notices] == ([said] if by_name else [])


def test_what_fits_nothing_is_counted_and_named(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        put(tmp_path / f"pictures/{name}.jpg")
    put(tmp_path / "pictures/one.txt", BOX)
    put(tmp_path / "pictures/lost.txt", BOX)
    put(tmp_path / "pictures/classes.txt", "a\nb\n")
    found = read_split(describe(tmp_path), "train", strict=True)
    assert said(found) == {
        "of 3 images have no label file and count, if they can be read, as images without boxes": [
            "three.jpg",
            "two.jpg",
        ],
        "label files belong to no image": ["lost.txt"],
    }
    assert "pictures/three.txt" in found.notices[0].line(), "where was looked"
    assert "2 of 3 images have no label file" in found.summary()


def test_labels_of_another_split_are_not_lost_and_not_borrowed(tmp_path: Path) -> None:
    for split in ("train", "val"):
        put(tmp_path / f"images/{split}/1.jpg")
    put(tmp_path / "images/train/2.jpg")
    put(tmp_path / "labels/val/1.txt", BOX)
    put(tmp_path / "labels/train/2.txt", BOX)
    found = read_split(describe(tmp_path, "train: images/train\n"), "train")
    assert labelled(found) == {"1.jpg": 0, "2.jpg": 1}
    assert list(said(found)) == [
        "of 2 images have no label file and count, if they can be read, as images without boxes"
    ]


def test_a_lost_label_of_another_split_is_given_to_no_picture_of_its_name(tmp_path: Path) -> None:
    for name in ("train/cam1/001", "train/cam1/002", "train/cam1/003"):
        put(tmp_path / f"images/{name}.jpg")
    put(tmp_path / "labels/train/cam1/002.txt", BOX)
    put(tmp_path / "labels/val/cam2/001.txt", BOX)  # whose picture was deleted
    put(tmp_path / "labels/train/cam9/003.txt", BOX)
    found = read_split(describe(tmp_path, "train: images/train\n"), "train")
    assert labelled(found) == {"001.jpg": 0, "002.jpg": 1, "003.jpg": 1}
    assert said(found) == {
        "of 3 images have no label file and count, if they can be read, as images without boxes": ["001.jpg"],
        "label files were found by their names, in other folders than expected": ["003.txt"],
    }


def test_a_bare_name_that_two_images_have_is_given_to_neither(tmp_path: Path) -> None:
    for name in ("one/a", "two/a", "one/b"):
        put(tmp_path / f"pictures/{name}.jpg")
    put(tmp_path / "labels/a.txt", BOX)
    put(tmp_path / "labels/b.txt", BOX)
    assert labelled(read_split(describe(tmp_path), "train")) == {"a.jpg": 0, "b.jpg": 1}


def test_one_label_file_of_two_images_is_told(tmp_path: Path) -> None:
    put(tmp_path / "pictures/a.jpg")
    put(tmp_path / "pictures/a.png")
    put(tmp_path / "pictures/a.txt", BOX)
    found = read_split(describe(tmp_path), "train", strict=True)
    assert said(found) == {"label files belong to several images": ["a.txt"]}


def test_linked_folders_count_and_a_circle_ends(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.jpg")
    put(tmp_path / "elsewhere/a.txt", BOX)
    put(tmp_path / "pictures/b.jpg")
    put(tmp_path / "pictures/b.txt", BOX)
    (tmp_path / "pictures/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pictures/again").symlink_to(tmp_path / "pictures")
    assert labelled(read_split(describe(tmp_path), "train", strict=True)) == {"b.jpg": 1, "a.jpg": 1}


@pytest.mark.parametrize(
    ("line", "strict"),
    [
        ("pictures/deep/a.jpg", True),
        ("./pictures/deep/a.jpg", True),
        ("deep/a.jpg", True),
        ("a.jpg", True),
        ("pictures\\deep\\a.jpg", True),
        ('"pictures/deep/a.jpg"', True),
        ("PICTURES/deep/A.JPG", True),
        ("pictures/deep/a", True),
        ("data/pictures/deep/a.jpg", True),
        ("/home/somebody/set/pictures/deep/a.jpg", True),
        ("C:\\Users\\somebody\\a.jpg", True),
        ("nothing/b.jpg", False),
    ],
)
@pytest.mark.parametrize("kind", ["yolo", "voc"])
def test_lines_of_a_list(tmp_path: Path, kind: str, line: str, strict: bool) -> None:
    put(tmp_path / "pictures/deep/a.jpg")
    sides = "<xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax>"
    xml = f"<annotation><object><name>a</name><bndbox>{sides}</bndbox></object></annotation>"
    put(tmp_path / "notes/deep/a.txt", BOX)
    put(tmp_path / "notes/deep/a.xml", xml)
    put(tmp_path / "list.txt", f"{line}\n")
    description = describe(tmp_path, "train: list.txt\n", format=kind, images="pictures", labels="notes")
    if strict:
        assert labelled(read_split(description, "train", strict=True)) == {"a.jpg": 1}
        return
    with pytest.raises(UserError, match=rf"1 name of .*list\.txt is of no image: .*b\.jpg; looked in .*{tmp_path}"):
        read_split(description, "train")
