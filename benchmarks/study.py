"""What `study.py` adds to the processes that it starts: its time over theirs, in one run. Prints a JSON line.

`python -m benchmarks.study configs/studies/table1_sample.yaml`, in a folder of its own, so that nothing is done before.
With flags of study.py (`--project runs --cells 1/2`): what is left to do there.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import study
from benchmarks.figures import show
from studies import execute
from utils.errors import run_cli
from utils.parser import Parser


def whole(yaml: Path, flags: Sequence[str], clock: Path) -> float:
    """Seconds of the study in a process of its own, from start to end."""
    command = [sys.executable, "-m", "benchmarks.study", str(yaml), "--clock", str(clock), *flags]
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def clocked(yaml: Path, flags: Sequence[str], clock: Path) -> None:
    """The study itself; the seconds of each of its processes go into a file."""
    call = execute.call

    def timed(words: list[str], log: Path, claim: int) -> int:
        began = time.perf_counter()
        code = call(words, log, claim)
        with clock.open("a") as file:
            print(time.perf_counter() - began, file=file)
        return code

    with patch.object(execute, "call", timed), patch.object(sys, "argv", ["study.py", str(yaml), *flags]):
        study.main()


def main() -> None:
    """Measure."""
    parser = Parser(description="Time of a study over that of the processes that it starts.")
    parser.add_argument("study", type=Path, help="study yaml; flags of study.py may follow")
    parser.add_argument("--clock", type=Path, help=argparse.SUPPRESS)
    arguments, flags = parser.parse_known_args()
    if arguments.clock:
        clocked(arguments.study, flags, arguments.clock)
        return
    with tempfile.TemporaryDirectory() as folder:
        clock = Path(folder) / "seconds.txt"
        seconds = whole(arguments.study, flags or ["--project", folder], clock)
        processes = [float(line) for line in clock.read_text().split()]
    title = f"study {arguments.study.stem}, time over that of its {len(processes)} processes"
    show(title, seconds / sum(processes), 1.02, "–", least=False, seconds=round(seconds, 1))


if __name__ == "__main__":
    run_cli(main)
