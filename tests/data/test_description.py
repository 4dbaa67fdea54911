import shutil
import tarfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED, write_yaml

from data import dmri_phantom, sample
from data.archives import Room
from data.description import Description, load_description
from data.formats import FORMATS
from data.records import Problem, Split, make_record
from utils.errors import UserError

FETCHED = ("coco", "coco_captions", "chestxray", "cub", "imagenet", "voc", "voc_segmentation")
MADE = ("dmri_phantom", "sample_captions", "written")  # by commands of their own


def describe(folder: Path, **changes: object) -> Description:
    return load_description(write_yaml(folder / "d.yaml", **({"path": str(folder)} | changes)))


def test_what_the_formats_are_for() -> None:
    single = {name for name, format_ in FORMATS.items() if format_.single_label}
    assert single == {"folder", "folder_boxes", "cifar", "cub", "tiny_imagenet", "synsets", "coco_labels", "dmri"}
    assert {name for name, format_ in FORMATS.items() if not format_.boxed} == {
        "folder",
        "cifar",
        "coco_captions",
        "coco_labels",
        "masks",
    }
    unnamed = {name for name, format_ in FORMATS.items() if format_.names is None}
    assert unnamed == {"voc", "yolo", "coco_captions", "coco_labels", "masks", "dmri"}


def test_the_description_says_it(tmp_path: Path) -> None:
    description = describe(tmp_path, format="cifar", val=None, test=None)
    assert (description.single_label, description.boxed, description.splits) == (True, False, {"train": ("train",)})
    with pytest.raises(UserError, match="has no `val` split"):
        description.split(description.held_out)


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`format` is 'yoga' — there are voc, yolo"):
        describe(tmp_path, format="yoga")


def test_a_value_is_of_one_class(tmp_path: Path) -> None:
    keys = {"format": "dmri", "label": "age", "names": None, "classes": {"young": ["8-9", "14"], "old": ["14", "25"]}}
    with pytest.raises(UserError, match="`14` is in 2 classes of `classes`; give each value to one"):
        load_description(write_yaml(tmp_path / "d.yaml", **keys))


def test_no_names_where_the_format_tells_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`names` is missing — add `names:`; the format `voc` does not say them"):
        describe(tmp_path, names=None)


def test_names_of_the_data_set_are_distinct(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", classes=["cat", "cat"])
    with pytest.raises(UserError, match="no distinct class names: cat, cat"):
        describe(tmp_path, format="cifar", names=None)


def without_pictures(member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
    return None if member.name.endswith(".JPEG") else tarfile.data_filter(member, folder)


@pytest.mark.parametrize("yaml", sorted((ROOT / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_yaml_is_valid(yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "\nscenes:" in yaml.read_text():  # made on first use: a few of them, elsewhere
        made = partial(sample.write, size=sample.SampleSize(1, 1, 1))
        monkeypatch.setattr(sample, "write", lambda folder, **_: made(folder))
        yaml = Path(shutil.copy(yaml, tmp_path))
    if "\nphantom:" in yaml.read_text():
        monkeypatch.setattr(dmri_phantom, "write", lambda folder, _: folder.mkdir(parents=True))
        yaml = Path(shutil.copy(yaml, tmp_path))
    if "\narchives:\n  - ../../shared" in (text := yaml.read_text()):  # of tens of thousands of pictures; not those
        monkeypatch.setattr(Room, "__call__", lambda _, *member: without_pictures(*member))
        yaml = tmp_path / yaml.name
        yaml.write_text(text.replace("../../shared/data", str(SHARED)))
    try:
        load_description(yaml)
    except UserError as error:
        assert "does not exist" in str(error)  # noqa: PT017
        assert not SHARED.is_dir() or yaml.stem in FETCHED + MADE


def test_summary(tmp_path: Path) -> None:
    boxed, stated = describe(tmp_path), describe(tmp_path, format="cifar")
    plain = make_record(tmp_path, (8, 8))
    assert Split("train", boxed, [plain]).summary() == "train: 1 image, 0 boxes, 0 left out"
    labelled = make_record(tmp_path, (8, 8), classes=[1])
    problems = [Problem(f"file:{number}", "broken", "correct it") for number in range(23)]
    lines = Split("test", stated, [labelled] * 2, problems).summary().splitlines()
    assert lines[0] == "test: 2 images, 10 classes, 23 left out"
    assert lines[1] == "  left out file:0: broken"
    assert lines[-1] == "  and 3 more"
    assert len(lines) == 22


def test_a_value_of_several_kinds_is_named_by_its_key(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`train` is \{'epochs': 1\} — give a number, or give a list"):
        load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path), train={"epochs": 1}, names=["a"]))


def test_keys_that_do_not_go_together(tmp_path: Path) -> None:
    shares = {"train": 0.6, "val": "val.txt"}
    with pytest.raises(
        UserError, match="keys are missing or contradict each other — fractions are for voc, yolo, coco"
    ):
        load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path), names=["a"], format="voc", **shares))


def test_a_split_that_is_left_empty_is_none(tmp_path: Path) -> None:
    """As `test: ""`, which other tools write: it is not the whole folder."""
    assert describe(tmp_path, val="", test="").splits == {"train": ("train",)}
    with pytest.raises(UserError, match=r"`train` .*give a folder, a list of pictures, or a share"):
        describe(tmp_path, train="")
    with pytest.raises(UserError, match=r"`val` .*give a folder, a list of pictures, or a share"):
        describe(tmp_path, val=["val", " "])


def test_names_have_an_order(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("format: voc\ntrain: train\nnames: !!set {cat, dog}\n")
    with pytest.raises(UserError, match=r"give them in an order, as in \[cat, dog\]"):
        load_description(tmp_path / "d.yaml")
