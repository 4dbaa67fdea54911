from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

DOG, CAT, BALL = "n02084071", "n02121808", "n02778669"


def add(root: Path, image: str, annotation: str, *objects: tuple[object, ...]) -> None:
    path = root / image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(path, "JPEG")
    if not annotation:
        return
    keys = ("xmin", "ymin", "xmax", "ymax")
    boxes = "".join(
        f"<object><name>{name}</name><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, box, strict=True))
        + "</bndbox></object>"
        for name, *box in objects
    )
    (root / annotation).parent.mkdir(parents=True, exist_ok=True)
    size = "<size><width>50</width><height>40</height><depth>3</depth></size>"
    (root / annotation).write_text(f"<annotation><filename>x</filename>{size}{boxes}</annotation>")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """ILSVRC's layout: two synsets to train, one of whose pictures has no box; val without folders."""
    for split, name, box in (("train", "a", (1, 1, 50, 40)), ("train", "b", (11, 5, 20, 14))):
        data, xml = f"Data/CLS-LOC/{split}/{DOG}/{DOG}_{name}", f"Annotations/CLS-LOC/{split}/{DOG}/{DOG}_{name}"
        add(tmp_path, f"{data}.JPEG", f"{xml}.xml", (DOG, *box))
    add(tmp_path, f"Data/CLS-LOC/train/{CAT}/{CAT}_c.JPEG", "")
    for name, synset in (("1", CAT), ("2", BALL), ("3", "")):
        boxes = [(synset, 1, 1, 10, 10), (synset, 20, 20, 30, 30)] if synset else []
        add(tmp_path, f"Data/CLS-LOC/val/v_{name}.JPEG", f"Annotations/CLS-LOC/val/v_{name}.xml", *boxes)
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "synsets", "train": "train", "val": "val", "test": None, "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_published_layout(published: Path) -> None:
    description = describe(published)
    assert description.names == [DOG, CAT]
    train = read_split(description, "train", strict=True)
    assert [record.boxes_xyxy.tolist() for record in train.records] == [[[0, 0, 50, 40]], [[10, 4, 20, 14]], []]
    assert [record.classes.tolist() for record in train.records] == [[0], [0], [1]]  # type: ignore[union-attr]
    assert [notice.line() for notice in train.notices] == [f"1 picture has no XML file, so no box: {CAT}_c.JPEG"]
    with pytest.raises(UserError, match=f"label `{BALL}` is not in `names`"):
        read_split(description, "val")


def test_classes_of_a_folder_that_the_yaml_names(published: Path) -> None:
    """The pictures are elsewhere than published; what is at the published place is not looked at."""
    (published / "Data").rename(published / "moved")
    (published / "Data" / "CLS-LOC" / "train" / BALL).mkdir(parents=True)
    found = describe(published, images="moved/CLS-LOC")
    assert found.names == [DOG, CAT]
    assert len(read_split(found, "train").records) == 3


def test_published_lists(published: Path) -> None:
    """A running number follows each name, which begins below the folder of the split, or above it."""
    names = {"train": [f"{DOG}/{DOG}_a 1", f"train/{DOG}/{DOG}_b 2", f"{CAT}/{CAT}_c 3"], "val": ["v_1 1", "v_2 2"]}
    for split, own in names.items():
        (published / f"{split}.txt").write_text("\n".join(own))
    lists = {"train": "train.txt", "val": "val.txt", "names": [DOG, CAT, BALL]}
    found = [read_split(describe(published, **lists), split, strict=True) for split in names]
    assert [[record.image.stem for record in split.records] for split in found] == [
        [f"{DOG}_a", f"{DOG}_b", f"{CAT}_c"],
        ["v_1", "v_2"],
    ]
    assert [notice.what for split in found for notice in split.notices] == ["pictures have no XML file, so no box"]
    with pytest.raises(UserError, match=r"no folder of a synset.*or give `names:`, which a list needs"):
        describe(published, train="train.txt", val=None)


def test_joined_synsets_and_pictures_without_one(published: Path) -> None:
    joined = describe(published, classes={"pet": [DOG, CAT], "thing": [BALL]}, subsets={"living": ["Pet"]})
    assert joined.names == ["pet", "thing"]
    assert joined.subsets == {"living": ("pet",)}
    val = read_split(joined, "val")
    assert [record.labels.tolist() for record in val.records] == [[0, 0], [1, 1]]
    assert [problem.what for problem in val.problems] == ["is in no folder of a synset and has no box that names one"]
    pets = read_split(describe(published, classes={"dog": [DOG]}), "train")
    assert len(pets.records) == 2


def test_boxes_of_other_names(published: Path) -> None:
    """A name that is no synset is of the folder's own; a foreign synset is left out and counted."""
    path = f"Annotations/CLS-LOC/train/{DOG}/{DOG}_b.xml"
    boxes = [("puppy", 1, 1, 9, 9), (BALL, 2, 2, 9, 9), (CAT, 3, 3, 50, 41), (DOG, 4, 4, 9, 9)]
    add(published, f"Data/CLS-LOC/train/{DOG}/{DOG}_b.JPEG", path, *boxes)
    found = read_split(describe(published), "train", strict=True)
    assert found.records[1].labels.tolist() == [0, 1, 0]
    assert found.records[1].boxes_xyxy.tolist() == [[0, 0, 9, 9], [2, 2, 50, 40], [3, 3, 9, 9]]
    said = f"1 box is of synsets that are no class, and are left out: {BALL} at {published / path}:1"
    assert found.notices[1].line() == said


def test_shares_of_the_older_layout_and_a_damaged_file(tmp_path: Path) -> None:
    for number in range(8):
        synset = (DOG, CAT)[number % 2]
        add(tmp_path, f"{synset}/{number}.JPEG", f"Annotation/{synset}/{number}.xml", (synset, 2, 2, 9, 9))
    (tmp_path / "Annotation" / CAT / "1.xml").write_text("<annotation>")
    description = describe(tmp_path, train=0.75, val=0.25)
    found = [read_split(description, name) for name in ("train", "val")]
    assert [len(split.records) for split in found] == [6, 2]
    records = {record.image.name: record for split in found for record in split.records}
    assert records["1.JPEG"].classes is not None
    assert records["1.JPEG"].classes.tolist() == [1]
    assert not len(records["1.JPEG"].labels)
    assert {len(record.labels) for name, record in records.items() if name != "1.JPEG"} == {1}
    with pytest.raises(UserError, match="no folder of a synset such as n02084071"):
        describe(tmp_path, train="nowhere", val=None)
