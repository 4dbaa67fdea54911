from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

ROWS = ("train/cat/a.png,1,2,11,12", r"train\cat\a.png,0,0,3,3", "train/dog/b.png,0,0,99,9")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("train/cat/a", "train/dog/b", "train/dog/c"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "boxes.csv").write_text("\n".join(["image,x1,y1,x2,y2", *ROWS]))
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "folder_boxes", "train": "train", "val": None, "test": None, "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_boxes_have_the_class_of_their_folder(root: Path) -> None:
    found = read_split(describe(root), "train", strict=True)
    assert [own.boxes_xyxy.tolist() for own in found.records] == [
        [[1, 2, 11, 12], [0, 0, 3, 3]],
        [[0, 0, 30, 9]],
        [],
    ]
    assert [own.labels.tolist() for own in found.records] == [[0, 0], [1], []]
    assert [own.clipped for own in found.records] == [0, 1, 0]
    assert [notice.line() for notice in found.notices] == ["1 image has no row in boxes.csv: train/dog/c.png"]


def test_another_file_and_order_of_columns(root: Path) -> None:
    (root / "mine.csv").write_text("x1,x2,y1,y2,image,by\n5,6,7,8,train/dog/c.png,me\n")
    records = read_split(describe(root, labels="mine.csv"), "train").records
    assert [own.boxes_xyxy.tolist() for own in records] == [[], [], [[5, 7, 6, 8]]]


def test_boxes_of_another_split_alone(root: Path) -> None:
    """As where only validation images were annotated."""
    (root / "val/cat").mkdir(parents=True)
    (root / "train/cat/a.png").rename(root / "val/cat/a.png")
    (root / "boxes.csv").write_text("image,x1,y1,x2,y2\nval/cat/a.png,1,2,11,12\n")
    own = describe(root, val="val", names=["cat", "dog"])
    assert [len(record.labels) for record in read_split(own, "val").records] == [1]
    found = read_split(own, "train")
    assert [len(record.labels) for record in found.records] == [0, 0]
    said = "2 images have no row in boxes.csv: train/dog/b.png, train/dog/c.png"
    assert [notice.line() for notice in found.notices] == [said]


def test_names_in_other_capitals(root: Path) -> None:
    (root / "boxes.csv").write_text("image,x1,y1,x2,y2\nTrain/cat/A.PNG,1,2,11,12\ntrain/cat/a.png,0,0,3,3\n")
    found = read_split(describe(root), "train", strict=True)
    assert [len(own.labels) for own in found.records] == [2, 0, 0]
    assert [notice.line()[:29] for notice in found.notices] == ["2 images have no row in boxes"]


def test_boxes_in_fractions_of_the_picture(root: Path) -> None:
    (root / "boxes.csv").write_text("image,x1,y1,x2,y2\ntrain/cat/a.png,0.1,0.2,0.5,0.6\ntrain/dog/b.png,0,0,1,1\n")
    with pytest.raises(UserError, match="all 2 boxes of `train` are within 0–1: fractions of the picture, not pixels"):
        read_split(describe(root), "train")


def test_umlauts_of_either_composition_and_rows_of_no_image(root: Path) -> None:
    (root / "train/dog/c.png").rename(root / "train/dog/ha\u0308ndel.png")
    (root / "test").mkdir()
    (root / "test/d.png").touch()
    rows = ["train/dog/h\u00e4ndel.png,1,2,3,4", "train/cat/gone.png,1,2,3,4", "test/d.png,1,2,3,4", ",1,2,3,4"]
    (root / "boxes.csv").write_text("\n".join(["image,x1,y1,x2,y2", *ROWS, *rows]))
    found = read_split(describe(root), "train", strict=True)
    assert [len(own.labels) for own in found.records] == [2, 1, 1]
    said = "2 images of boxes.csv do not exist: train/cat/gone.png, a row without a name"
    assert [notice.line() for notice in found.notices] == [said]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, r"boxes\.csv: is not a csv of boxes"),
        ("image,x1,y1\n", "no column x2 and y2"),
        ("image,x1,y1,x2,y2\nelse.png,0,0,1,1\n", "none of its 1 images exists, such as else.png"),
    ],
)
def test_a_csv_that_fits_nothing(root: Path, text: str | None, what: str) -> None:
    path = root / "boxes.csv"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match=what):
        read_split(describe(root), "train")


@pytest.mark.parametrize("cells", ["1,2,x,4", "1,2,3", "9,9,9,9"])
def test_damaged_rows_are_named(root: Path, cells: str) -> None:
    (root / "boxes.csv").write_text(f"image,x1,y1,x2,y2\ntrain/cat/a.png,{cells}\n")
    found = read_split(describe(root), "train")
    assert len(found.records) == 3
    assert [Path(problem.where).name for problem in found.problems] == ["boxes.csv:2"]


def test_images_by_whole_paths_through_a_link(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "pets"
    link.symlink_to(root)
    (root / "boxes.csv").write_text(f"image,x1,y1,x2,y2\n{link}/train/cat/a.png,1,2,11,12\n")
    records = read_split(describe(root, path=str(link)), "train").records
    assert [len(own.boxes_xyxy) for own in records] == [1, 0, 0]


def test_images_outside_the_folder_of_the_data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (root / "train").rename(elsewhere / "train")
    (root / "boxes.csv").write_text(f"image,x1,y1,x2,y2\n{elsewhere}/train/cat/a.png,1,2,11,12\n")
    records = read_split(describe(root, train=str(elsewhere / "train")), "train").records
    assert [len(own.boxes_xyxy) for own in records] == [1, 0, 0]
