"""One rule for every name that becomes a path, wherever it comes from."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT, write_yaml

from data.description import load_description
from data.sources import Frame
from deployment.detections import Sink
from models import Found
from studies.ledger import Evidence
from studies.overview import Source
from studies.recipe import read_study
from utils import ultralytics_parts
from utils.errors import UserError
from utils.files import user_cache
from utils.names import as_name, is_name
from utils.recipes import build
from utils.runs import new_run

BAD = ["", ".", "..", "../x", "a/b", "/etc/x", "a b", "x\n", "\x1b[2J", "x" * 101, "猫" * 80, "~", "a\\b", "C:x"]
GOOD = ["exp", "cl3", ".hidden", "a.b-c_d", "x" * 100, "猫", "é"]


@pytest.mark.parametrize("name", BAD)
def test_no_bad_name_is_one_and_any_text_becomes_one(name: str) -> None:
    assert not is_name(name)
    assert is_name(as_name(name))


@pytest.mark.parametrize("name", GOOD)
def test_good_names_stay_as_they_are(name: str) -> None:
    assert is_name(name)
    assert as_name(name).strip(".") == name.strip(".")


def study(folder: Path, method: str = "cl1", report: str = "accuracy", stem: str = "study", source: str = "") -> None:
    methods = {method: {}, "other": {"from": source} if source else {}}
    content = {
        "title": "t",
        "recipe": str(ROOT / "configs" / "sample.yaml"),
        "seeds": [0],
        "methods": methods,
        "reports": {report: {"kind": "accuracy"}},
    }
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump(content))
    read_study(path, folder / "runs")


def archive(folder: Path, file: str) -> None:
    """A data yaml whose archive is to be fetched, from where nothing is."""
    content = {"file": file, "url": "http://127.0.0.1:9/x.tar", "sha256": "0" * 64}
    load_description(write_yaml(folder / "d.yaml", path="data", archives=[content]), download=True)


PLACES: dict[str, Callable[[Path, str], object]] = {
    "--name": lambda folder, name: new_run(folder, "train", name),
    "method of a study": lambda folder, name: study(folder, method=name),
    "report of a study": lambda folder, name: study(folder, report=name),
    "weights of a method": lambda folder, name: study(folder, source=f"cl1/{name}"),
    "evidence in a ledger": lambda folder, name: build(Evidence, {"study": name, "figure": "x"}, "l.yaml"),
    "source of an overview": lambda folder, name: build(Source, {"study": name}, "o.yaml"),
    "archive": archive,
}


@pytest.mark.parametrize("place", PLACES)
def test_every_place_refuses_bad_names(tmp_path: Path, place: str) -> None:
    for number, name in enumerate(BAD):
        if (place, name) == ("archive", "a/b"):  # a file below the yaml's folder may be
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(UserError):
            PLACES[place](folder, name)
        assert {path.name for path in folder.rglob("*") if path.is_dir()} <= {"runs"}, "nothing is made"


def test_the_rule_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cl3/b11.*cannot be the name of a file or folder: give 1 to 100 letters"):
        study(tmp_path, method="cl3/b11")
    with pytest.raises(UserError, match="a report cannot be called README"):
        study(tmp_path, report="README")
    with pytest.raises(UserError, match="is outside the yaml's folder, where nothing is fetched to"):
        archive(tmp_path, "../x.tar")
    (tmp_path / "a b.yaml").touch()
    with pytest.raises(UserError, match="`a b` cannot be the name"):
        read_study(tmp_path / "a b.yaml", tmp_path)


def test_crops_of_classes_stay_in_their_folder_and_apart(tmp_path: Path) -> None:
    names = ["..", "a/b", "a b", "A b", "\x1b[2J", "x" * 300]
    boxes, frame = torch.tensor([[0.0, 0, 8, 8]] * len(names)), Frame(np.zeros((9, 9, 3), np.uint8), "a.jpg")
    found = Found(
        boxes, torch.ones(len(names)), torch.arange(len(names)), names=names, picture=frame.image, size_hw=(9, 9)
    )
    Sink(tmp_path, pictures=False, crop=True).write(frame, found)
    folders = [path.name for path in (tmp_path / "crops").iterdir()]
    assert len(folders) == len(names)
    assert all(map(is_name, folders))
    assert {path.name for path in tmp_path.iterdir()} == {"crops"}


def test_nobody_else_prepares_the_folder_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "cascade-yolo").mkdir(mode=0o777)
    own = ultralytics_parts.settings_folder()
    assert own == tmp_path / "cascade-yolo" / "ultralytics"
    assert [path.stat().st_mode & 0o777 for path in (own, own.parent)] == [0o700, 0o700]
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert user_cache() is None
    other = ultralytics_parts.settings_folder()
    assert tmp_path not in other.parents
    assert other.stat().st_mode & 0o777 == 0o700
    assert ultralytics_parts.settings_folder() != other, "a name that cannot be guessed"
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    own.rmdir()
    own.touch()  # nothing can be made there, as in a home that is full
    assert tmp_path not in ultralytics_parts.settings_folder().parents
