"""A study killed at random moments and started again, compared with one that nobody disturbed. Prints a JSON line.

`python -m benchmarks.kills configs/studies/table1_sample.yaml --seeds 1`
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.figures import show
from studies.page import FIGURE, PAGE, RUNS
from utils.config import ROOT
from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.recipes import read_yaml

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


def with_seeds(study: Path, count: int, folder: Path) -> Path:
    """A copy of the study yaml with the first seeds only; gives its path, which has the same name."""
    content = read_yaml(study)
    content |= {"recipe": str((study.parent / content["recipe"]).resolve()), "seeds": content["seeds"][:count]}
    copy = folder / study.name
    copy.write_text(yaml.safe_dump(content, sort_keys=False))
    return copy


def start(study: Path, project: Path, *flags: str) -> subprocess.Popen[bytes]:
    """The study in a process of its own; all that it prints is its stdout."""
    command = [sys.executable, str(ROOT / "study.py"), str(study), "--project", str(project), *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ)


def disturb(study: Path, project: Path, kills: int, longest: float, seed: int = 0) -> int:
    """Start the study and kill it after 2 to `longest` seconds, again and again; gives how often it was running."""
    draw, hit = random.Random(seed), 0
    for number in range(kills):
        with start(study, project) as process:
            try:
                process.wait(draw.uniform(2, longest))
            except subprocess.TimeoutExpired:
                process.send_signal(SIGNALS[number % len(SIGNALS)])
                hit += 1
    return hit


def finish(study: Path, project: Path) -> dict[str, bytes]:
    """The study's page, runs and figure after one more start.

    Raises:
        UserError: it did not end well.
    """
    with start(study, project) as process:
        output = process.communicate()[0].decode()
    if process.returncode:
        raise UserError(f"the study failed: {output.splitlines()[-1]}", where=study, hint="run it by hand")
    folder = project / "studies" / study.stem
    return {name: (folder / name).read_bytes() for name in (PAGE, RUNS, FIGURE)}


def main() -> None:
    """Disturb, finish, compare."""
    parser = Parser(description="Whether a study that was killed gives the same table.")
    parser.add_argument("study", type=Path, help="study yaml with a table")
    parser.add_argument("--seeds", type=int, help="only so many of its seeds [all]")
    parser.add_argument("--kills", type=int, default=10, help="[10]")
    parser.add_argument("--longest", type=float, default=120, help="seconds between a start and a kill, at most [120]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [0]")
    parser.add_argument("--project", type=Path, help="keep both there, in killed/ and quiet/ [a temporary folder]")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project, study = arguments.project or Path(folder), arguments.study
        if arguments.seeds:
            study = with_seeds(study, arguments.seeds, Path(folder))
        hit = disturb(study, project / "killed", arguments.kills, arguments.longest, arguments.seed)
        killed, quiet = (finish(study, project / name) for name in ("killed", "quiet"))
    equal = float(killed == quiet)
    title = f"study {arguments.study.stem}: page, runs and figure after kills equal to an undisturbed one's"
    show(title, equal, 1, "–", least=True, kills=hit)


if __name__ == "__main__":
    run_cli(main)
