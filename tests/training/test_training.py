import csv
import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, TINY, Script

import train
from models.backbones import make_backbone
from models.cascade import StageNet
from training.fabric import make_fabric, settle
from utils import checkpoint
from utils.config import Recipe
from utils.errors import UserError
from utils.recipes import load_recipe
from utils.runs import FINISHED


def run_of(project: Path, name: str = "exp") -> Path:
    return project / "train" / name


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_overfits_eight_images(overfitted: Path) -> None:
    metrics = json.loads((run_of(overfitted) / "metrics.json").read_text())
    assert metrics["map50"] > 0.9


def test_run_folder_holds_what_it_should(overfitted: Path) -> None:
    run = run_of(overfitted)
    weights = {path.name for path in (run / "weights").iterdir()}
    assert weights >= {"best.pt", "last.pt", "backbone_cl3.pt", "cl3_stage1.pt", "cl3_stage2.pt", "cl3_stage3.pt"}
    for path in (run / "weights").iterdir():
        torch.load(path, weights_only=True)
    assert list((run / "tensorboard").iterdir())
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert recipe["train"]["epochs"] == 60
    stages = read_csv(run / "pretrain.csv")
    assert [row["task"] for row in stages] == ["stage1", "stage2", "stage3"]
    assert all(row[key] for row in stages for key in ("val/auc", "val/map", "val/loss", "train/loss"))
    rows = read_csv(run / "results.csv")
    assert [int(row["epoch"]) for row in rows] == list(range(1, 61))


def test_backbone_file_holds_each_stage(overfitted: Path) -> None:
    run = run_of(overfitted)
    backbone = checkpoint.load(run / "weights" / "backbone_cl3.pt", "backbone")
    assert backbone["splits"] == [[0, 11], [11, 19], [19, 23]]
    assert len(backbone["heads"]) == len(backbone["metrics"]) == 3
    rebuilt = make_backbone("darknet53", 0.125)
    rebuilt.load_state_dict(backbone["model"])
    for number, (start, stop) in enumerate(backbone["splits"], start=1):
        stage = checkpoint.load(run / "weights" / f"cl3_stage{number}.pt", "stage")["model"]
        own = StageNet(rebuilt, start, stop, torch.nn.Identity()).state_dict()
        kept = list(own)
        assert all(torch.equal(own[name], stage[name]) for name in kept), f"stage {number} changed later on"


def test_resumed_run_is_the_uninterrupted_one(
    scenes_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.loop.SAVE_EVERY_S", -1)
    flags = [
        "--data",
        scenes_yaml,
        "--project",
        tmp_path,
        *TINY,
        "--imgsz",
        64,
        "--batch-size",
        4,
        "--pretrain-batch-size",
        16,
    ]
    flags += ["--epochs", 3, "--pretrain-epochs", 2, "--cl-splits", 2]
    script(train, *flags, "--name", "whole")
    real_save, saves = checkpoint.save, []

    def killed_at(count: int) -> None:
        def save(path: Path, content: dict) -> None:
            real_save(path, content)
            saves.append(path)
            if len(saves) == count:
                raise KeyboardInterrupt

        monkeypatch.setattr(checkpoint, "save", save)

    killed_at(2)  # inside the second stage or at its border
    with pytest.raises(KeyboardInterrupt):
        script(train, *flags, "--name", "cut")
    for count in (5, 2):
        saves[:] = []
        killed_at(count)
        with pytest.raises(KeyboardInterrupt):
            script(train, "--resume", "--project", tmp_path)
    monkeypatch.setattr(checkpoint, "save", real_save)
    last = run_of(tmp_path, "cut") / "weights" / "last.pt"
    saved = torch.load(last, weights_only=True)
    assert 0 < saved["seconds"] < 600
    checkpoint.save(last, saved | {"seconds": 7200.0})
    script(train, "--resume", "--project", tmp_path)
    assert 7200 < json.loads((run_of(tmp_path, "cut") / FINISHED).read_text())["seconds"] < 7800
    for name in ("backbone_cl2.pt", "last.pt"):
        whole, cut = (
            torch.load(run_of(tmp_path, run) / "weights" / name, weights_only=True) for run in ("whole", "cut")
        )
        assert whole["model"].keys() == cut["model"].keys()
        assert all(torch.equal(tensor, cut["model"][key]) for key, tensor in whole["model"].items()), name
    tables = [
        [
            {key: value for key, value in row.items() if "seconds" not in key}
            for row in read_csv(run_of(tmp_path, run) / "results.csv")
        ]
        for run in ("whole", "cut")
    ]
    assert tables[0] == tables[1]


def test_reuses_a_backbone_instead_of_pretraining(
    overfitted: Path, scenes_yaml: Path, tmp_path: Path, script: Script
) -> None:
    weights = run_of(overfitted) / "weights" / "backbone_cl3.pt"
    script(
        train, "--data", scenes_yaml, "--project", tmp_path, *TINY, "--imgsz", 64, "--epochs", 1, "--weights", weights,
        "--reuse-upto", "b11", "--freeze",
    )  # fmt: skip
    run = run_of(tmp_path)
    assert not (run / "pretrain.csv").exists()
    trained = checkpoint.load(run / "weights" / "best.pt", "detector")["model"]
    stored = checkpoint.load(weights, "backbone")["model"]
    frozen = [name for name in stored if int(name.split(".")[1]) < 11]
    assert frozen
    assert all(torch.equal(trained[f"backbone.{name}"], stored[name]) for name in frozen)


def test_fewer_images_than_processes(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    flags = ["--data", scenes_yaml, "--project", tmp_path, *TINY, "--cl-splits", 0, "--batch-size", 9, "--devices", 9]
    with pytest.raises(UserError, match="--devices: 9 processes for 8 training images — give fewer processes, or more"):
        script(train, *flags, "--dry-run")


def test_gradients_that_are_not_finite_stop_the_run(
    scenes_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite, and so were the weights: what would be saved is not."""

    class Infinite(torch.autograd.Function):
        @staticmethod
        def forward(context: object, value: torch.Tensor) -> torch.Tensor:
            return value.clone()

        @staticmethod
        def backward(context: object, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return gradient * math.inf

    monkeypatch.setattr("models.loss.YOLOLoss.forward", lambda self, raw, truth: {"box": Infinite.apply(raw[0].sum())})
    flags = ["--data", scenes_yaml, "--project", tmp_path, *TINY, "--imgsz", 64, "--cl-splits", 0, "--epochs", 1]
    with pytest.raises(UserError, match=r"epoch 1, batch 1: gradients are not finite, loss is .* on train_0000\d\.jpg"):
        script(train, *flags)
    assert not list(run_of(tmp_path).glob("weights/last.pt"))


def test_loss_that_is_not_finite_stops_the_run(
    scenes_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.loss.YOLOLoss.forward", lambda self, raw, truth: {"box": raw[0].sum() * math.nan})
    flags = ["--data", scenes_yaml, "--project", tmp_path, *TINY, "--imgsz", 64, "--cl-splits", 0, "--epochs", 1]
    with pytest.raises(UserError, match=r"detector, epoch 1, batch 1: loss is .* on train_0000\d\.jpg, train"):
        script(train, *flags)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precisions_on_the_cpu(precision: str) -> None:
    fabric = make_fabric(settle(Recipe(device="cpu", precision=precision)))
    assert fabric.strategy.precision.precision.startswith({"fp32": "32", "bf16": "bf16"}[precision])


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        settle(Recipe(device="cpu", precision="fp16"))


def test_demo_recipe_is_valid() -> None:
    recipe = load_recipe(ROOT / "configs" / "sample.yaml", {})
    assert (recipe.width, recipe.cl_splits, recipe.train.lr) == (1, 3, 2e-3)
