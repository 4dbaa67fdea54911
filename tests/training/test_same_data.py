import csv
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import Script, write_yaml

import train
from data.description import load_description
from data.formats import read_split
from models.yolov3 import YOLOv3
from training.detector import train_detector
from training.job import Job
from training.same_data import identity, refuse_changed
from utils.claim import claimed
from utils.errors import UserError
from utils.recipes import load_recipe
from utils.runs import FINISHED

SMALL = ("--cl-splits", 0, "--width", 0.125, "--imgsz", 64, "--epochs", 1, "--batch-size", 4, "--device", "cpu",
         "--precision", "fp32", "--workers", 0)  # fmt: skip


def begun(scenes_yaml: Path, folder: Path, script: Script) -> tuple[Path, Path]:
    """A run that has its figures still to write, and its data yaml with a copy of the data beside it."""
    scenes = yaml.safe_load(scenes_yaml.read_text())["path"]
    shutil.copytree(scenes, folder / "here")
    data = folder / "scenes.yaml"
    data.write_text(scenes_yaml.read_text().replace(scenes, str(folder / "here")))
    script(train, "--data", data, "--project", folder, *SMALL)
    run = folder / "train" / "exp"
    (run / FINISHED).unlink()
    return run, data


def test_a_run_goes_on_where_its_data_lie_now(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    run, data = begun(scenes_yaml, tmp_path, script)
    (tmp_path / "here").rename(tmp_path / "there")
    moved = tmp_path / "moved.yaml"
    moved.write_text(data.read_text().replace("/here", "/there"))
    with pytest.raises(UserError, match="does not exist"):
        script(train, "--resume", run)
    script(train, "--resume", run, "--data", moved)
    assert (run / FINISHED).exists()
    assert load_recipe(run / "recipe.yaml", {}).data == moved


def test_a_run_is_trained_by_one_process(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    run, _ = begun(scenes_yaml, tmp_path, script)
    (run / "weights" / ".best.pt.1.tmp").touch()
    with claimed(run / "lock"), pytest.raises(UserError, match=r"exp: process \d+ on .* trains this run — wait for it"):
        script(train, "--resume", run)
    assert (run / "weights" / ".best.pt.1.tmp").exists(), "it may be about to become something"
    script(train, "--resume", run)
    assert (run / FINISHED).exists()
    assert not list(run.rglob(".*"))
    (run / "lock").write_text("process 1 on here")  # of one that was killed when all was done
    with pytest.raises(UserError, match="this run is finished"):
        script(train, "--resume", run)
    assert not (run / "lock").exists()


def test_pictures_that_go_while_it_trains_are_left_out(
    scenes_yaml: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(yaml.safe_load(scenes_yaml.read_text())["path"], tmp_path / "here")
    data = write_yaml(tmp_path / "scenes.yaml", path=str(tmp_path / "here"))
    gone: list[Path] = []

    def robbed(job: Job, model: YOLOv3) -> object:
        gone.append(job.train.records[2].image)
        gone[0].unlink()
        return train_detector(job, model)

    monkeypatch.setattr("training.run.train_detector", robbed)
    script(train, "--data", data, "--project", tmp_path, *SMALL, "--epochs", 2)
    run = tmp_path / "train" / "exp"
    assert capsys.readouterr().out.count(f"left out {gone[0]}: the image does not exist\n") == 1
    assert [row["lost"] for row in csv.DictReader((run / "results.csv").read_text().splitlines())] == ["1", "1"]
    assert (run / FINISHED).exists()


def test_other_data_are_refused(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    run, _ = begun(scenes_yaml, tmp_path, script)
    for notes in (tmp_path / "here" / "Annotations").glob("*.xml"):
        notes.write_text(notes.read_text().replace("<xmin>", "<xmin>1", 1))
    with pytest.raises(UserError, match=r"`train` has other labels.* than when the run began — restore the data"):
        script(train, "--resume", run)
    assert not (run / FINISHED).exists()
    script(train, "--resume", run, "--accept-changed-data")
    assert (run / FINISHED).exists()


def test_what_differs_is_named(scenes_yaml: Path) -> None:
    splits = {name: read_split(load_description(scenes_yaml), name) for name in ("train", "val")}
    then = identity(splits)
    refuse_changed(identity(splits), then, Path("last.pt"))
    refuse_changed(then, {}, Path("last.pt"))  # a checkpoint of before says nothing
    splits["train"].records.pop()
    with pytest.raises(UserError, match=r"last\.pt: `train` has other pictures \(7, not 8\); `train` has other labels"):
        refuse_changed(identity(splits), then, Path("last.pt"))
