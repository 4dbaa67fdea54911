"""What `study.py` adds to the processes that it starts: its time over theirs, in one run. Prints a JSON line.

`python -m benchmarks.study configs/studies/table1_sample.yaml`, in a folder of its own, so that nothing is done before.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import study
from benchmarks.figures import show
from studies import execute
from utils.errors import run_cli

SECONDS = "seconds.txt"


def whole(yaml: Path, project: Path) -> float:
    """Seconds of the study in a process of its own, from start to end."""
    command = [sys.executable, "-m", "benchmarks.study", str(yaml), "--project", str(project)]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def clocked(yaml: Path, project: Path) -> None:
    """The study itself; the seconds of each of its processes go into a file of the project."""
    call = execute.call

    def timed(words: list[str], log: Path, claim: int) -> int:
        began = time.perf_counter()
        code = call(words, log, claim)
        with (project / SECONDS).open("a") as file:
            print(time.perf_counter() - began, file=file)
        return code

    with (
        patch.object(execute, "call", timed),
        patch.object(sys, "argv", ["study.py", str(yaml), "--project", str(project)]),
    ):
        study.main()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description="Time of a study over that of the processes that it starts.")
    parser.add_argument("study", type=Path, help="study yaml")
    parser.add_argument("--project", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.project:
        clocked(arguments.study, arguments.project)
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds = whole(arguments.study, Path(folder))
        processes = [float(line) for line in (Path(folder) / SECONDS).read_text().split()]
    title = f"study {arguments.study.stem}, time over that of its {len(processes)} processes"
    show(title, seconds / sum(processes), 1.02, "–", least=False, seconds=round(seconds, 1))


if __name__ == "__main__":
    run_cli(main)
