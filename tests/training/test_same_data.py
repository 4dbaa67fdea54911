import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import CASCADE, Script, write_yaml
from PIL import Image

import train
from benchmarks.workload import write_corners
from data.description import load_description
from data.formats import read_split
from data.masks import MaskFile
from data.records import Split, make_record
from models.yolov3 import YOLOv3
from training.detector import train_detector
from training.inputs import named_splits
from training.job import Job
from training.reading import read_pairs
from training.same_data import identity, refuse_changed
from utils.claim import claimed
from utils.config import Pretrain, Recipe
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

    def robbed(job: Job, model: YOLOv3, *rest: object) -> object:
        gone.append(job.train.records[2].image)
        gone[0].unlink()
        return train_detector(job, model, *rest)  # type: ignore[arg-type]

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
    with pytest.raises(UserError, match="began with the splits train, val, not pretrain train, train, val"):
        refuse_changed(identity(splits | {"pretrain train": splits["train"]}), then, Path("last.pt"))
    pretrained = dict.fromkeys(("pretrain train", "pretrain val"), then["train"])
    older = then | {"pretrain train": then["train"]}
    refuse_changed(then | pretrained, older, Path("last.pt"))  # which says nothing of the other one
    assert set(identity({"a": splits["train"]})["a"]) == {"classes", "pictures", "labels", "contents of pictures"}
    older = {name: {key: own for key, own in parts.items() if " " not in key} for name, parts in then.items()}
    refuse_changed(then, older, Path("last.pt"))
    splits["train"].records.pop()
    with pytest.raises(UserError, match=r"last\.pt: `train` has other pictures \(7, not 8\); `train` has other labels"):
        refuse_changed(identity(splits), then, Path("last.pt"))


@pytest.mark.parametrize("whole", [2**30, 0])
def test_pictures_of_equal_bytes_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int) -> None:
    monkeypatch.setattr("training.same_data.WHOLE", whole)
    path = tmp_path / "a.bmp"
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path)))
    split = Split("train", description, [make_record(path, (200, 200))])
    found = []
    for value in (0, 1):
        picture = np.zeros((200, 200, 3), np.uint8)
        picture[0 if whole == 0 else 100, 100] = value
        Image.fromarray(picture).save(path)
        found.append(identity({"train": split})["train"])
    assert found[0].pop("contents of pictures") != found[1].pop("contents of pictures")
    assert found[0] == found[1]


def test_masks_of_equal_bytes_are_told_apart(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.bmp")
    record = replace(make_record(Path("a"), (8, 8)), mask=MaskFile(tmp_path / "a.bmp"))
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path)))
    split = Split("train", description, [record])
    before = identity({"train": split})
    Image.new("L", (8, 8), 1).save(tmp_path / "a.bmp")
    with pytest.raises(UserError, match="`train` has other contents of masks than when the run began"):
        refuse_changed(identity({"train": split}), before, Path("last.pt"))


def test_other_data_are_refused_after_a_stage_that_left_no_checkpoint(tmp_path: Path, script: Script) -> None:
    data = write_corners(tmp_path)
    script(train, "--data", data, "--project", tmp_path, *CASCADE, "--cl-splits", 1, "--pretrain-epochs", 1)
    run = tmp_path / "train" / "exp"
    (run / FINISHED).unlink()
    (run / "weights" / "backbone_cl1.pt").unlink()
    assert [path.name for path in (run / "weights").iterdir()] == ["cl1_stage1.pt"]
    arrays = dict(np.load(tmp_path / "corners.npz"))
    arrays["x_train"][0, 0, 0, 0] ^= 1
    np.savez(tmp_path / "corners.npz", **arrays)
    with pytest.raises(UserError, match=r"cl1_stage1\.pt: `train` has other contents of pictures than when the run"):
        script(train, "--resume", run)
    script(train, "--resume", run, "--accept-changed-data")
    assert (run / FINISHED).exists()


def test_the_validation_split_of_pretraining_counts(scenes_yaml: Path, corners_yaml: Path) -> None:
    recipe = Recipe(data=scenes_yaml, cl_splits=1, pretrain=Pretrain(data=corners_yaml))
    found = named_splits(recipe, read_pairs(recipe, download=False))
    assert list(found) == ["train", "val", "pretrain train", "pretrain val"]


def test_other_levels_are_other_data(tmp_path: Path) -> None:
    Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    content = {"path": str(tmp_path), "format": "yolo", "train": ".", "val": None, "test": None, "names": ["a"]}
    found = [
        identity(
            {"train": read_split(load_description(write_yaml(tmp_path / "d.yaml", levels=own, **content)), "train")}
        )
        for own in ([0, 500], [0, 600])
    ]
    with pytest.raises(UserError, match="`train` has other levels than when the run began"):
        refuse_changed(found[1], found[0], Path("last.pt"))
    before = {"train": {key: own for key, own in found[0]["train"].items() if key != "levels"}}
    refuse_changed(found[1], before, Path("last.pt"))  # a checkpoint of before says nothing of them
