"""A segmenter from its training to its pictures, by the real scripts."""

import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Once, Script, same_weights, write_yaml
from PIL import Image
from test_kill import Dying, dying, one_thread, ranks, started

import detect
import export
import train
import val
from data.description import load_description
from data.formats import read_split
from data.seen import numbers
from models.segmented import Segmented
from models.segmenter import is_segmenter, load_segmenter
from training.finished import Run
from training.start import train as train_in_python
from utils.checkpoint import TRAINED_ON
from utils.config import Recipe
from utils.errors import UserError
from utils.palette import palette
from utils.recipes import LATER

__all__ = ["dying", "one_thread", "started"]  # fixtures of the tests of killed processes
FLAGS = ("--task", "segment", "--width", 0.0625, "--imgsz", 64, "--batch-size", 2, "--device", "cpu", "--precision",
         "fp32", "--workers", 0)  # fmt: skip


@pytest.fixture(scope="session")
def segmented(scenes: Path, once: Once) -> Path:
    """Project folder with a run that learnt some of its 8 training scenes, cascade first."""

    def fill(project: Path) -> None:
        data = write_yaml(project / "s.yaml", path=str(scenes), val="train", test=None)
        train_in_python(
            None, data=data, task="segment", cl_splits=3, pretrain_epochs=1, width=0.125, imgsz=96, epochs=16,
            batch_size=4, lr=5e-3, val_every=8, device="cpu", precision="fp32", workers=0, project=project,
            augment_crop=0, augment_fliplr=0, augment_photometric=0, quiet=True,
        )  # fmt: skip

    return once("segmented", fill)


def test_it_learns_from_a_cascaded_backbone(
    segmented: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    run = segmented / "train" / "exp"
    assert is_segmenter(run / "weights" / "last.pt")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["task"] == "segment"
    learnt = numbers(read_split(load_description(Run.open(run).recipe.data), "train").records)
    assert torch.load(run / "weights" / "best.pt", weights_only=True)[TRAINED_ON].tolist() == sorted(learnt)
    assert len(metrics["pretrain"]["cl3"]) == 3
    script(val, "--segment", "--project", segmented, "--bootstrap", 20, "--json", segmented / "figures.json")
    figures = json.loads((segmented / "figures.json").read_text())
    assert figures["split"] == "val"
    assert figures["miou"] == pytest.approx(metrics["miou"], abs=1e-3)
    assert figures["per_class"]["background"]["iou"] > 0.75
    assert figures["accuracy"] > 0.75 > 0.72, "all background would be right at 72 %"
    assert figures["miou"] > 0.15 > 0.066, "and have this mean IoU"
    low, high = figures["intervals"]["miou"]
    assert low <= figures["miou"] <= high or low < high
    out = capsys.readouterr().out
    assert "mean IoU" in out
    assert "n/(n+e)" in out
    folder = sorted((segmented / "val").iterdir())[-1]
    assert {path.name for path in folder.iterdir()} == {
        "metrics.json",
        "summary.txt",
        "confusion.png",
        "predictions.jpg",
    }


def test_its_masks_are_drawn_and_written(
    segmented: Path, scenes: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scenes / "JPEGImages" / "train_00003.jpg"
    weights = segmented / "train" / "exp" / "weights" / "best.pt"
    script(detect, "--weights", weights, "--source", picture, "--save-mask", "--project", tmp_path)
    folder = tmp_path / "detect" / "exp"
    assert f"1 image segmented; written to {folder}" in capsys.readouterr().out
    with Image.open(folder / "masks" / "train_00003.png") as mask:
        assert mask.getpalette() == palette().ravel().tolist()
        found = np.asarray(mask)
    segmenter = Run.open(segmented / "train" / "exp").segmenter
    assert load_segmenter(weights).names == segmenter.names
    own = segmenter.predict(picture)
    assert np.array_equal(own.mask, found)
    assert set(np.unique(found)) > {0}
    assert set(own.shares) == {segmenter.names[number - 1] for number in np.unique(found) if number}
    drawn, plain = (np.asarray(Image.open(path), np.int16) for path in (folder / "train_00003.jpg", picture))
    far = np.abs(drawn - plain).max(-1) > 40
    assert far[found > 0].mean() > 4 * far[found == 0].mean()


@pytest.mark.usefixtures("older_exporter")
def test_its_onnx_file_says_the_same(
    segmented: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = segmented / "train" / "exp" / "weights" / "best.pt"
    for format_ in ("onnx", "torchscript"):
        script(export, "--weights", weights, "--file", tmp_path / f"s.{format_}", "--format", format_)
        out = capsys.readouterr().out
        assert "batch 3, 96×128" in out
        assert (format_ == "onnx") == ("TorchScript exporter, since torch.export failed: not today" in out)
        assert float(out.split("largest difference ")[1].split(",")[0]) < 1e-4


def test_what_does_not_go_together(segmented: Path, scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    weights = segmented / "train" / "exp" / "weights" / "best.pt"
    assert is_segmenter(weights)
    assert not is_segmenter(tmp_path / "none.pt")
    for module, flags, what in (
        (detect, ["--save-txt"], "--save-txt: .* is a segmenter, which does not look at it"),
        (detect, ["--precision", "fp16"], "--precision: .* is a segmenter"),
        (detect, ["--conf-thres", "0.5"], "--conf-thres: .* is a segmenter"),
        (detect, ["--iou-thres", "0.5"], "--iou-thres: .* is a segmenter"),
        (detect, ["--max-det", "3"], "--max-det: .* is a segmenter"),
        (export, ["--nms"], "--nms: .* is a segmenter, which does not look at it"),
        (export, ["--conf-thres", "0.5"], "--conf-thres: .* is a segmenter"),
        (export, ["--format", "darknet"], "a segmenter is not written as darknet"),
        (val, ["--map"], "holds `segmenter`, not `detector`"),
        (val, ["--segment", "--conf-thres", "0.5"], "is for --map and --localise, and this is --segment"),
    ):
        with pytest.raises(UserError, match=what):
            script(module, "--weights", weights, *flags, *([] if module is export else ["--project", tmp_path]))
    for flags, what in (
        (["--backbone", "cnn6"], "fcn8s reads features at stride 32, 16, 8; the backbone has 0 taps"),
        (["--fcn", "fcn4s"], "no fully convolutional head `fcn4s`"),
        (["--fcn", "fcn8s:thawed"], "no option `thawed`"),
        (["--task", "paint"], "'paint'"),
        (["--data", write_yaml(tmp_path / "d.yaml", path=str(scenes_yaml.parent), masks="no")], "no"),
    ):
        with pytest.raises(UserError, match=what):
            script(train, *FLAGS, "--data", scenes_yaml, "--project", tmp_path, *flags)
    assert not (tmp_path / "train").exists()
    assert not (tmp_path / "val").exists()


def test_digests_of_former_recipes_stay() -> None:
    assert {key: Recipe.model_fields[key].default for key in ("task", "fcn")} == {
        key: LATER[key] for key in ("task", "fcn")
    }


@pytest.mark.parametrize(
    ("options", "what"),
    [({"batch_size": 0}, "batch_size: 0 — give 1 or more"), ({"imgsz": 100}, "`100`"), ({"imgsz": 0}, "`0`")],
)
def test_options_of_a_stream_are_checked_first(segmented: Path, options: dict[str, int], what: str) -> None:
    with pytest.raises(UserError, match=what):
        Run.open(segmented / "train" / "exp").segmenter.stream([], **options)


@pytest.mark.parametrize("save", ["save", "save_mask"])
def test_only_pictures_are_written(save: str, tmp_path: Path) -> None:
    image = np.zeros((8, 9, 3), np.uint8)
    own = Segmented(image[..., 0], ["cat"], picture=image)
    with pytest.raises(UserError, match=r"deep/x\.txt: is no name for a picture — give one that ends in"):
        getattr(own, save)(tmp_path / "deep" / "x.txt")
    assert not list(tmp_path.iterdir())
    assert getattr(own, save)(tmp_path / "deep" / "x.png").is_file()


RUN = (*FLAGS, "--cl-splits", 0, "--epochs", 2, "--val-every", 2, "--nominal-batch", 4)


def test_it_begins_with_all_of_another(segmented: Path, scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    best = segmented / "train" / "exp" / "weights" / "best.pt"
    flags = ["--data", scenes_yaml, "--project", tmp_path, *RUN, "--width", 0.125, "--init", best]
    script(train, *flags, "--epochs", 1, "--lr", 1e-9)
    before, after = (
        torch.load(path, weights_only=True)["model"] for path in (best, tmp_path / "train/exp/weights/best.pt")
    )
    learnt = [name for name in before if name.startswith(("scores.", "enlarge."))]
    assert len(learnt) == 9
    for name in learnt:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.usefixtures("one_thread")
def test_killed_and_resumed_is_bit_equal(scenes_yaml: Path, tmp_path: Path, script: Script, dying: Dying) -> None:
    flags = ["--data", scenes_yaml, "--project", tmp_path, *RUN, "--augment-zoom-out", 0.5]
    script(train, *flags, "--name", "whole")
    assert dying("step", 7, *flags, "--name", "cut").returncode == -signal.SIGKILL  # amid the second epoch
    script(train, "--resume", tmp_path / "train" / "cut")
    assert same_weights(*(tmp_path / "train" / name / "weights" / "best.pt" for name in ("whole", "cut")))


@pytest.mark.usefixtures("one_thread")
def test_two_processes_are_one_with_the_same_batch(
    scenes_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    flags = ["--data", scenes_yaml, "--project", tmp_path, *RUN, "--optimizer", "sgd", "--lr", 1e-4, "--fcn", "fcn16s"]
    script(train, *flags, "--name", "one")
    ended = dying("step", 10**6, *ranks(*flags), "--name", "two")
    assert ended.returncode == 0, ended.stderr
    one, two = (
        torch.load(tmp_path / "train" / name / "weights" / "best.pt", weights_only=True) for name in ("one", "two")
    )
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, atol=1e-4, rtol=1e-3, msg=name)
    assert two["metrics"]["miou"] == pytest.approx(one["metrics"]["miou"], abs=0.02)


def test_masks_of_another_size_stop_a_strict_run(scenes: Path, tmp_path: Path, script: Script) -> None:
    shutil.copytree(scenes, tmp_path / "scenes")
    Image.new("P", (9, 9)).save(tmp_path / "scenes" / "SegmentationClass" / "train_00000.png")
    data = write_yaml(tmp_path / "d.yaml", path=str(tmp_path / "scenes"))
    with pytest.raises(
        UserError, match=r"train_00000.png: damaged mask \(the mask is of 9×9, its picture of 256×256\)"
    ):
        script(train, *RUN, "--data", data, "--project", tmp_path, "--strict")
    assert not (tmp_path / "train").exists()
