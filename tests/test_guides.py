"""Every command of the guides, as a reader would type it, on small data: `make guides`, for it takes minutes.

A page's commands run one after another in a copy of the repository. Its built-in data sets have a few scenes, and take
the place of data sets that have to be fetched. Training, studies and benchmarks get flags that make them short.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from torchvision.models import alexnet

from data import sample

pytestmark = pytest.mark.guides

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCENES = {"train": 8, "val": 4, "test": 4}
SHORT = {  # the beginning of a command → what it gets besides
    "python train.py": "--imgsz 64 --epochs 1 --pretrain-epochs 1 --device cpu",
    "python study.py": "--dry-run",
    "python -m benchmarks.interruptions": "--trials 1 --only 'one process'",
    "python -m benchmarks.fuzz": "--count 1",
}
HALF = r"freeze-epochs 0\.5|cifar10_monster"  # commands that fix blocks for half of the epochs: two at least
NARROW = " --width 0.125"  # of the families that have it
OTHERS = ("--help", "--dry-run")  # commands that take no further flags
EXAMPLE = "python train.py --backbone darknet53 --cl-splits 3 --imgsz 64 --epochs 1 --pretrain-epochs 1" + NARROW
CASCADED = (
    "python train.py --backbone cnn6 --cl-splits 6 --baselines e2e --pretrain-only --pretrain-epochs 1 "
    "--pretrain-head gap --imgsz 64 --width 0.125 --name "
)
BEFORE = {  # what a page takes for granted
    "backbones.md": [EXAMPLE],
    "compare.md": [f"{EXAMPLE} --cl-splits 0 --name {name}" for name in ("one", "two", "three")],
    "boxes.md": [CASCADED + "mine"],
    "cascade.md": [EXAMPLE],
    "detector_maps.md": [EXAMPLE],
    "export.md": [EXAMPLE],
    "layers.md": [CASCADED + "mine"],
    "maps.md": [EXAMPLE],
}
LEFT_OUT = {  # part of a command → why
    "--download": "fetches weights",
    "--resume": "continues a run that something has stopped: test_kill.py",
    "data.sample\n": "writes 1,280 scenes; a few are there",
    "--import": "written and run by test_extending.py",
    "pip": "installs packages",
    "mlflow": "needs requirements-loggers.txt",
    "wandb": "needs requirements-loggers.txt",
    "venv": "installs packages",
    "chestxray": "needs the pictures of NIH",
    "mine.yaml": "needs the reader's masks",
    "runs/studies": "reads a study of hours",
    "configs/ledger.yaml": "reads the studies of results/",
    "configs/overview.yaml": "reads the studies of results/",
}


def commands(page: Path) -> list[str]:
    """The Python commands in a page's blocks for a shell, of one line each."""
    blocks = re.findall(r"^```(?:bash|sh|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("python ")]


def shortened(command: str) -> str:
    """A command that ends soon."""
    command = command.partition("  #")[0]
    begin = next((begin for begin in SHORT if command.startswith(begin)), None)
    if begin is None or any(flag in command.split() for flag in OTHERS):
        return command
    other_family = re.search(r"--(backbone|preset|recipe) (?!darknet53|cnn6)", command)
    narrow = NARROW if begin == "python train.py" and not other_family and "zoo:" not in command else ""
    short = SHORT[begin].replace("epochs 1", "epochs 2") if re.search(HALF, command) else SHORT[begin]
    return f"{command} {short}{narrow}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository, with small data and what pages say is the reader's own."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".git", ".venv", "runs", "site", "sets", "__pycache__")
    shutil.copytree(ROOT, folder, ignore=ignored)
    small = yaml.safe_load((folder / "data" / "sample.yaml").read_text()) | {"scenes": SCENES}
    for path in (folder / "data").glob("*.yaml"):
        content = yaml.safe_load(path.read_text())
        if "scenes" in content:
            path.write_text(yaml.safe_dump(content | {"scenes": SCENES}))
        elif "shared/data" in path.read_text():
            path.write_text(yaml.safe_dump(small))
    sample.write(folder / "data" / "sets" / "sample", size=sample.SampleSize(**SCENES))
    own = folder / "mine"
    sample.write(own, size=sample.SampleSize(**SCENES))
    (own / "data.yaml").write_text(yaml.safe_dump(small | {"path": "."}))
    for name in ("photos", "mine/photos"):
        shutil.copytree(own / "JPEGImages", folder / name)
    torch.save(alexnet(weights=None).state_dict(), folder / "alexnet.pth")
    return folder


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_commands_run(page: Path, copy: Path) -> None:
    run = [own for own in commands(page) if not any(part in f"{own}\n" for part in LEFT_OUT)]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    failed = []
    for command in [*BEFORE.get(page.name, []), *map(shortened, run)]:
        done = subprocess.run(
            ["bash", "-c", command], cwd=copy, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        if done.returncode:
            failed.append(f"$ {command}\n{done.stdout[-300:]}{done.stderr[-600:]}")
    assert not failed, "\n".join(failed)
