import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT, TINY, Script, write_yaml
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from warm import Warm

import detect
import train
import val
from utils.errors import UserError
from utils.recipes import load_recipe, save_recipe

SCRIPTS = ("train.py", "val.py", "detect.py", "export.py", "study.py")
HEAVY = ("torch", "cv2", "ultralytics", "matplotlib", "sklearn", "timm", "nibabel", "dipy")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_imports_nothing_heavy(name: str, tmp_path: Path) -> None:
    code = f"""
import runpy, sys
sys.argv = ["{name}", "--help"]
try:
    runpy.run_path("{name}", run_name="__main__")
except SystemExit as end:
    assert end.code == 0
assert not set({HEAVY}) & set(sys.modules)
"""
    home = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert not list(tmp_path.iterdir()), "the home folder was touched"


USER_ERRORS = [
    (["train.py", "--cl-splits", "24", "--dry-run"], "give 1 (end to end) to 23"),
    (["train.py", "--cl-splits", "-1", "--dry-run"], "give 1 (end to end) to 23"),
    (["val.py", "--weights", "zoo:nothing"], "no weights `nothing`"),
    (["train.py", "--data", "data/none.yaml"], "cannot be read"),
    (["train.py", "--weights", "", "--dry-run"], "--weights: is empty, and the recipe gives nothing"),
    (["detect.py", "--source", ""], "--source: is empty"),
    (["train.py", "--name", "my run"], "cannot be the name of a file or folder"),
    (["val.py", "--bootstrap", "3"], "3 resamples have no 95 % interval"),
    (["val.py", "--json", "data/sample.yaml"], "is there already, and would be lost"),
    (["val.py", "--report", "README.rst", "--json", "weights"], "is there already, and would be lost"),
]


@pytest.mark.parametrize(("command", "what"), USER_ERRORS)
def test_user_errors_are_one_line_and_code_two(
    command: list[str], what: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(command[0], run_name="__main__")
    assert_user_error(end.value.code, capfd.readouterr().err, what)


def test_user_errors_of_a_process(tmp_path: Path) -> None:
    command, what = USER_ERRORS[0]
    process = Warm(*command, environment=os.environ, stdout=tmp_path / "said", stderr=tmp_path / "errors")
    assert_user_error(process.end(), process.stderr.read_text(), what)


def assert_user_error(code: object, said: str, what: str) -> None:
    assert code == 2
    assert len(said.strip().splitlines()) == 1
    assert said.startswith("error: ")
    assert what in said


def test_dry_run_prints_the_plan_and_makes_nothing(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(train, "--dry-run", "--imgsz", 256, "--pretrain-imgsz", 256, "--project", tmp_path)
    shown = capsys.readouterr().out
    for number in ("3,201,760", "11,678,720", "25,704,448", "50.1", "82.5", "13.8"):
        assert number in shown
    assert not list(tmp_path.iterdir())


def test_val_writes_figures_and_pictures(
    overfitted: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(val, "--map", "--project", overfitted, "--json", tmp_path / "deep" / "m.json", "--name", "figures")
    folder = overfitted / "val" / "figures"
    metrics = json.loads((tmp_path / "deep" / "m.json").read_text())
    assert metrics == json.loads((folder / "metrics.json").read_text())
    assert metrics["split"] == "val"
    assert metrics["map50"] > 0.9
    assert set(metrics["per_class"]["7"]) == {"map", "map50", "voc_ap50", "boxes"}
    assert set(metrics["speed_ms"]) == {"load", "preprocess", "network", "nms"}
    for key in (
        "map",
        "map75",
        "map_small",
        "map_medium",
        "map_large",
        "miou",
        "voc07_ap50",
        "images",
        "boxes",
        "seconds",
    ):
        assert key in metrics
    for name in ("pr_curve.png", "f1_curve.png", "ap_by_iou.png", "confusion_matrix.png", "predictions.jpg"):
        with Image.open(folder / name) as picture:
            assert min(picture.size) > 300
    assert "map50" in capsys.readouterr().out


@pytest.mark.usefixtures("unpictured")
def test_saved_detections_judged_outside(overfitted: Path, script: Script) -> None:
    script(val, "--project", overfitted, "--save-json", "--name", "kept")
    folder = overfitted / "val" / "kept"
    truth = COCO(str(folder / "annotations.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / "detections.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    metrics = json.loads((folder / "metrics.json").read_text())
    assert [metrics["map"], metrics["map50"], metrics["mar_100"]] == pytest.approx(
        evaluation.stats[[0, 1, 8]], abs=1e-9
    )


@pytest.mark.usefixtures("unpictured")
def test_val_refuses_other_classes(overfitted: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    other = write_yaml(tmp_path / "d.yaml", path=str(scenes), names=[*"0123456789", "cat"])
    with pytest.raises(UserError, match="are not those of"):
        script(val, "--project", overfitted, "--data", other)


def test_detect_on_a_folder_with_a_damaged_image(
    overfitted: Path, scenes: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "pictures"
    source.mkdir()
    for name in ("train_00000.jpg", "train_00001.jpg"):
        (source / name).write_bytes((scenes / "JPEGImages" / name).read_bytes())
    (source / "worse.jpg").write_text("no picture")
    script(detect, "--project", overfitted, "--source", source, "--save-txt", "--save-json", "--name", "folder")
    folder = overfitted / "detect" / "folder"
    assert "left out" in capsys.readouterr().out
    assert {path.name for path in folder.glob("*.jpg")} == {"train_00000.jpg", "train_00001.jpg"}
    found = json.loads((folder / "detections.json").read_text())
    lines = (folder / "labels" / "train_00000.txt").read_text().splitlines()
    assert len(lines) == len(found[0]["boxes"]) > 0
    for line, box in zip(lines, found[0]["boxes"], strict=True):
        label, cx, cy, w, h, score = map(float, line.split())
        x1, y1, x2, y2 = box["box_xyxy"]
        np.testing.assert_allclose(
            [cx * 256, cy * 256, w * 256, h * 256], [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], atol=0.01
        )
        assert (int(label), score) == (box["class"], pytest.approx(box["score"], abs=1e-5))
    with Image.open(folder / "train_00000.jpg") as drawn, Image.open(source / "train_00000.jpg") as plain:
        assert np.abs(np.asarray(drawn, int) - np.asarray(plain, int)).max() > 60


def test_detect_takes_globs_and_defaults(
    overfitted: Path, scenes: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    script(detect, "--project", overfitted, "--source", scenes / "JPEGImages" / "val_*.jpg")
    assert "on 4 images" in capsys.readouterr().out
    script(detect, "--project", overfitted)
    assert "on 8 images" in capsys.readouterr().out


@pytest.mark.parametrize("source", ["nowhere", "nowhere/*.jpg", "."])
def test_detect_without_images(
    overfitted: Path, script: Script, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match="no image or video there" if source != "nowhere" else "there is no such file or folder"
    ):
        script(detect, "--project", overfitted, "--source", source)


def test_detect_on_pictures_of_one_name_loses_none(
    overfitted: Path, scenes: Path, script: Script, tmp_path: Path
) -> None:
    picture = scenes / "JPEGImages" / "train_00000.jpg"
    for suffix in ("bmp", "jpg", "png"):
        Image.open(picture).save(tmp_path / f"a.{suffix}")
    for flags, names in ((("--nosave",), ["labels"]), ((), ["a.jpg", "a_2.jpg", "a_3.jpg", "labels"])):
        shared = ("--project", overfitted, "--source", tmp_path, "--save-txt", "--name", "same")
        script(detect, *shared, *flags)
        folder = max((overfitted / "detect").glob("same*"), key=lambda path: path.stat().st_mtime_ns)
        assert sorted(path.name for path in folder.iterdir()) == names
        assert {path.name for path in (folder / "labels").iterdir()} == {"a.txt", "a_2.txt", "a_3.txt"}


def test_detect_that_keeps_nothing_says_so(
    overfitted: Path, scenes: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    source = scenes / "JPEGImages" / "train_00000.jpg"
    script(detect, "--project", overfitted, "--source", source, "--nosave", "--name", "nothing")
    assert capsys.readouterr().out.endswith("on 1 image; nothing is written\n")
    assert not (overfitted / "detect" / "nothing").exists()


def film_of(pictures: list[Path], path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 5, (256, 256))
    for picture in pictures:
        writer.write(cv2.imread(str(picture)))
    writer.release()


def test_detect_on_a_video(overfitted: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    pictures = sorted((scenes / "JPEGImages").glob("train*.jpg"))[:4]
    film_of(pictures, tmp_path / "film.mp4")
    flags = ("--save-txt", "--save-json", "--save-crop", "--name", "video")
    script(detect, "--project", overfitted, "--source", tmp_path / "film.mp4", *flags)
    folder = overfitted / "detect" / "video"
    drawn = cv2.VideoCapture(str(folder / "film.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (4, 5)
    rows = json.loads((folder / "detections.json").read_text())
    assert [row["frame"] for row in rows] == [1, 2, 3, 4]
    boxes = [box for row in rows for box in row["boxes"]]
    assert len(list((folder / "crops").glob("*/film_*.jpg"))) == len(boxes) > 5
    for row in rows:
        lines = (folder / "labels" / f"film_{row['frame']:06d}.txt").read_text().splitlines()
        assert len(lines) == len(row["boxes"])
    box = boxes[0]
    with Image.open(folder / "crops" / box["name"] / "film_000001_1.jpg") as crop:
        x1, y1, x2, y2 = box["box_xyxy"]
        assert crop.size == (int(np.ceil(x2)) - int(x1), int(np.ceil(y2)) - int(y1))
    assert not list(folder.glob(".*"))


@pytest.mark.usefixtures("unpictured")
def test_detect_with_onnx_and_without_pictures(
    overfitted: Path,
    exported: Path,
    scenes: Path,
    script: Script,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = scenes / "JPEGImages" / "train_*.jpg"
    shared = ("--project", overfitted, "--source", source, "--save-json", "--nosave", "--name")
    script(detect, *shared, "torch")
    script(detect, *shared, "onnx", "--weights", exported)
    capsys.readouterr()
    one, other = (
        json.loads((overfitted / "detect" / name / "detections.json").read_text()) for name in ("torch", "onnx")
    )
    assert [len(row["boxes"]) for row in one] == [len(row["boxes"]) for row in other]
    assert [path.name for path in (overfitted / "detect" / "onnx").iterdir()] == ["detections.json"]
    with pytest.raises(UserError, match="say what to look through"):
        script(detect, "--project", overfitted, "--weights", exported)
    with pytest.raises(UserError, match="name the data yaml"):
        script(val, "--project", overfitted, "--weights", exported)
    figures = []
    for weights in (exported, overfitted / "train" / "exp" / "weights" / "best.pt"):
        data = overfitted / "overfit.yaml"
        script(val, "--project", overfitted, "--weights", weights, "--data", data, "--json", tmp_path / "m.json")
        figures.append(json.loads((tmp_path / "m.json").read_text())["map"])
    assert figures[0] == pytest.approx(figures[1], abs=1e-4)


@pytest.mark.usefixtures("unpictured")
def test_an_exported_file_is_found_by_its_name(
    overfitted: Path, exported: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the newest run, whose data it takes as best.pt does."""
    own = overfitted / "train" / "exp"
    beside = tmp_path / "train" / "exp"
    (beside / "weights").mkdir(parents=True)
    shutil.copyfile(exported, beside / "weights" / "best.onnx")
    save_recipe(load_recipe(own / "recipe.yaml", {}), beside / "recipe.yaml")
    shutil.copyfile(own / "metrics.json", beside / "metrics.json")
    script(detect, "--project", tmp_path, "--weights", "best.onnx")
    shown = capsys.readouterr().out
    assert f"best.onnx: {beside / 'weights' / 'best.onnx'}\n" in shown
    assert "on 8 images" in shown
    script(val, "--project", tmp_path, "--weights", "best.onnx", "--json", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["map50"] > 0.9
    with pytest.raises(UserError, match=r"^worst\.onnx: no such file"):
        script(val, "--project", tmp_path, "--weights", "worst.onnx")


def test_a_dry_run_of_detect_looks_and_writes_nothing(
    overfitted: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (weights,) = overfitted.glob("train/*/weights/best.pt")
    script(detect, "--weights", weights, "--device", "cpu", "--dry-run", "--project", tmp_path)
    assert re.search(r"best\.pt on .*: \d+ boxes; nothing is written$", capsys.readouterr().out)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unpictured")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_val_in_half_the_precision(overfitted: Path, script: Script, tmp_path: Path, precision: str) -> None:
    script(val, "--project", overfitted, "--precision", precision, "--json", tmp_path / "m.json", "--augment")
    assert json.loads((tmp_path / "m.json").read_text())["map50"] > 0.8


@pytest.mark.parametrize(
    ("mode", "flag", "own"),
    [
        ("--accuracy", "--lime=5", "--localise"),
        ("--accuracy", "--conf-thres=0.5", "--map"),
        ("--accuracy", "--percentile=80", "--localise"),
        ("--map", "--explain-boxes=true", "--localise"),
        ("", "--no-pictures", "--localise"),
        ("--localise", "--imgsz=64", "--map"),
        ("--localise", "--save-json", "--map"),
        ("--map", "--report=a/b.md", "--accuracy"),
        ("--segment", "--report=a/b.md", "--accuracy"),
    ],
)
def test_flags_of_another_mode_are_refused(mode: str, flag: str, own: str, script: Script, tmp_path: Path) -> None:
    """Be it with their defaults; before anything is read or made."""
    name = flag.partition("=")[0]
    with pytest.raises(UserError, match=rf"(?s){name}.*is for {own}.*, and this is {mode or '--map'}"):
        script(val, *filter(None, (mode, flag)), "--project", tmp_path / "runs")
    assert not list(tmp_path.iterdir())


def test_detections_of_several_detectors_are_not_kept(script: Script, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.pt", "b.pt")]
    for file in files:
        file.touch()
    with pytest.raises(UserError, match="--save-json: several detectors"):
        script(val, "--map", "--weights", *files, "--save-json", "--project", tmp_path / "runs")


def test_flags_that_modes_share(monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds = ("--conf-thres", "0.4", "--iou-thres", "0.5", "--max-det", "7")
    for mode in ("--map", "--localise"):
        monkeypatch.setattr(sys, "argv", ["val.py", mode, *thresholds])
        given = val.parse()
        assert (given.conf_thres, given.iou_thres, given.max_det, given.percentile) == (0.4, 0.5, 7, 80)
        assert given.given == {"conf_thres", "iou_thres", "max_det"}


def test_no_unfinished_run(script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no unfinished training run"):
        script(train, "--resume", "--project", tmp_path)


def test_unwritable_run_folder(scenes_yaml: Path, script: Script, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write"):
        script(train, "--data", scenes_yaml, "--project", tmp_path / "file", *TINY)
