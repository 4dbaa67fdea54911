"""Weights that ship, and commands without a run."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Script

import detect
import train
import val
from models import load_detector
from studies.ship import table
from utils import zoo
from utils.errors import UserError
from utils.runs import newest_backbones, newest_detector
from utils.zoo import FOLDER, Shipped, weight_file

LIMIT = 12e6  # bytes, all together


def test_files_are_those_of_the_list_and_small() -> None:
    files = {own.path for own in zoo.zoo().values()}
    assert files == set(FOLDER.glob("*.pt"))
    assert sum(path.stat().st_size for path in files) <= LIMIT
    for name in zoo.zoo():
        assert weight_file(f"zoo:{name}").is_file()


def test_table_is_the_one_of_the_list() -> None:
    assert table(zoo.zoo()) in (FOLDER / "README.md").read_text()


def test_recipes_are_there() -> None:
    assert all((ROOT / own.recipe).is_file() for own in zoo.zoo().values())


def test_what_is_no_weight_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean darknet53_detector"):
        weight_file("zoo:darknet53_detektor")
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"no such file .*git checkout weights"):
        weight_file("zoo:cnn6_cl6")
    (tmp_path / "cnn6_cl6.pt").write_bytes(b"other")
    with pytest.raises(UserError, match="not the file that was published"):
        weight_file("zoo:cnn6_cl6")


def test_one_that_is_published_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    large = zoo.zoo()["cnn6_cl6"]
    shutil.copy(large.path, tmp_path / "web")
    entries = {"cnn6_cl6": Shipped(**large.model_dump() | {"url": f"{server}/cnn6_cl6.pt"})}
    monkeypatch.setattr(zoo, "zoo", lambda: entries)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    with pytest.raises(UserError, match=r"fetch it with `python -m utils.zoo cnn6_cl6 --download`"):
        weight_file("zoo:cnn6_cl6")
    assert "| – |" in table(entries)
    script(zoo)
    assert f"{server}/cnn6_cl6.pt" in capsys.readouterr().out
    script(zoo, "cnn6_cl6", "--download")
    assert weight_file("zoo:cnn6_cl6").read_bytes() == (tmp_path / "web" / "cnn6_cl6.pt").read_bytes()
    with pytest.raises(UserError, match="which weights"):
        script(zoo, "--download")


def test_commands_take_them_where_there_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert newest_detector(tmp_path) == FOLDER / "darknet53_detector.pt"
    assert {path.stem for path in newest_backbones(tmp_path)} == {"cnn6_cl6", "cnn6_e2e_compute"}
    assert "weights that ship are used" in capsys.readouterr().out


@pytest.mark.usefixtures("unpictured")
def test_detects_evaluates_and_explains(
    scenes: Path, scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script(detect, "--source", scenes / "JPEGImages", "--project", tmp_path)
    assert "boxes on" in capsys.readouterr().out
    script(val, "--map", "--data", scenes_yaml, "--project", tmp_path, "--json", tmp_path / "map.json")
    assert json.loads((tmp_path / "map.json").read_text())["map50"] > 0.4
    arguments = ("--images", 2, "--untrained", 1, "--maps", "gradcam", "--bootstrap", 20)
    script(val, "--localise", "--data", scenes_yaml, "--project", tmp_path, *arguments)
    assert "report.html" in capsys.readouterr().out


def test_training_begins_with_them(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    sizes = ("--width", 0.125, "--imgsz", 64, "--epochs", 1, "--cl-splits", 0)
    script(train, "--data", scenes_yaml, "--weights", "zoo:darknet53_cl3", *sizes, "--project", tmp_path)
    assert load_detector(tmp_path / "train" / "exp" / "weights" / "best.pt").names == [str(own) for own in range(10)]
