"""Shared material: small data sets, and one detector trained by the real script."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import train
from data import sample

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
Script = Callable[..., None]


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small built-in data set: 8 training, 4 validation, 4 test scenes."""
    return sample.write(tmp_path_factory.mktemp("data") / "scenes", size=sample.SampleSize(8, 4, 4))


@pytest.fixture(scope="session")
def scenes_yaml(scenes: Path) -> Path:
    """Its data yaml."""
    return write_yaml(scenes.parent / "scenes.yaml", path=str(scenes))


def write_yaml(file: Path, /, **changes: object) -> Path:
    """A data yaml like the sample's, with changes; None drops a key."""
    content = yaml.safe_load((ROOT / "data" / "sample.yaml").read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return file


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    """Run an entry script's main() in this process: script(train, "--epochs", 2)."""

    def run(module: object, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
        module.main()  # type: ignore[attr-defined]

    return run


TINY = ("--width", "0.125", "--imgsz", "128", "--device", "cpu", "--precision", "fp32", "--workers", "0")


@pytest.fixture(scope="session")
def overfitted(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Project folder with a run of width 1/8 that learnt its 8 training scenes by heart."""
    project = tmp_path_factory.mktemp("runs")
    data = write_yaml(scenes.parent / "overfit.yaml", path=str(scenes), val="train", test=None)
    flags = ["--recipe", ROOT / "configs" / "sample.yaml", "--data", data, "--project", project, *TINY]
    schedule = ["--pretrain-epochs", 1, "--epochs", 60, "--batch-size", 4, "--lr", 3e-3, "--val-every", 15]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *map(str, [*flags, *schedule])])
        train.main()
    return project


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
