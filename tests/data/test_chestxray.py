import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED, write_yaml
from PIL import Image

from data.description import DataYaml, Description, load_description
from data.formats import read_split
from utils.errors import UserError
from utils.recipes import read_yaml

# The headers as published: brackets hold commas that are not quoted.
TABLE = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)
BOXES = "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
NAMES = ["Effusion", "Infiltration", "Mass"]


def table_row(name: str, findings: str) -> str:
    return f"{name},{findings},0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images of 256 pixels in two folders, with two, none and one finding; a.png has boxes."""
    for path in ("images_001/images/a.png", "images_001/images/b.png", "images_002/images/c.png"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (256, 256)).save(tmp_path / path)
    rows = [("a.png", "Infiltration|Mass"), ("b.png", "No Finding"), ("c.png", "Effusion")]
    (tmp_path / "Data_Entry_2017.csv").write_text(TABLE + "".join(table_row(*row) for row in rows))
    boxes = "a.png,Infiltrate,225.5,512,100.0,64.0,,,\na.png,Mass,0,0,1024,1024,,,\n"
    (tmp_path / "BBox_List_2017.csv").write_text(BOXES + boxes)
    (tmp_path / "train_val_list.txt").write_text("b.png\na.png\n")
    (tmp_path / "test_list.txt").write_text("c.png")
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "chestxray", "train": "train_val_list.txt", "test": "test_list.txt"}
    return load_description(write_yaml(root / "d.yaml", **(keys | {"val": None, "names": None} | changes)))


def test_findings_and_boxes(root: Path) -> None:
    description = describe(root)
    assert description.names == NAMES
    healthy, ill = read_split(description, "train", strict=True).records
    assert (healthy.classes.tolist(), healthy.boxes_xyxy.shape) == ([], (0, 4))  # type: ignore[union-attr]
    assert (ill.classes.tolist(), ill.labels.tolist()) == ([1, 2], [1, 2])  # type: ignore[union-attr]
    np.testing.assert_allclose(ill.boxes_xyxy, [[56.375, 128, 81.375, 144], [0, 0, 256, 256]])
    assert [record.classes.tolist() for record in read_split(description, "test", strict=True).records] == [[0]]  # type: ignore[union-attr]


def test_without_boxes_and_in_one_folder(root: Path) -> None:
    (root / "BBox_List_2017.csv").unlink()
    (root / "Data_Entry_2017.csv").rename(root / "Data_Entry_2017_v2020.csv")
    shutil.move(root / "images_001" / "images", root / "images")
    found = read_split(describe(root), "train", strict=True)
    assert found.summary() == "train: 2 images, 3 classes, 0 left out"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("a.png,Mass,1,1,0,5", "zero size"),
        ("a.png,Mass,1,1,5", "four numbers"),
        ("a.png,Mass", "four numbers"),
        ("a.png", "four numbers"),
        ("a.png,Mass,2000,1,5,5", "outside the image"),
    ],
)
def test_damaged_box(root: Path, row: str, what: str) -> None:
    (root / "BBox_List_2017.csv").write_text(f"{BOXES}a.png,Mass,1,1,5,5\n{row}\n")
    found = read_split(describe(root), "train")
    assert [Path(problem.where).name for problem in found.problems] == ["BBox_List_2017.csv:3"]
    assert what in found.problems[0].what
    assert len(found.records[1].labels) == 1


def test_a_part_of_the_images(root: Path) -> None:
    names = [f"{number}.png" for number in range(500)]
    with (root / "Data_Entry_2017.csv").open("a") as file:
        file.writelines(table_row(name, "Mass") for name in names)
    (root / "train_val_list.txt").write_text("\n".join([*names, "a.png", "unknown.png"]))
    found = read_split(describe(root), "train")
    assert [record.image.name for record in found.records] == ["a.png"]
    assert [problem.what for problem in found.problems] == [
        "`unknown.png` is not in the table of findings",
        "500 images do not exist, the first is 0.png",
    ]
    assert found.problems[0].where.endswith("train_val_list.txt:502")


def test_finding_outside_the_names_has_its_line(root: Path) -> None:
    with pytest.raises(UserError, match=r"Data_Entry_2017\.csv:4: label `Effusion` is not in `names`"):
        read_split(describe(root, names=NAMES[1:]), "train")
    (root / "BBox_List_2017.csv").write_text(f"{BOXES}a.png,Hernia,1,1,5,5\n")
    with pytest.raises(UserError, match=r"BBox_List_2017\.csv:2: label `Hernia` is not in `names`"):
        read_split(describe(root), "train")


def test_boxes_of_other_images_only(root: Path) -> None:
    (root / "BBox_List_2017.csv").write_text(f"{BOXES}z.png,Mass,1,1,5,5\n")
    with pytest.raises(UserError, match=r"BBox_List_2017\.csv: none of its 1 images is in the table of findings"):
        read_split(describe(root), "train")


def test_tables_of_something_else(root: Path) -> None:
    path = root / "Data_Entry_2017.csv"
    path.write_text(f"{TABLE}a.png\n")
    with pytest.raises(UserError, match=r"2017\.csv:2: 1 cells instead of 12"):
        describe(root)
    path.write_text("Image,Findings\n")
    with pytest.raises(UserError, match="no columns `Image Index`"):
        describe(root)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no csv file"):
        describe(root)
    path.unlink()
    with pytest.raises(UserError, match="0 tables of findings instead of one"):
        describe(root)


def test_no_list(root: Path) -> None:
    with pytest.raises(UserError, match=r"dev_list\.txt: cannot be read"):
        read_split(describe(root, val="dev_list.txt"), "val")


@pytest.mark.skipif(not (SHARED / "nih_chestxray").exists(), reason="the NIH images are not beside this checkout")
def test_real_boxes(tmp_path: Path) -> None:
    """The published boxes with the nine boxed images that are at hand, at a sixteenth of their size."""
    source = SHARED / "nih_chestxray"
    with (source / "boxes_with_images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    (tmp_path / "images").mkdir()
    for row in rows:
        shutil.copyfile(source / row["path"], tmp_path / "images" / row["image"])
    names = sorted({row["image"] for row in rows})
    spelt = {row["label"].replace("Infiltrate", "Infiltration") for row in rows}
    (tmp_path / "Data_Entry_2017.csv").write_text(TABLE + "".join(table_row(n, "|".join(spelt)) for n in names))
    (tmp_path / "test_list.txt").write_text("\n".join(names))
    shutil.copyfile(source / "BBox_List_2017.csv", tmp_path / "BBox_List_2017.csv")
    classes = DataYaml.model_validate(read_yaml(ROOT / "data" / "chestxray.yaml")).names
    records = read_split(describe(tmp_path, names=classes), "test", strict=True).records
    found = {(r.image.name, *np.round(box, 3).tolist()) for r in records for box in r.boxes_xyxy}
    corners = [(row["image"], *(float(row[key]) / 16 for key in "xywh")) for row in rows]
    assert found == {(name, *np.float32([x, y, x + w, y + h]).round(3).tolist()) for name, x, y, w, h in corners}
    assert sum(len(record.labels) for record in records) == len(rows) == 9
