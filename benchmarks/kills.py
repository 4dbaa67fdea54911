"""A study killed at random moments and started again, held against one that nobody disturbed. Prints a JSON line.

`python -m benchmarks.kills configs/studies/table1_sample.yaml --kills 10 --longest 120`
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import show
from studies.page import FIGURE, PAGE, RUNS
from utils.config import ROOT
from utils.errors import UserError, run_cli

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def start(yaml: Path, project: Path, *flags: str) -> subprocess.Popen[bytes]:
    """The study in a process of its own; all that it prints is its stdout."""
    command = [sys.executable, str(ROOT / "study.py"), str(yaml), "--project", str(project), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)


def disturb(yaml: Path, project: Path, kills: int, longest: float, seed: int = 0) -> int:
    """Start the study and kill it after 2 to `longest` seconds, again and again; gives how often it was running."""
    draw, hit = random.Random(seed), 0
    for number in range(kills):
        with start(yaml, project) as process:
            try:
                process.wait(draw.uniform(2, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(SIGNALS[number % len(SIGNALS)])
                hit += 1
    return hit


def finish(yaml: Path, project: Path) -> dict[str, bytes]:
    """The study's page, runs and figure after one more start.

    Raises:
        UserError: it did not end well.
    """
    with start(yaml, project) as process:
        output = process.communicate()[0].decode()
    if process.returncode:
        raise UserError(f"the study failed: {output.splitlines()[-1]}", where=yaml, mend="run it by hand")
    folder = project / "studies" / yaml.stem
    return {name: (folder / name).read_bytes() for name in (PAGE, RUNS, FIGURE)}


def main() -> None:
    """Disturb, finish, compare."""
    parser = argparse.ArgumentParser(description="Whether a study that was killed gives the same table.")
    parser.add_argument("study", type=Path, help="study yaml with a table")
    parser.add_argument("--kills", type=int, default=10, help="[10]")
    parser.add_argument("--longest", type=float, default=120, help="seconds between a start and a kill, at most [120]")
    parser.add_argument("--project", type=Path, help="keep both there, in killed/ and quiet/ [a temporary folder]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = arguments.project or Path(folder)
        hit = disturb(arguments.study, project / "killed", arguments.kills, arguments.longest)
        killed, quiet = (finish(arguments.study, project / name) for name in ("killed", "quiet"))
    equal = float(killed == quiet)
    title = f"study {arguments.study.stem}: page, runs and figure after kills equal to an undisturbed one's"
    show(title, equal, 1, "–", least=True, kills=hit)


if __name__ == "__main__":
    run_cli(main)
