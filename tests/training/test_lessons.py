"""What a backbone learns from: objects or pictures, of the detector's data or of others."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import NO_DRAWS, ROOT, Script, same_weights, write_yaml
from PIL import Image

import export
import train
import val
from data.description import load_description
from data.doubles import common, in_two_splits
from data.formats import read_split
from data.records import make_record
from models import load_detector
from studies.compared import Compared, end_table
from training.cascade import judged
from training.inputs import gather
from training.reading import announce, groups_in_two, judging, shared
from utils import checkpoint
from utils.config import Augment, Pretrain, Recipe
from utils.errors import Stopped, UserError
from utils.recipes import load_recipe

SMALL = ("--width", 0.125, "--imgsz", 64, "--device", "cpu", "--precision", "fp32", "--workers", 0, "--cl-splits", 2,
         "--pretrain-epochs", 2, "--pretrain-batch-size", 16, "--epochs", 1, "--batch-size", 4)  # fmt: skip


@pytest.fixture(scope="module")
def taught(scenes_yaml: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of a detector whose backbone learnt the digits of its scenes, with E2E beside it."""
    project = tmp_path_factory.mktemp("taught")
    flags = [*SMALL, "--augment-fliplr", 0, "--cache-views", 2, "--baselines", "e2e"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["train.py", "--data", str(scenes_yaml), "--project", str(project), *map(str, flags)])
        train.main()
    return project / "train" / "exp"


def test_stages_are_judged_as_they_learn(taught: Path) -> None:
    rows = list(csv.DictReader((taught / "pretrain.csv").read_text().splitlines()))
    last = [row for row in rows if row["val/accuracy"]]
    assert [row["task"] for row in last] == ["stage1", "stage2", "e2e"]
    for row in last:
        assert float(row["val/chance"]) == pytest.approx(0.1)
        assert float(row["val/low"]) <= float(row["val/accuracy"]) <= float(row["val/high"])
        assert row["val/learnt"] in ("0", "1")
        assert row["val/accuracy@64"], "and at the detector's size"
    content = checkpoint.load(taught / "weights" / "backbone_cl2.pt", "backbone")
    assert content["view"] == {"source": "objects", "imgsz": 32, "fit": "window", "context": 0.5}
    assert content["single_label"]
    assert [own["cut"] for own in content["metrics"]] == [11, 23]
    figures = json.loads((taught / "metrics.json").read_text())
    assert figures["judged_by"] == "accuracy"
    assert set(figures["pretrain"]) == {"cl2", "e2e"}
    assert load_recipe(taught / "recipe.yaml", {}).pretrain.source == "objects"


def test_a_detector_says_what_its_backbone_had_learnt(taught: Path, script: Script, tmp_path: Path) -> None:
    """Of the blocks that it took over, whether it trained them or reuses those of another run."""
    own = json.loads((taught / "metrics.json").read_text())
    assert own["lesson"] == {"method": "cl2", "judged_by": "accuracy", **own["pretrain"]["cl2"][-1]}
    assert load_detector(taught / "weights" / "best.pt").lesson == own["lesson"]
    made = load_recipe(taught / "recipe.yaml", {})
    given = ("--data", made.data, "--weights", taught / "weights" / "backbone_cl2.pt", "--reuse-upto", "b11")
    script(train, *SMALL, "--cl-splits", 0, *given, "--project", tmp_path)
    run = Compared.read(tmp_path / "train" / "exp")
    assert run.metrics["lesson"] == {"method": "cl2", "judged_by": "accuracy", **own["pretrain"]["cl2"][0]}
    assert load_detector(run.folder / "weights" / "best.pt").lesson == run.metrics["lesson"]
    assert end_table([run])[1][-2].startswith("cl2 top-1 0.")


@pytest.mark.usefixtures("older_exporter", "unpictured")
def test_val_says_what_the_backbone_had_learnt(taught: Path, script: Script, tmp_path: Path) -> None:
    """Of a checkpoint, and of the ONNX file that was made of it."""
    lesson = json.loads((taught / "metrics.json").read_text())["lesson"]
    script(export, "--weights", taught / "weights" / "best.pt", "--file", tmp_path / "a.onnx")
    for number, file in enumerate((taught / "weights" / "best.pt", tmp_path / "a.onnx")):
        script(val, "--map", "--weights", file, "--data", load_recipe(taught / "recipe.yaml", {}).data,
               "--project", tmp_path, "--name", f"run{number}", "--device", "cpu")  # fmt: skip
        folder = tmp_path / "val" / f"run{number}"
        assert json.loads((folder / "metrics.json").read_text())["lesson"] == lesson
        assert "\n  its backbone: fewer than 5 images or patients" in (folder / "summary.txt").read_text()


def test_reports_know_objects(taught: Path, script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted((taught / "weights").glob("backbone_*.pt"))
    given = ("--weights", *files, "--device", "cpu", "--project", taught.parent, "--bootstrap", 20)
    script(val, "--accuracy", *given)
    said = capsys.readouterr().out
    assert "objects of 4 images" in said
    assert "chance 0.100, majority 0." in said
    best = r"cl2: 2 of 2 classifiers, the best of them seed 0, b\d+: fewer than 5 images or patients cannot show"
    assert re.search(best, said)
    given = (*given, "--untrained", 1, "--maps", "gradcam")
    script(val, "--localise", *given, "--claims", "--no-pictures")
    assert "cannot show whether the classifiers learnt" in capsys.readouterr().out
    report = json.loads((taught.parent / "val" / "exp2" / "localise.json").read_text())
    assert report["pairs"] == []
    assert report["untaught"].startswith("fewer than 5 images or patients cannot show whether the classifiers learnt (")
    assert {claim["verdict"] for claim in report["claims"]} == {f"not tested: {report['untaught']}"}
    script(val, "--localise", *given, "--no-pictures", "--view", "pictures")
    assert "4 images, shown as pictures, 64 px, letterbox" in capsys.readouterr().out


def test_cached_objects_are_those_that_are_cut_out(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    for cache in ("off", "ram"):
        flags = [*SMALL, "--pretrain-only", "--cache", cache, "--cache-views", 2, "--name", cache]
        script(train, "--data", scenes_yaml, "--project", tmp_path, *flags)
    one, other = (tmp_path / "train" / name / "weights" / "backbone_cl2.pt" for name in ("off", "ram"))
    assert same_weights(one, other)


def test_two_steps_in_one_command(
    corners_yaml: Path, scenes_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backbone learns on one data set, the detector on another; stopped between them, it continues."""
    flags = [*SMALL, *NO_DRAWS, "--data", scenes_yaml, "--pretrain-data", corners_yaml, "--project", tmp_path]
    script(train, *flags, "--name", "whole")
    with monkeypatch.context() as patch:
        patch.setattr("training.run.train_detector", interrupted)
        with pytest.raises(Stopped):
            script(train, *flags, "--name", "halves")
    script(train, "--resume", tmp_path / "train" / "halves")
    files = [tmp_path / "train" / name / "weights" for name in ("whole", "halves")]
    assert all(same_weights(*(folder / name for folder in files)) for name in ("backbone_cl2.pt", "best.pt"))
    backbone, detector = (torch.load(files[0] / name, weights_only=True) for name in ("backbone_cl2.pt", "best.pt"))
    assert backbone["names"] == ["nw", "ne", "sw", "se"]
    assert detector["names"] == list("0123456789")
    assert backbone["view"]["source"] == "pictures"
    script(val, "--accuracy", "--weights", files[0] / "backbone_cl2.pt", "--project", tmp_path, "--bootstrap", 0)
    assert json.loads((tmp_path / "val" / "exp" / "accuracy.json").read_text())["data"] == "corners.yaml"


def interrupted(*_: object) -> None:
    raise Stopped(15)


def test_pictures_that_two_data_sets_share_are_named(scenes: Path, tmp_path: Path) -> None:
    """By content, whatever the files are called."""
    folder = tmp_path / "other" / "train" / "digit"
    folder.mkdir(parents=True)
    own = read_split(load_description(write_yaml(tmp_path / "own.yaml", path=str(scenes))), "test")
    shutil.copy(own.records[0].image, folder / "copy.jpg")
    shutil.copy(own.records[1].image, folder / "again.jpg")
    Image.new("RGB", (8, 8)).save(folder / "new.png")
    (tmp_path / "other.yaml").write_text("path: other\nformat: folder\ntrain: train\n")
    other = read_split(load_description(tmp_path / "other.yaml"), "train")
    (line,) = shared([other], [own])
    places = f"{folder / 'again.jpg'}, {folder / 'copy.jpg'}"
    assert line.startswith(
        "2 pictures of `train` of other.yaml are in `test` of own.yaml too, byte for byte: " + places
    )
    assert line.endswith("; the backbone may have learnt what the detector is judged on")
    assert shared([own], [read_split(own.description, "train")]) == []
    (line,) = shared([replace(other, name="held out of train")], [own])
    assert "may have learnt" not in line, "nothing is learnt from these"
    paths = [record.image for record in other.records]
    assert len(common(paths, paths)) == 3


def test_pictures_in_two_splits_of_either_data_set_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where the backbone has data of its own: there they raise the figure that says whether it learnt."""
    draws, pairs = np.random.default_rng(0), []
    for name in ("own", "other"):
        for split in ("train", "val", "test"):
            (tmp_path / name / split / "digit").mkdir(parents=True)
            picture = Image.fromarray(draws.integers(0, 255, (8, 8, 3), np.uint8))
            picture.save(tmp_path / name / split / "digit" / f"{split}.png")
        shutil.copy(picture_of(tmp_path / name, "train"), tmp_path / name / "val" / "digit" / "copy.png")
        text = f"path: {name}\nformat: folder\ntrain: train\nval: val\ntest: test\n"
        (tmp_path / f"{name}.yaml").write_text(text)
        description = load_description(tmp_path / f"{name}.yaml")
        pairs.append((read_split(description, "train"), read_split(description, "val")))
    shutil.copy(picture_of(tmp_path / "own", "train"), tmp_path / "own" / "test" / "digit" / "copy.png")
    announce((pairs[0], pairs[1]))
    said = capsys.readouterr().out.replace("\n", " ")
    assert said.count("1 picture of `train` is in `val` too, byte for byte") == 2
    assert said.count("1 picture of `train` is in `test` too, byte for byte") == 1


def picture_of(folder: Path, split: str) -> Path:
    return folder / split / "digit" / f"{split}.png"


def test_one_class_is_trained_to_the_end(tmp_path: Path, script: Script) -> None:
    """With what the grey outside the pictures says, in figures and files."""
    draws, names = np.random.default_rng(0), [f"{number}.png" for number in range(12)]
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for name in names:
        Image.fromarray(draws.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "images" / name)
        (tmp_path / "labels" / name).with_suffix(".txt").write_text("0 0.2 0.2 0.3 0.3\n")
    text = "path: .\nformat: yolo\nimages: images\nlabels: labels\ntrain: 0.7\nval: 0.3\nnames: [cat]\n"
    (tmp_path / "one.yaml").write_text(text)
    script(train, *SMALL, "--data", tmp_path / "one.yaml", "--project", tmp_path, "--baselines", "e2e")
    run = tmp_path / "train" / "exp"
    figures = json.loads((run / "metrics.json").read_text())
    assert 0.5 < figures["pretrain"]["cl2"][-1]["border"] <= 1
    for name in ("cl2", "e2e"):
        stages = checkpoint.load(run / "weights" / f"backbone_{name}.pt", "backbone")["metrics"]
        assert [own["border"] for own in stages] == [own["border"] for own in figures["pretrain"][name]]
    assert load_detector(run / "weights" / "best.pt").lesson["border"] == figures["lesson"]["border"]


def test_pictures_that_are_no_files_are_compared_by_their_pixels(scenes_yaml: Path) -> None:
    """As slices of volumes and pictures of archives; those of one colour are like no others."""
    split = read_split(load_description(scenes_yaml), "train")
    pixels = [np.full((8, 8, 3), value, np.uint8) for value in (1, 2, 3)]
    for own in pixels[:2]:
        own[0, 0] = 0
    mine, theirs = (
        replace(split, name=name, records=[make_record(Path(f"{name} {n}"), (8, 8), pixels=own) for n, own in each])
        for name, each in (("train", enumerate(pixels)), ("val", enumerate([pixels[1].copy(), pixels[2].copy()])))
    )
    other = replace(theirs, description=replace(theirs.description, yaml=Path("other.yaml")))
    (line,) = shared([mine], [other])
    assert line.startswith("1 picture of `train` of scenes.yaml is in `val` of other.yaml too, byte for byte: train 1")
    assert in_two_splits([mine, theirs])[0].startswith("1 picture of `train` is in `val` too")


def test_copies_on_both_sides_of_what_is_held_out_are_named(
    tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    draws = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / split / label).mkdir(parents=True)
            Image.fromarray(draws.integers(0, 255, (48, 48, 3), np.uint8)).save(tmp_path / split / label / "0.png")
    for number in range(1, 8):
        for label in ("cat", "dog"):
            shutil.copy(tmp_path / "train" / label / "0.png", tmp_path / "train" / label / f"{number}.png")
    (tmp_path / "d.yaml").write_text("path: .\nformat: folder\ntrain: train\nval: val\n")
    flags = ("--data", tmp_path / "d.yaml", "--project", tmp_path, *SMALL, "--pretrain-only", "--dry-run")
    script(train, *flags, "--pretrain-holdout", 0.25)
    said = capsys.readouterr().out.replace("\n", " ")
    assert "pictures of `train` are in `held out of train` too, byte for byte" in said
    script(train, *flags)
    assert "held out of train" not in capsys.readouterr().out.replace("\n", " ")


def test_the_size_at_which_stages_are_judged_too_is_checked_before(
    scenes_yaml: Path, tmp_path: Path, script: Script
) -> None:
    flags = ("--data", scenes_yaml, "--project", tmp_path, *SMALL, "--pretrain-only")
    sizes = ("--backbone", "nin_imagenet", "--width", 0.0625, "--imgsz", 32, "--pretrain-imgsz", 224)
    with pytest.raises(UserError, match="nin_imagenet cannot take 2 images of 32 pixels a step"):
        script(train, *flags, *sizes, "--pretrain-head", "gap")
    assert not list(tmp_path.glob("train/*"))


def test_processes_share_no_cache_in_memory_that_the_source_leads_to(scenes_yaml: Path) -> None:
    """Objects move in their windows: whether their features are kept is known once it is known that they are learnt."""
    still = {"augment": {"fliplr": 0, "photometric": 0}, "pretrain": {"jitter": 0, "head_convs": 0, "batch_size": 16}}
    known = {"data": scenes_yaml, "width": 0.125, "imgsz": 64, "device": "cpu", "precision": "fp32", "workers": 0}
    recipe = Recipe.model_validate({**known, **still, "cl_splits": 1, "baselines": ["probed"], "cache": "ram"})
    gather(recipe, download=False)
    with pytest.raises(UserError, match="--cache ram: several processes cannot share it"):
        gather(recipe.model_copy(update={"devices": 2}), download=False)


def test_bad_input_stops_before_a_folder_is_made(tmp_path: Path, script: Script) -> None:
    one = tmp_path / "one"
    for part in ("images", "labels"):
        (one / part / "train").mkdir(parents=True)
    for number in range(12):
        Image.new("RGB", (64, 64)).save(one / "images" / "train" / f"{number}.png")
        (one / "labels" / "train" / f"{number}.txt").write_text("0 0.5 0.5 0.98 0.98\n")
    (tmp_path / "one.yaml").write_text("path: one\nformat: yolo\ntrain: images/train\nnames: [cat]\n")
    flags = [*SMALL, "--data", tmp_path / "one.yaml", "--project", tmp_path / "runs"]
    with pytest.raises(UserError, match=r"one class, `cat`, and no room beside it for background"):
        script(train, *flags)
    for path in (one / "labels" / "train").iterdir():
        path.write_text("0 0.5 0.5 0.05 0.05\n")
    with pytest.raises(UserError, match=r"can be cut out, left out: \d+ smaller than 8 pixels"):
        script(train, *flags, "--pretrain-source", "objects")
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        script(train, *flags, "--pretrain-data", tmp_path / "nowhere.yaml")
    (one / "gone.txt").write_text("gone/a.png\ngone/b.png\n")
    (tmp_path / "gone.yaml").write_text("path: one\nformat: yolo\ntrain: gone.txt\nnames: [cat, dog]\n")
    with pytest.raises(UserError, match=r"gone\.yaml: no readable image in `train` .*a\.png: the image does not exist"):
        script(train, *flags, "--pretrain-data", tmp_path / "gone.yaml")
    assert not (tmp_path / "runs").exists()


def test_pictures_where_no_object_is_left_to_judge_by(
    scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """A validation split of empty pictures: the run says so, and what it does not look at then."""
    shutil.copytree(yaml.safe_load(scenes_yaml.read_text())["path"], tmp_path / "here")
    data = write_yaml(tmp_path / "scenes.yaml", path=str(tmp_path / "here"))
    for record in read_split(load_description(data), "val").records:
        notes = tmp_path / "here" / "Annotations" / f"{record.image.stem}.xml"
        notes.write_text(re.sub("<object>.*</object>", "", notes.read_text(), flags=re.DOTALL))
    script(train, "--data", data, "--project", tmp_path, *SMALL, "--pretrain-jitter", 0, "--dry-run")
    said = capsys.readouterr().out
    assert "backbone: pictures, not objects: no box of `val` can be cut out\n" in said
    assert "pre-training on pictures does not look at --pretrain-jitter\n" in said


def test_recipes_name_the_other_data_from_their_own_folder(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: a.yaml\npretrain: {data: b.yaml}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml", {})
    assert (recipe.data, recipe.pretrain.data) == (tmp_path / "a.yaml", tmp_path / "b.yaml")
    given = load_recipe(ROOT / "configs" / "sample.yaml", {"pretrain.data": "c.yaml"})
    assert given.pretrain.data == Path("c.yaml").resolve()


def test_a_test_split_that_cannot_be_read_stops_no_training(
    scenes_yaml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_split = read_split(load_description(scenes_yaml), "train")
    spoilt = replace(train_split.description, splits=train_split.description.splits | {"test": ("nowhere",)})
    own = replace(train_split, description=spoilt)
    assert judging((own, own)) == [own, own]
    assert "whether pictures of `test` are learnt from is not known" in capsys.readouterr().out


def test_patients_in_two_splits_are_named(scenes_yaml: Path) -> None:
    one, other = (read_split(load_description(scenes_yaml), name) for name in ("train", "val"))
    for split, groups in ((one, ("a", "b")), (other, ("b", "c"))):
        split.records[:2] = [replace(own, group=name) for own, name in zip(split.records, groups, strict=False)]
    (line,) = groups_in_two([one, other])
    assert line.startswith("1 group of `train` (such as patients) is in `val` too: b; the figures would be too good")


def test_scores_that_are_not_finite_are_one_line() -> None:
    task = SimpleNamespace(name="stage2", single_label=True, groups=np.arange(8), border=0.0)
    logits, present = torch.rand(8, 3), torch.eye(3).repeat(3, 1)[:8]
    assert judged(logits, present, task)["loss"] > 0
    logits[3, 1] = torch.nan
    with pytest.raises(UserError, match="stage2: gives scores that are not finite"):
        judged(logits, present, task)


def test_views_that_are_all_alike_are_one() -> None:
    """The arithmetic of copies is not credited to what E2E is compared with."""
    still = {"jitter": 0.0, "source": "objects"}, {"fliplr": 0.0, "photometric": 0.0}
    recipe = Recipe(cache_views=12, pretrain=Pretrain(**still[0]), augment=Augment(**still[1]))  # type: ignore[arg-type]
    assert (recipe.views, Recipe(cache_views=12).views) == (1, 12)
    frozen = {"cl_splits": 1, "init": Path("a.pt"), "init_freeze": True}
    assert not Recipe(**frozen).caching, "heads alone see new views"
    assert Recipe(**frozen, pretrain=Pretrain(**still[0]), augment=Augment(**still[1])).caching  # type: ignore[arg-type]
