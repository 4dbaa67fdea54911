"""Shared material: small data sets, and one detector trained by the real script."""

import fcntl
import gc
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
import yaml

import export
import train
from benchmarks.workload import write_corners
from data import sample
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import make_plan
from utils import checkpoint
from utils.config import Recipe
from utils.console import console

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
Script = Callable[..., None]
Writer = Callable[..., Path]
DIGITS = list("0123456789")


Once = Callable[[str, Callable[[Path], object]], Path]


def pytest_collection_finish() -> None:
    """The half million objects of imported libraries are no garbage: to look at them takes a quarter of a second."""
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Libraries that count their own objects complain at the end of those that stayed."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """Gives a folder that the first of all test processes fills: once("runs", fill)."""
    own = tmp_path_factory.getbasetemp()
    root = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def find(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = root / name, root / f"{name}.done"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return find


@pytest.fixture(scope="session")
def scenes(once: Once) -> Path:
    """Folder of a small built-in data set: 8 training, 4 validation, 4 test scenes."""
    return once("data", lambda folder: sample.write(folder / "scenes", size=sample.SampleSize(8, 4, 4))) / "scenes"


@pytest.fixture(scope="session")
def scenes_yaml(scenes: Path, once: Once) -> Path:
    """Its data yaml."""
    return once("yaml", lambda folder: write_yaml(folder / "scenes.yaml", path=str(scenes))) / "scenes.yaml"


def write_yaml(file: Path, /, **changes: object) -> Path:
    """A data yaml like the sample's, with changes; None drops a key."""
    content = yaml.safe_load((ROOT / "data" / "sample.yaml").read_text()) | {"scenes": None} | changes
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
def corners_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data yaml of 96 training and 32 test images of 32 × 32 in CIFAR's npz form: which corner is bright?"""
    return write_corners(tmp_path_factory.mktemp("corners"))


# A cascade of three stages within a second; nothing is drawn at random but weights and order.
NO_DRAWS = ("--pretrain-crop", "1", "--pretrain-jitter", "0", "--augment-fliplr", "0", "--augment-photometric", "0")
CASCADE = ("--backbone", "cnn6", "--width", "0.0625", "--cl-splits", "3", "--imgsz", "32", "--pretrain-epochs", "2",
           "--pretrain-batch-size", "20", "--device", "cpu", "--precision", "fp32", "--workers", "0",
           *NO_DRAWS)  # fmt: skip


def same_weights(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same model, bit for bit."""
    models = [torch.load(path, weights_only=True)["model"] for path in (one, other)]
    return models[0].keys() == models[1].keys() and all(
        torch.equal(models[0][key], models[1][key]) for key in models[0]
    )


@pytest.fixture(scope="session")
def overfitted(scenes: Path, once: Once) -> Path:
    """Project folder with a run of width 1/8 that learnt its 8 training scenes by heart."""

    def fill(project: Path) -> None:
        data = write_yaml(project / "overfit.yaml", path=str(scenes), val="train", test=None)
        flags = ["--recipe", ROOT / "configs" / "sample.yaml", "--data", data, "--project", project, *TINY]
        schedule = [
            "--pretrain-source",
            "pictures",
            "--pretrain-epochs",
            1,
            "--epochs",
            60,
            "--batch-size",
            4,
            "--lr",
            3e-3,
            "--val-every",
            15,
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["train.py", *map(str, [*flags, *schedule])])
            train.main()

    return once("runs", fill)


@pytest.fixture(scope="session")
def exported(overfitted: Path, once: Once) -> Path:
    """ONNX file of that detector, in the default layout."""
    name = "exported.onnx"

    def fill(folder: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["export.py", *map(str, ["--project", overfitted, "--file", folder / name])])
            export.main()

    return once("exported", fill) / name


@pytest.fixture
def unpictured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations draw no curves and pictures: that takes longer than finding the boxes of a few images."""
    monkeypatch.setattr("evaluation.average_precision.save_pictures", lambda *_: None)


@pytest.fixture
def older_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.export fails, and its predecessor writes; within two seconds instead of ten."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("not today")

    monkeypatch.setattr("deployment.export.export_traced", fails)


@pytest.fixture
def traced_before(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch.export makes of that detector is not made again."""
    monkeypatch.setattr("deployment.export.export_traced", lambda _, __, path, **___: shutil.copyfile(exported, path))


TAUGHT = {"auc": 0.9, "low": 0.8, "high": 0.95, "chance": 0.5, "majority": 0.5, "learnt": 1.0}  # says a stage


def recipe_of(**values: Any) -> dict[str, Any]:
    """A recipe as checkpoints hold it."""
    return Recipe.model_validate(values).model_dump(mode="json")


def content_of(data: Path, method: str, seed: int, backbone: str, k: int, imgsz: int, head: str) -> dict[str, Any]:
    """What a run of pre-training would leave, untrained."""
    torch.manual_seed(seed)
    network = make_backbone(backbone, 0.125)
    plan = make_plan(network, k, imgsz)
    heads = [make_head(head, part.shape, len(DIGITS), convs=1) for part in plan]
    return {
        "kind": "backbone",
        "backbone": backbone,
        "width": 0.125,
        "names": DIGITS,
        "recipe": recipe_of(data=str(data), seed=seed, imgsz=imgsz, cl_splits=k, pretrain={"head": head}),
        "method": method,
        "splits": [[part.start, part.stop] for part in plan],
        "heads": [own.state_dict() for own in heads],
        "head": {"name": head, "convs": 1},
        "shapes": [list(part.shape) for part in plan],
        "single_label": False,
        "view": {"source": "pictures", "imgsz": imgsz, "fit": "letterbox", "context": 0.0},
        "detector_imgsz": imgsz,
        "metrics": [TAUGHT for _ in plan],
        "model": network.state_dict(),
    }


def write_backbone(
    folder: Path,
    data: Path,
    method: str,
    *,
    seed: int = 0,
    backbone: str = "cnn6",
    k: int = 6,
    imgsz: int = 64,
    head: str = "author",
    **changes: Any,
) -> Path:
    """An untrained backbone file with changes; None drops a key."""
    path = folder / f"seed{seed}" / f"backbone_{method}_{head}.pt"
    path.parent.mkdir(exist_ok=True)
    content = content_of(data, method, seed, backbone, k, imgsz, head) | changes
    checkpoint.save(path, {key: value for key, value in content.items() if value is not None})
    return path


def perturb_less(patch: pytest.MonkeyPatch) -> None:
    """LIME with a tenth of its samples, for tests that do not look at how good it is."""
    from maps.lime import SAMPLES, Perturbations

    patch.setattr(Perturbations, "draw", partial(Perturbations.draw, samples=SAMPLES // 10))


@pytest.fixture
def written(scenes_yaml: Path, tmp_path: Path) -> Writer:
    """Writes a backbone file with changes: written("cl6", seed=1, names=[…])."""

    def write(method: str, *, data: Path = scenes_yaml, **changes: Any) -> Path:
        return write_backbone(tmp_path, data, method, **changes)

    return write


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _console_says_it_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that was run in this process has left the console with the streams of its test."""
    monkeypatch.setattr(console, "_file", None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Address of a web server of the folder tmp_path/web."""
    (tmp_path / "web").mkdir()
    handler = partial(QuietHandler, directory=str(tmp_path / "web"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""
