import shutil
from pathlib import Path

import pytest
import yaml
from conftest import CASCADE, Script, same_weights

import train
from data.description import load_description
from data.formats import read_split
from training.same_data import identity, refuse_changed
from utils.errors import UserError
from utils.runs import FINISHED


def begun(scenes_yaml: Path, folder: Path, script: Script) -> tuple[Path, Path]:
    """A run that was stopped after its first stage, and its own copy of the data."""
    scenes = Path(yaml.safe_load(scenes_yaml.read_text())["path"])
    shutil.copytree(scenes, folder / "here")
    data = folder / "scenes.yaml"
    data.write_text(scenes_yaml.read_text().replace(str(scenes), str(folder / "here")))
    script(train, "--data", data, "--project", folder, *CASCADE, "--pretrain-source", "pictures", "--pretrain-only")
    run = folder / "train" / "exp"
    shutil.copytree(run, folder / "whole")
    for name in (FINISHED, "weights/backbone_cl3.pt", "weights/stage3.pt"):
        (run / name).unlink()
    return run, data


def test_a_run_goes_on_where_its_data_lie_now(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    run, data = begun(scenes_yaml, tmp_path, script)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "moved.yaml"
    moved.write_text(data.read_text().replace("/here", "/there"))
    with pytest.raises(UserError, match="does not exist"):
        script(train, "--resume", run)
    script(train, "--resume", run, "--data", moved)
    assert same_weights(run / "weights" / "backbone_cl3.pt", tmp_path / "whole" / "weights" / "backbone_cl3.pt")


def test_other_data_are_refused(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    run, data = begun(scenes_yaml, tmp_path, script)
    notes = next((tmp_path / "here" / "Annotations").glob("*.xml"))
    text = notes.read_text()
    notes.write_text(text.replace("<xmin>", "<xmin>1", 1))
    with pytest.raises(UserError, match="has other labels than when the run began — restore the data"):
        script(train, "--resume", run)
    script(train, "--resume", run, "--accept-changed-data")


def test_what_differs_is_named(scenes_yaml: Path) -> None:
    splits = {name: read_split(load_description(scenes_yaml), name) for name in ("train", "val")}
    then = identity(splits)
    refuse_changed(identity(splits), then, Path("last.pt"))
    refuse_changed(then, {}, Path("last.pt"))  # a checkpoint of before says nothing
    splits["train"].records.pop()
    with pytest.raises(UserError, match=r"last\.pt: `train` has other pictures \(7, not 8\); `train` has other labels"):
        refuse_changed(identity(splits), then, Path("last.pt"))
