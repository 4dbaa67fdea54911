"""GoogLeNet's auxiliary classifiers: losses in training, nothing in evaluation."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import NO_DRAWS, Script, same_weights
from test_kill import Dying, dying, one_thread, started

import train
from models.auxiliary import auxiliary_heads
from models.backbones import BACKBONES, make_backbone
from models.cascade import StageNet
from models.heads import make_head
from models.plan import shapes_at
from utils import checkpoint, plugins
from utils.config import Recipe
from utils.errors import UserError
from utils.recipes import without_later

__all__ = ["dying", "one_thread", "started"]  # fixtures of the tests of killed processes
FLAGS = ("--cl-splits", 1, "--imgsz", 32, "--pretrain-epochs", 1, "--pretrain-batch-size", 48, "--device", "cpu",
         "--precision", "fp32", "--workers", 0, "--pretrain-only", "--pretrain-auxiliary", 0.3, *NO_DRAWS)  # fmt: skip
SMALL = """
from dataclasses import replace
from models.backbones import BACKBONES
from models.cnn6 import CNN6
BACKBONES.add(replace(BACKBONES["cnn6"], name="small_aux", make=lambda width: CNN6(width / 16), auxiliary=(2, 4)))
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module that adds a small network with auxiliary classifiers, here alone."""
    monkeypatch.setattr(plugins, "LOADED", {})
    (tmp_path / "small.py").write_text(SMALL)
    yield tmp_path / "small.py"
    BACKBONES.pop("small_aux", None)


@pytest.mark.parametrize("name", ["googlenet", "torchvision/googlenet"])
def test_where_they_stand(name: str) -> None:
    """Behind 4a and 4d: 512 and 528 channels, 14 × 14 cells at 224 pixels (arXiv 1409.4842, §5)."""
    with torch.device("meta"):
        shapes = shapes_at(make_backbone(name), (224, 224))
    assert [shapes[block - 1] for block in BACKBONES.pick(name).auxiliary] == [(512, 14, 14), (528, 14, 14)]


def test_they_run_in_training_alone() -> None:
    """Their logits are those of the features there; blocks behind them hear nothing of their losses."""
    torch.manual_seed(0)
    backbone = make_backbone("googlenet")
    shapes = shapes_at(backbone, (32, 32))
    heads = auxiliary_heads({block: shapes[block - 1] for block in (5, 8)}, 4)
    net = StageNet(backbone, 0, 9, make_head("gap", shapes[-1], 4), auxiliary=heads)
    images = torch.rand(2, 3, 32, 32)
    plain = StageNet(backbone, 0, 9, net.head).eval()
    with torch.no_grad():
        assert torch.equal(net.eval()(images), plain(images))
    found = net.train()(images)
    assert [tuple(own.shape) for own in found] == [(2, 4)] * 3
    found[1].sum().backward()
    given = {name.split(".")[1] for name, own in net.named_parameters() if own.grad is not None}
    assert given == {"0", "1", "2", "3", "4", "5"}  # blocks 1 to 5, and the classifier behind the fifth


@pytest.mark.usefixtures("one_thread")
def test_resumed_is_never_stopped(
    small: Path, corners_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    flags = [*FLAGS, "--data", corners_yaml, "--project", tmp_path, "--import", small, "--backbone", "small_aux"]
    script(train, *flags, "--name", "whole")
    assert dying("step", 2, *flags, "--name", "cut").returncode == -signal.SIGKILL
    script(train, "--resume", tmp_path / "train" / "cut")
    ends = [tmp_path / "train" / name / "weights" / "backbone_cl1.pt" for name in ("whole", "cut")]
    assert same_weights(*ends)
    log = (tmp_path / "train" / "whole" / "pretrain.csv").read_text()
    assert "train/auxiliary" in log
    assert not [name for name in checkpoint.load(ends[0], "backbone")["model"] if "auxiliary" in name]


def test_others_have_none_and_digests_stay(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    with pytest.raises(UserError, match="--pretrain-auxiliary: alexnet has no auxiliary classifiers"):
        script(train, *FLAGS, "--data", corners_yaml, "--project", tmp_path, "--backbone", "alexnet")
    values = Recipe().model_dump(mode="json")
    without_later(values)
    assert "auxiliary" not in values["pretrain"]
