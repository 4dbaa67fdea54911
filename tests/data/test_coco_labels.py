import json
from pathlib import Path

import pytest
from conftest import ROOT, SHARED, write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

FINDINGS = ["COVID-19", "todo", "SARS", "COVID-19, ARDS", None]


def describe(root: Path, **changes: object) -> Description:
    for number in range(len(FINDINGS)):
        Image.new("RGB", (40, 30)).save(root / f"{number}.png")
    entries = [
        {"id": number, "file_name": f"{number}.png", "patient": number // 2, "finding": finding, "split": "train"}
        for number, finding in enumerate(FINDINGS)
    ]
    content = {"images": [*entries, entries[0] | {"id": 9, "split": "test"}], "categories": [], "annotations": []}
    (root / "all.json").write_text(json.dumps(content))
    keys = {
        "path": str(root),
        "format": "coco_labels",
        "train": "all.json#train",
        "val": None,
        "test": None,
        "names": None,
        "group": "patient",
        "label": "finding",
        "classes": {"covid": ["COVID-19", "COVID-19, ARDS"], "other": ["SARS"]},
    }
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_classes_groups_and_what_is_left_out(tmp_path: Path) -> None:
    description = describe(tmp_path)
    split = read_split(description, "train")
    assert description.names == ["covid", "other"]
    assert description.single_label
    assert not description.boxed
    assert [record.image.name for record in split.records] == ["0.png", "2.png", "3.png"]
    assert [list(record.classes) for record in split.records if record.classes is not None] == [[0], [1], [0]]
    assert [record.group for record in split.records] == ["0", "1", "1"]
    assert not split.problems


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"classes": {"flu": ["Influenza"]}}, "no image has `Influenza` under `finding`"),
        ({"label": None}, "which needs both"),
        ({"format": "coco"}, "`label` is for the format coco_labels"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_split(describe(tmp_path, **changes), "train")


@pytest.mark.skipif(not (SHARED / "covid_cxr").is_dir(), reason="needs shared/data/covid_cxr")
def test_findings_of_chest_x_rays() -> None:
    description = load_description(ROOT / "data" / "covid_findings.yaml")
    train, test = read_split(description, "train"), read_split(description, "test")
    assert (len(train.records), len(test.records)) == (298, 119)
    assert not {record.group for record in train.records} & {record.group for record in test.records}
