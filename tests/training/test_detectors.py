"""Detectors of DETECTORS by the real scripts: they learn, continue, are judged, written for others and explained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, Once, Script, same_weights, write_yaml

import detect
import export
import train
import training.loop
import val
from data.description import load_description
from data.formats import read_split
from maps.detector_plan import prepare_detectors, read_detectors
from maps.detector_study import run_detectors
from models import load_detector
from models.detectors import DETECTORS
from models.trained import load_trained
from training.check import check_sizes
from training.loop import Loop
from training.start import show_plan
from training.unread import unread, unread_before
from utils.config import Recipe
from utils.errors import UserError

COMMON = ("--recipe", ROOT / "configs" / "sample.yaml", "--cl-splits", 0, "--width", 0.0625, "--batch-size", 4,
          "--device", "cpu", "--precision", "fp32", "--workers", 0)  # fmt: skip
LEARNS = {
    "ssd": ("--imgsz", 64, "--epochs", 22, "--val-every", 22, "--lr", 1e-2),
    "yolov1": ("--imgsz", 224, "--epochs", 42, "--val-every", 42, "--lr", 3e-3),
}
NAMES = tuple(LEARNS)


@pytest.fixture(scope="session")
def by_heart(scenes: Path, once: Once) -> Path:
    """Project folder with a run of each detector that learnt its eight training scenes by heart."""

    def fill(project: Path) -> None:
        data = write_yaml(project / "overfit.yaml", path=str(scenes), val="train", test=None)
        for name, flags in LEARNS.items():
            own = [*COMMON, *flags, "--detector", name, "--data", data, "--project", project, "--name", name]
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("sys.argv", ["train.py", *map(str, own)])
                train.main()

    return once("detectors", fill)


def best(project: Path, name: str) -> Path:
    return project / "train" / name / "weights" / "best.pt"


@pytest.mark.parametrize("name", NAMES)
def test_learns_eight_pictures(by_heart: Path, name: str) -> None:
    metrics = json.loads((by_heart / "train" / name / "metrics.json").read_text())
    assert metrics["map50"] > 0.9
    content = torch.load(best(by_heart, name), weights_only=True)
    assert (content["detector"], content["decode"]) == (name, DETECTORS[name].decode)
    assert "anchors" not in content


@pytest.mark.usefixtures("unpictured")
def test_is_judged_and_finds_boxes(by_heart: Path, scenes: Path, script: Script, tmp_path: Path) -> None:
    metrics = json.loads((by_heart / "train" / "ssd" / "metrics.json").read_text())
    script(
        val, "--weights", best(by_heart, "ssd"), "--task", "val", "--project", tmp_path, "--json", tmp_path / "a.json"
    )
    assert json.loads((tmp_path / "a.json").read_text())["map50"] == pytest.approx(metrics["map50"], abs=0.01)
    picture = scenes / "JPEGImages" / "train_00000.jpg"
    for name in NAMES:
        script(detect, "--weights", best(by_heart, name), "--source", picture, "--save-json", "--project", tmp_path,
               "--name", name)  # fmt: skip
        assert json.loads((tmp_path / "detect" / name / "detections.json").read_text())[0]["boxes"]


class CutError(Exception):
    pass


@pytest.mark.parametrize("name", NAMES)
def test_interrupted_and_resumed_is_bit_equal(
    scenes_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    size = ("--imgsz", 64 if name == "ssd" else 224, "--epochs", 2, "--val-every", 2)
    flags = [*COMMON, *size, "--detector", name, "--data", scenes_yaml, "--project", tmp_path]
    script(train, *flags, "--name", "whole")
    steps, real = iter(range(100)), Loop._step

    def cut(loop: Loop, *step: Any) -> None:
        real(loop, *step)
        if next(steps) == 2:  # amid the second epoch
            raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(training.loop, "SAVE_EVERY_S", -1)
        patch.setattr(Loop, "_step", cut)
        with pytest.raises(CutError):
            script(train, *flags, "--name", "cut")
    script(train, "--resume", tmp_path / "train" / "cut")
    assert same_weights(best(tmp_path, "whole"), best(tmp_path, "cut"))


@pytest.mark.usefixtures("older_exporter")
@pytest.mark.parametrize("name", NAMES)
def test_onnx_finds_the_same(
    by_heart: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The export itself compares the file with PyTorch, on pictures of the data; here detections are, once more."""
    file = tmp_path / "a.onnx"
    script(export, "--weights", best(by_heart, name), "--file", file)
    assert ("64×96" in capsys.readouterr().out) == (name == "ssd"), "a wider picture is tried where any size will do"
    pictures = [record.image for record in read_split(load_description(by_heart / "overfit.yaml"), "val").records[:2]]
    for own, other in zip(load_trained(best(by_heart, name)).predict(pictures), load_detector(file).predict(pictures),
                          strict=True):  # fmt: skip
        assert own.names == other.names
        torch.testing.assert_close(own.boxes_xyxy, other.boxes_xyxy, atol=0.05, rtol=0)
    script(export, "--weights", best(by_heart, name), "--file", tmp_path / "v5.onnx", "--layout", "v5")


@pytest.mark.parametrize("name", NAMES)
def test_is_explained(by_heart: Path, name: str) -> None:
    split = read_split(load_description(by_heart / "overfit.yaml"), "val")
    plan = prepare_detectors(read_detectors([best(by_heart, name)]), split, kinds=["layercam", "saliency"], images=4)
    study = run_detectors(plan)
    taps = load_trained(best(by_heart, name)).model.taps
    column = next(own for own in study.columns if own.kind == "layercam")
    assert column.cuts == taps
    (answers,) = study.beside.figures["answers"]
    assert sum(answers["heads"].values()) == answers["explained"] > 0
    saliency = next(own for own in study.columns if own.kind == "saliency")
    assert float(saliency.values["mass"].mean()) > float(study.shares.mean()), "more evidence than by chance"


def test_sizes_and_backbones_are_refused_in_time(by_heart: Path, script: Script, tmp_path: Path) -> None:
    def refused(what: str, **changes: object) -> None:
        with pytest.raises(UserError, match=what):
            check_sizes(Recipe.model_validate({"width": 0.125, "cl_splits": 0, **changes}))

    refused("--imgsz: 416: yolov1's head is made for 7 × 7 or 14 × 14 cells", detector="yolov1")
    refused("--multi-scale: yolov1 takes images of one size only", detector="yolov1", imgsz=224, multi_scale=0.2)
    refused("--backbone: CNN6 has no features at strides 8, 16 and 32", detector="ssd", backbone="cnn6")
    refused("--backbone: CNN6 has no features at strides 8, 16 and 32", backbone="cnn6")
    check_sizes(Recipe.model_validate({"backbone": "cnn6", "width": 0.125, "cl_splits": 1}))  # stops before a detector
    for flags in (("--imgsz", 320), ("--augment",)):
        with pytest.raises(UserError, match="yolov1 takes images of 224×224 only"):
            script(val, "--weights", best(by_heart, "yolov1"), "--task", "val", "--project", tmp_path, *flags)
    with pytest.raises(UserError, match="--detector: no detector `yolo` — did you mean yolov"):
        script(train, "--detector", "yolo", "--project", tmp_path)
    assert not (tmp_path / "train").exists()


def test_what_is_not_looked_at_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    recipe = Recipe.model_validate({"detector": "ssd", "anchors": "auto", "loss": {"anchor_iou": 0.5}})
    assert unread(recipe) == ["ssd does not look at --loss-anchor-iou, --anchors"]
    assert unread(recipe.model_copy(update={"detector": "yolov3"})) == []
    assert unread(Recipe.model_validate({"fcn": "fcn32s"})) == ["yolov3 does not look at --fcn"]
    narrow = Recipe.model_validate({"multi_scale": 0.05, "train": {"batch_size": 48, "nominal_batch": 64}})
    assert unread(narrow) == [
        "--multi-scale 0.05 of 416 px reaches no other multiple of 32",
        "--nominal-batch 64: an update is of 48 images, whole batches of 48",
    ]
    assert unread(Recipe.model_validate({"multi_scale": 0.1, "train": {"nominal_batch": 64}})) == []
    both = recipe.model_copy(update={"task": "segment", "fcn": "fcn32s", "multi_scale": 0.5})
    wanted = "a segmenter does not look at --loss-anchor-iou, --anchors, --detector, --multi-scale"
    assert unread(both) == [wanted]
    show_plan(both.model_copy(update={"width": 0.125}))
    assert wanted in capsys.readouterr().out


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [
        (
            {"cl_splits": 0, "pretrain": {"data": "a.yaml"}},
            "a run without pre-training does not look at --pretrain-data",
        ),
        (
            {"weights": "a.pt", "pretrain": {"source": "objects"}},
            "a run without pre-training does not look at --pretrain-source",
        ),
        (
            {"pretrain": {"source": "objects", "crop": 1, "view": "center", "crop_labels": False, "jitter": 0}},
            "pre-training on objects does not look at --pretrain-crop, --pretrain-view, --pretrain-crop-labels",
        ),
        (
            {"pretrain": {"source": "pictures", "crop": 1, "context": 1, "jitter": 0}},
            "pre-training on pictures does not look at --pretrain-context, --pretrain-jitter",
        ),
        ({"pretrain": {"source": "objects", "data": "a.yaml", "context": 1}}, None),
        (
            {"cl_splits": 0, "cache": "disk", "cache_views": 4, "pretrain": {"epochs": 3, "head": "gap"}},
            "a run without pre-training does not look at --pretrain-epochs, --pretrain-head, --cache, --cache-views",
        ),
        (
            {"cl_splits": 1, "cache_views": 4, "pretrain": {"source": "objects"}},
            "a run in which no stage and no classifier could read cached features does not look at --cache-views",
        ),
        (
            {"cl_splits": 1, "baselines": ["e2e"], "cache": "disk", "pretrain": {"source": "objects"}},
            "a run in which no stage and no classifier could read cached features does not look at --cache",
        ),
        ({"cl_splits": 0, "pretrain": {"holdout": 0.3}}, None),
        (
            {
                "pretrain_only": True,
                "pretrain": {"source": "objects"},
                "detector": "ssd",
                "multi_scale": 0.5,
                "train": {"epochs": 3, "lr": 1e-5},
                "loss": {"box": 5},
                "augment": {"fliplr": 0, "mosaic": 1},
            },
            "a run without a detector does not look at --detector, --multi-scale, --lr, --loss-box, --augment-mosaic",
        ),
        (
            {"pretrain_only": True, "pretrain": {"source": "objects", "epochs": 2}, "train": {"epochs": 3}},
            "a run without a detector does not look at --epochs",
        ),
        (
            {"init": "timm", "init_freeze": True, "pretrain": {"source": "objects", "clip": 1, "epochs_step": 1}},
            "a run of classifiers on fixed weights does not look at --pretrain-epochs-step, --pretrain-clip",
        ),
        (
            {"pretrain": {"source": "objects", "head": "gap", "head_convs": 0}},
            "the head gap does not look at --pretrain-head-convs",
        ),
    ],
)
def test_what_pre_training_does_not_look_at_is_said(recipe: dict[str, object], wanted: str | None) -> None:
    assert unread_before(Recipe.model_validate(recipe)) == ([wanted] if wanted else [])
