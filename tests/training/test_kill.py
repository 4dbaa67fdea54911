"""Processes killed at every kind of moment, and what becomes of the run."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CASCADE, ROOT, Script, same_weights, write_yaml
from PIL import Image
from warm import Warm

import train

MINE = Path(__file__).with_name("dying_train.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it said of it."""

    returncode: int
    stderr: str


Dying = Callable[..., Ended]
Started = Callable[..., Warm]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    """train.py until an event, in a process of its own: started("step", 3, *flags, MASTER_PORT="1234")."""
    begun: list[Warm] = []

    def start(event: str, count: int, *flags: object, rank: int = 0, **more: str) -> Warm:
        environment = ENVIRONMENT | more | {"MINE": f"{event} {count} {rank}"}
        said = tmp_path / f"stderr{len(begun)}"
        begun.append(Warm(MINE, *flags, environment=environment, stdout=Path(os.devnull), stderr=said))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()


@pytest.fixture
def dying(started: Started) -> Dying:
    """The same, waited for."""

    def run(event: str, count: int, *flags: object) -> Ended:
        process = started(event, count, *flags)
        return Ended(process.end(), process.stderr.read_text())

    return run


def final(project: Path, name: str) -> Path:
    return project / "train" / name / "weights" / "backbone_cl3.pt"


@pytest.fixture(scope="module")
def boxes_yaml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data yaml of 96 training and 32 test pictures with a bright box each: 96 objects of two classes to cut out."""
    root, draw = tmp_path_factory.mktemp("boxes"), np.random.default_rng(0)
    for split, count in (("train", 96), ("test", 32)):
        (root / split).mkdir()
        for number in range(count):
            pixels, label = draw.integers(0, 120, (32, 32, 3), np.uint8), number % 2
            pixels[8:22, 8 : 18 + 8 * label] += 100
            Image.fromarray(pixels).save(root / split / f"{number}.png")
            (root / split / f"{number}.txt").write_text(
                f"{label} {(13 + 4 * label) / 32} 0.46875 {(10 + 8 * label) / 32} 0.4375"
            )
    keys = {"format": "yolo", "train": "train", "val": "test", "test": "test", "names": ["narrow", "wide"]}
    return write_yaml(root / "boxes.yaml", path=str(root), **keys)


@pytest.fixture
def one_thread() -> None:
    """As many threads as the child processes have: sums are then made in the same order."""
    torch.set_num_threads(1)


@pytest.mark.usefixtures("one_thread")
def test_killed_anywhere_and_resumed_is_bit_equal(
    boxes_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    """Of objects that are cut out, another view each time."""
    draws = ["--pretrain-jitter", 0.2, "--augment-fliplr", 0.5, "--augment-photometric", 0.5, "--cache-views", 2]
    flags = ["--data", boxes_yaml, "--project", tmp_path, *CASCADE, *draws, "--pretrain-only", "--cache", "disk"]
    script(train, *flags, "--name", "whole")
    resume = ["--resume", tmp_path / "train" / "cut"]
    # An epoch has 5 steps, a stage 2 epochs; its training cache is filled in 5 steps.
    ended = [dying("step", 3, *flags, "--name", "cut")]  # inside an epoch
    ended.append(dying("write", 4, *resume))  # while a checkpoint is written
    ended.append(dying("stage", 1, *resume))  # between two stages
    ended.append(dying("fill", 4, *resume))  # while the cache is filled
    ended.append(dying("step", 6, *resume))  # right after an epoch's first batch, from a cache on disk
    assert [process.returncode for process in ended] == [-signal.SIGKILL] * 5, ended[-1].stderr
    assert not final(tmp_path, "cut").exists()
    script(train, *resume)
    assert same_weights(final(tmp_path, "whole"), final(tmp_path, "cut"))
    files = [
        {path.relative_to(run) for path in run.rglob("*") if not path.name.startswith("events.")}
        for run in (tmp_path / "train" / name for name in ("whole", "cut"))
    ]
    assert files[0] == files[1], "nothing is left behind"
    rows = [(tmp_path / "train" / name / "pretrain.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [row.split(",")[:5] for row in rows[0]] == [row.split(",")[:5] for row in rows[1]]


@pytest.mark.usefixtures("one_thread")
def test_killed_while_heads_learn_on_a_fixed_network(
    corners_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    """In the midst of filling their cache."""
    probes = ["--cl-splits", 2, "--baselines", "e2e", "--pretrain-head", "gap", "--cache", "disk"]
    flags = ["--data", corners_yaml, "--project", tmp_path, *CASCADE, *probes]
    script(train, *flags, "--name", "whole")
    ended = dying("fill", 10, *flags, "--name", "cut")  # the second stage has filled 5 steps of training, 2 to judge
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert [path.name for path in (tmp_path / "train" / "cut" / "cache" / "node0").iterdir()] == ["train_e2e_probes"]
    script(train, "--resume", tmp_path / "train" / "cut")
    heads = [tmp_path / "train" / name / "weights" / "e2e_probes.pt" for name in ("whole", "cut")]
    assert same_weights(*heads)


@pytest.mark.usefixtures("one_thread")
def test_asked_to_leave_it_saves_and_leaves(corners_yaml: Path, tmp_path: Path, script: Script, dying: Dying) -> None:
    flags = ["--data", corners_yaml, "--project", tmp_path, *CASCADE]
    script(train, *flags, "--name", "whole")
    ended = dying("term", 13, *flags, "--name", "cut")
    assert ended.returncode == 128 + signal.SIGTERM
    assert ended.stderr.strip() == "stopped by SIGTERM"
    position = torch.load(tmp_path / "train" / "cut" / "weights" / "last.pt", weights_only=True)["position"]
    assert (position["task"], position["within"]["epoch"], position["within"]["batch"]) == ("stage2", 0, 3)
    script(train, "--resume", tmp_path / "train" / "cut")
    assert same_weights(final(tmp_path, "whole"), final(tmp_path, "cut"))


@pytest.mark.usefixtures("one_thread")
def test_a_signal_to_all_processes_saves_and_leaves(corners_yaml: Path, tmp_path: Path) -> None:
    """As a batch system does: those that read images go at once, in the midst of whatever the others do."""
    flags = ["--data", corners_yaml, "--project", tmp_path, *CASCADE, "--pretrain-epochs", 40, "--workers", 1]
    environment = ENVIRONMENT | {"MINE": f"step {10**6} 0"}
    process = Warm(
        MINE, *flags, "--cache", "off", "--name", "cut", environment=environment, stdout=Path(os.devnull),
        stderr=tmp_path / "said", session=True,
    )  # fmt: skip
    last = tmp_path / "train" / "cut" / "weights" / "last.pt"
    while not last.exists():
        assert process.goes_on, process.stderr.read_text()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGTERM)
    code, said = process.end(60), process.stderr.read_text()
    assert (code, said.strip()) == (128 + signal.SIGTERM, "stopped by SIGTERM")
    assert torch.load(last, weights_only=True)["position"]["task"] == "stage1"


def test_resume_under_another_recipe_is_refused(corners_yaml: Path, tmp_path: Path, dying: Dying) -> None:
    flags = ["--data", corners_yaml, "--project", tmp_path, *CASCADE]
    assert dying("step", 3, *flags).returncode == -signal.SIGKILL
    run = tmp_path / "train" / "exp"
    ended = dying("step", 1, "--resume", run, "--pretrain-lr", 0.5, "--seed", 0, "--cl-splits", 2)
    assert ended.returncode == 2
    assert "cl_splits is 3, not 2; pretrain.lr is 0.001, not 0.5" in ended.stderr
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 5"))
    ended = dying("step", 1, "--resume", run)
    assert ended.returncode == 2
    assert "seed is 0, not 5" in ended.stderr


def ranks(*flags: object) -> list[object]:
    return [*flags, "--devices", 2]


@pytest.mark.usefixtures("one_thread")
def test_two_processes_are_one_with_the_same_batch(
    boxes_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    # Adaptive steps would blow up rounding: the biases in front of BatchNorm have no gradient but that.
    flags = ["--data", boxes_yaml, "--project", tmp_path, *CASCADE, "--pretrain-only", "--pretrain-optimizer", "sgd"]
    script(train, *flags, "--name", "one")
    ended = dying("step", 10**6, *ranks(*flags), "--name", "two")
    assert ended.returncode == 0, ended.stderr
    one, two = (torch.load(final(tmp_path, name), weights_only=True) for name in ("one", "two"))
    for name, tensor in one["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, atol=1e-4, rtol=1e-4, msg=name)
    for own, other in zip(one["metrics"], two["metrics"], strict=True):
        assert own["loss"] == pytest.approx(other["loss"], abs=1e-4)


def on_two_machines(started: Started, event: str, count: int, *flags: object) -> list[Warm]:
    """Two processes that only know each other's address, as on two machines; the event is the second one's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    return [
        started(event, count, *flags, "--num-nodes", 2, rank=1, NODE_RANK=str(node), **address) for node in range(2)
    ]


def test_two_machines_asked_to_leave_then_one_of_them_dies(
    corners_yaml: Path, tmp_path: Path, started: Started, dying: Dying
) -> None:
    flags = ["--data", corners_yaml, "--project", tmp_path, *CASCADE, "--cache", "disk"]
    assert dying("step", 10**6, *ranks(*flags), "--name", "whole").returncode == 0
    resume = ["--resume", tmp_path / "train" / "cut"]
    for process in on_two_machines(started, "term", 7, *flags, "--name", "cut"):  # the signal reaches one of them only
        assert process.end(60) == 128 + signal.SIGTERM
        assert process.stderr.read_text().strip() == "stopped by SIGTERM"
    left, dead = on_two_machines(started, "step", 6, *resume)
    assert dead.end(60) == -signal.SIGKILL
    code, said = left.end(60), left.stderr.read_text()
    assert code == 2, said
    assert f"rank 1 ({socket.gethostname()}, process {dead.pid}) died or cannot be reached" in said, said
    assert not final(tmp_path, "cut").exists()
    for process in on_two_machines(started, "full", 1, *resume):  # one has no room for features: both do without
        assert process.end() == 0, process.stderr.read_text()
    assert same_weights(final(tmp_path, "whole"), final(tmp_path, "cut"))


DETECTOR = ("--cl-splits", 0, "--width", 0.0625, "--imgsz", 64, "--epochs", 2, "--val-every", 2, "--batch-size", 2,
            "--nominal-batch", 4, "--device", "cpu", "--precision", "fp32", "--workers", 0,
            "--cache-images", "disk")  # fmt: skip


@pytest.mark.usefixtures("one_thread")
def test_detector_killed_and_resumed_is_bit_equal(
    scenes_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    mixed = ("--augment-mosaic", 0.7, "--augment-mixup", 0.5, "--augment-closing", 0, "--multi-scale", 0.5)
    flags = ["--data", scenes_yaml, "--project", tmp_path, *DETECTOR, *mixed]
    script(train, *flags, "--name", "whole")
    assert dying("step", 7, *flags, "--name", "cut").returncode == -signal.SIGKILL  # amid the second epoch
    script(train, "--resume", tmp_path / "train" / "cut")
    assert same_weights(*(tmp_path / "train" / name / "weights" / "best.pt" for name in ("whole", "cut")))


@pytest.mark.usefixtures("one_thread")
def test_detector_of_two_processes_is_that_of_one(
    scenes_yaml: Path, tmp_path: Path, script: Script, dying: Dying
) -> None:
    flags = ["--data", scenes_yaml, "--project", tmp_path, *DETECTOR, "--optimizer", "sgd", "--lr", 1e-4]
    flags += ["--multi-scale", 0.25, "--imgsz", 128]
    script(train, *flags, "--name", "one")
    ended = dying("step", 10**6, *ranks(*flags), "--name", "two")
    assert ended.returncode == 0, ended.stderr
    one, two = (
        torch.load(tmp_path / "train" / name / "weights" / "best.pt", weights_only=True)["model"]
        for name in ("one", "two")
    )
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-4, rtol=1e-4, msg=name)
