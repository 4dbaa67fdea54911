"""Doing what a study has left to do, one process after another, whatever kills them."""

import ctypes
import fcntl
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from studies.recipe import Cell, Study
from studies.runs import (
    commands,
    figures_file,
    log_file,
    page_file,
    recipe_file,
    record_file,
    report_command,
    reported,
    run_folder,
    values_file,
)
from utils.config import ROOT
from utils.errors import Stopped, UserError
from utils.files import make_folder, write_text
from utils.recipes import save_recipe
from utils.runs import FINISHED

PATIENCE = 60  # seconds
PR_SET_PDEATHSIG = 1  # from linux/prctl.h


@contextmanager
def claimed(study: Study, name: str) -> Iterator[int]:
    """A cell or a report as this process's own; gives the file that holds the claim, for those who work for it.

    The processes of a study that was killed leave soon after it, and are waited for.

    Raises:
        UserError: another study works on it.
    """
    path = make_folder(study.folder / "locks") / name
    with path.open("w") as file:
        for attempt in range(PATIENCE + 1):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == PATIENCE:
                    hint = "wait for it, or share the cells out with --cells 1/2 and --cells 2/2"
                    raise UserError(f"another study works on {name}", where=study.folder, hint=hint) from None
                time.sleep(1)
        yield file.fileno()


def run_cell(study: Study, cell: Cell) -> bool:
    """Train and judge, from wherever an earlier attempt got; whether it succeeded.

    Raises:
        Stopped: by a signal; the processes have saved what they had to.
    """
    with claimed(study, cell.name) as claim:
        failed = study.folder / "failed" / cell.name
        failed.unlink(missing_ok=True)
        for path in (recipe_file(study, cell), values_file(study, cell)):
            make_folder(path.parent)
        save_recipe(cell.recipe, recipe_file(study, cell))
        for step in steps_left(study, cell):
            if call(step, log_file(study, cell), claim):
                make_folder(failed.parent)
                failed.touch()
                return False
    return True


def steps_left(study: Study, cell: Cell) -> Iterator[list[str]]:
    """The commands that a cell still needs; a run that begins anew removes the reports on its predecessor."""
    folder, words = run_folder(study, cell), commands(study, cell)
    if not (folder / FINISHED).exists():
        if folder.exists() and not (folder / "recipe.yaml").exists():
            shutil.rmtree(folder)  # killed before there was anything in it
        if not folder.exists():
            forget_reports(study, cell)
        yield words["resume"] if folder.exists() else words["train"]
    if "judge" in words:
        yield words["judge"]


def forget_reports(study: Study, cell: Cell) -> None:
    """Remove the reports that were written from weights in a cell's run folder."""
    for name in study.settings.reports:
        if cell in reported(study, name):
            for path in (record_file(study, name), page_file(study, name), figures_file(study, name)):
                path.unlink(missing_ok=True)


def write_report(study: Study, name: str) -> bool:
    """Write a report on all runs that are trained, unless it is there and nothing has changed; whether it succeeded.

    Raises:
        Stopped: by a signal.
    """
    words, record = report_command(study, name), record_file(study, name)
    typed = " ".join(words)

    def is_written() -> bool:
        return page_file(study, name).exists() and record.exists() and record.read_text() == typed

    if is_written():
        return True
    with claimed(study, name) as claim:
        if is_written():  # by the process that was waited for
            return True
        if call(words, study.folder / "logs" / f"{name}.txt", claim):
            return False
        make_folder(record.parent)
        write_text(record, typed)
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
