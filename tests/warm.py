"""Processes that start within a moment: forked from one that has imported what training needs, seconds' worth of it."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = ["warm", "train", "val", "training.run", "training.ranks", "lightning_fabric", "torch.utils.tensorboard"]


def warm_up() -> None:
    """Start the process that the others are forked from, with one thread for torch, unless it runs already."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    with mock.patch.dict(os.environ, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}):
        CONTEXT.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()


class Warm:
    """`python COMMAND`, begun; its outputs are appended to files."""

    def __init__(self, *command: object, environment: Mapping[str, str], stdout: Path, stderr: Path) -> None:
        warm_up()
        self.stderr = stderr
        arguments = (list(map(str, command)), dict(environment), stdout, stderr)
        self._process = CONTEXT.Process(target=run, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def end(self, timeout: float = 120) -> int:
        """Wait for it; its exit code, negative for a signal.

        Raises:
            TimeoutError: it goes on; it is killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"no end after {timeout} seconds: {self.stderr.read_text()}")
        return self._process.exitcode

    def kill(self) -> None:
        """If it goes on, it does not."""
        self._process.kill()


def run(command: list[str], environment: dict[str, str], stdout: Path, stderr: Path) -> None:
    """What the forked process does."""
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.argv = command
    runpy.run_path(command[0], run_name="__main__")
