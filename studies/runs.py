"""The runs of a study: what is done, what is left, and doing it, one process after another."""

import ctypes
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from studies.recipe import Cell, Study
from utils.config import ROOT, Recipe, differences, load_recipe, save_recipe
from utils.errors import Stopped, UserError
from utils.files import make_folder
from utils.runs import BEST, FINISHED

AUTO = "auto"
PATIENCE = 60  # seconds
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


class State(StrEnum):
    """How far a cell is."""

    OPEN = "not run"
    BEGUN = "interrupted"
    TRAINED = "trained"
    DONE = "done"
    FAILED = "failed"


def run_folder(study: Study, cell: Cell) -> Path:
    """Of the training run."""
    return study.folder / "train" / cell.name


def values_file(study: Study, cell: Cell) -> Path:
    """Metrics on the split that is reported."""
    return study.folder / "values" / f"{cell.name}.json"


def log_file(study: Study, cell: Cell) -> Path:
    """All that the cell's processes printed."""
    return study.folder / "logs" / f"{cell.name}.txt"


def state(study: Study, cell: Cell) -> State:
    """How far a cell is, by its files."""
    if values_file(study, cell).exists():
        return State.DONE
    folder = run_folder(study, cell)
    if (folder / FINISHED).exists():
        return State.TRAINED
    if (study.folder / "failed" / cell.name).exists():
        return State.FAILED
    return State.BEGUN if (folder / "recipe.yaml").exists() else State.OPEN


def check_made(study: Study, cell: Cell) -> None:
    """Refuse to mix runs of two versions of a recipe.

    Raises:
        UserError: the cell's run was made under another recipe; says which fields.
    """
    path = run_folder(study, cell) / "recipe.yaml"
    if not path.exists():
        return
    made = load_recipe(path, {})
    free = {key for key in Recipe.model_fields if getattr(cell.recipe, key) == AUTO} | {"devices", "num_nodes"}
    wanted = cell.recipe.model_copy(update={key: getattr(made, key) for key in free})
    if fields := differences(made, wanted):
        mend = f"restore the recipe of {study.yaml.name}, or move {run_folder(study, cell)} away"
        raise UserError("; ".join(fields), where=path, mend=mend)


def commands(study: Study, cell: Cell) -> dict[str, list[str]]:
    """What trains and judges a cell, as one would type it in the project's folder; `resume` goes on with it."""
    folder = run_folder(study, cell)
    recipe, values = study.folder / "recipes" / f"{cell.name}.yaml", values_file(study, cell)
    judged = ["--task", study.settings.split, "--json", values, "--project", study.folder]
    found: dict[str, list[str | Path]] = {
        "train": ["python", "train.py", "--recipe", recipe, "--project", study.folder, "--name", cell.name],
        "resume": ["python", "train.py", "--resume", folder],
        "judge": ["python", "val.py", "--map", "--weights", folder / BEST, *judged],
    }
    return {name: [shown(word) for word in words] for name, words in found.items()}


def shown(word: str | Path) -> str:
    """A path as seen from the project's folder, where it lies in there."""
    if isinstance(word, Path) and word.is_relative_to(ROOT):
        return str(word.relative_to(ROOT))
    return str(word)


@contextmanager
def claimed(study: Study, cell: Cell) -> Iterator[int]:
    """The cell as this process's own; gives the file that holds the claim, for those who work for it.

    The processes of a study that was killed leave soon after it, and are waited for.

    Raises:
        UserError: another study works on it.
    """
    path = make_folder(study.folder / "locks") / cell.name
    with path.open("w") as file:
        for attempt in range(PATIENCE + 1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == PATIENCE:
                    mend = "wait for it, or share the cells out with --cells 1/2 and --cells 2/2"
                    raise UserError(f"another study works on {cell.name}", where=study.folder, mend=mend) from None
                time.sleep(1)
        yield file.fileno()


def run_cell(study: Study, cell: Cell) -> bool:
    """Train and judge, from wherever an earlier attempt got; whether it succeeded.

    Raises:
        Stopped: by a signal; the processes have saved what they had to.
    """
    with claimed(study, cell) as claim:
        failed = study.folder / "failed" / cell.name
        failed.unlink(missing_ok=True)
        folder, words = run_folder(study, cell), commands(study, cell)
        save_recipe(cell.recipe, make_folder(study.folder / "recipes") / f"{cell.name}.yaml")
        make_folder(values_file(study, cell).parent)
        steps = []
        if not (folder / FINISHED).exists():
            if folder.exists() and not (folder / "recipe.yaml").exists():
                shutil.rmtree(folder)  # killed before there was anything in it
            steps.append(words["resume"] if folder.exists() else words["train"])
        steps.append(words["judge"])
        for step in steps:
            if call(step, log_file(study, cell), claim):
                make_folder(failed.parent)
                failed.touch()
                return False
    return True


def call(words: Sequence[str], log: Path, claim: int) -> int:
    """Run a command of this project, its output at the end of a log; a signal that stops us stops it first.

    Args:
        claim: a file that stays locked as long as the command runs, whatever becomes of us.

    Raises:
        Stopped: by that signal.
    """
    make_folder(log.parent)
    with log.open("a") as output:
        print("$", *words, file=output, flush=True)
        process = subprocess.Popen(
            [sys.executable, *words[1:]], cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            pass_fds=[claim], preexec_fn=leave_with_parent,
        )  # fmt: skip
        with forwarded(process) as received:
            code = process.wait()
    if received:
        raise Stopped(received[0])
    return code


def leave_with_parent() -> None:
    """On Linux, ask for SIGTERM when the process dies that started this one."""
    if prctl := getattr(ctypes.CDLL(None), "prctl", None):
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def forwarded(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM go to the process, which saves and leaves; gives the signals that came."""
    received: list[int] = []

    def pass_on(number: int, _: object) -> None:
        received.append(number)
        process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
