"""Processes that start within a moment: forked from one that has imported what training needs, seconds' worth of it."""

import inspect
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
CONTEXT = multiprocessing.get_context("forkserver")
PRELOADED = ["warm", "train", "val", "training.start", "lightning_fabric", "torch.utils.tensorboard"]
PRELOADED += ["studies.page", "evaluation.average_precision", "matplotlib.figure", "matplotlib.backends.backend_agg"]


def warm_up() -> None:
    """Start the process that the others are forked from, with one thread for torch, unless it runs already."""
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    with mock.patch.dict(os.environ, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}):
        CONTEXT.set_forkserver_preload(PRELOADED)
        forkserver.ensure_running()


class Warm:
    """`python COMMAND`, begun; its outputs are appended to files. Python scripts that it starts are warm too.

    Args:
        session: it leads a session of its own.
    """

    def __init__(
        self,
        *command: object,
        environment: Mapping[str, str],
        stdout: Path,
        stderr: Path,
        session: bool = False,
    ) -> None:
        warm_up()
        self.stderr = stderr
        arguments = (list(map(str, command)), dict(environment), stdout, stderr, session)
        self._process = CONTEXT.Process(target=run, args=arguments)
        self._process.start()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def goes_on(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.is_alive()

    def end(self, timeout: float = 120) -> int:
        """Wait for it; its exit code, negative for a signal.

        Raises:
            TimeoutError: it continues; it is killed.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"no end after {timeout} seconds: {self.stderr.read_text()}")
        return self._process.exitcode

    def kill(self) -> None:
        """If it continues, it does not."""
        self._process.kill()


def run(command: list[str], environment: dict[str, str], stdout: Path, stderr: Path, session: bool) -> None:
    """What the forked process does."""
    if session:
        os.setsid()
    for number, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    say_to_files()
    subprocess.Popen = Forked  # type: ignore[misc]
    begin(command, environment)


def say_to_files() -> None:
    """Make the standard streams those of descriptors 1 and 2 as they are now: a file, or a pipe, which cannot seek."""
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115


def begin(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run a script as `python COMMAND` would with this environment."""
    from utils import console

    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    console.console.quiet = console.rank() > 0
    sys.argv = list(command)
    runpy.run_path(command[0], run_name="__main__")


class Forked(subprocess.Popen[Any]):
    """A Popen whose python scripts are forks of this process, which has imported torch and not yet computed."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        cold = super()._execute_child  # type: ignore[misc]
        if not isinstance(args, list) or args[0] != sys.executable or not str(args[1]).endswith(".py"):
            cold(args, *rest)
            return
        how = dict(zip(list(inspect.signature(cold).parameters)[1:], rest, strict=True))
        pipes = [how[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")]
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            become([str(word) for word in args[1:]], how, pipes)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]


def become(command: list[str], how: Mapping[str, Any], pipes: Sequence[int]) -> None:
    """What the fork does; it does not come back. `how` and `pipes` as in Popen, pairs of what is read and written."""
    code: object = 1
    try:
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if how["start_new_session"]:
            os.setsid()
        for number, descriptor in enumerate((pipes[0], pipes[3], pipes[5])):
            if descriptor != -1:
                os.dup2(descriptor, number)
        for descriptor in {end for pair in zip(pipes[::2], pipes[1::2], strict=True) if -1 not in pair for end in pair}:
            os.close(descriptor)
        if how["preexec_fn"]:
            how["preexec_fn"]()
        say_to_files()
        begin(command, dict(how["env"] or os.environ))
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
