"""Training runs disturbed at random moments and resumed, compared with undisturbed ones. Prints a JSON line a scenario.

`python -m benchmarks.interruptions --signals kill --trials 200 --journal runs/kills.jsonl`: SIGKILL up to three times.
`python -m benchmarks.interruptions --signals pairs --trials 500 --journal runs/pairs.jsonl`: two signals that ask to
leave, a random gap apart, inside training. Every second trial saves after every step, the others after 60 s, as is
usual. The journal has a line a trial; started again, the trials in it are not repeated.
"""

import csv
import importlib
import json
import mmap
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import train
import training.loop
from benchmarks.figures import show
from benchmarks.workload import write_corners, write_scenes
from training.loop import Loop
from utils.errors import UserError, run_cli
from utils.files import make_folder
from utils.parser import Parser
from utils.runs import FINISHED

COMMON = ("--device", "cpu", "--precision", "fp32", "--workers", 0, "--width", 0.0625)
CASCADE = (*COMMON, "--backbone", "cnn6", "--cl-splits", 3, "--imgsz", 32, "--pretrain-epochs", 2,
           "--pretrain-batch-size", 10, "--pretrain-crop", 1, "--pretrain-jitter", 0, "--augment-fliplr", 0,
           "--augment-photometric", 0)  # fmt: skip
DETECTOR = (*COMMON, "--cl-splits", 0, "--imgsz", 64, "--epochs", 3, "--val-every", 2, "--batch-size", 2,
            "--nominal-batch", 4, "--augment-mosaic", 0.7, "--multi-scale", 0.5)  # fmt: skip
SCENARIOS: dict[str, tuple[str, tuple[object, ...]]] = {  # name → data, flags
    "one process": ("corners", (*CASCADE, "--cache", "off")),
    "disk cache": ("corners", (*CASCADE, "--cache", "disk")),
    "two ranks": ("corners", (*CASCADE, "--cache", "disk", "--num-nodes", 2)),
    "image cache": ("scenes", (*DETECTOR, "--cache-images", "disk")),
    "baselines": ("corners", (*CASCADE, "--baselines", "e2e,e2e_compute,finetuned,probed", "--pretrain-epochs", 1)),
}
PRELOADED = ("training.start", "lightning_fabric", "torch.utils.tensorboard", "pycocotools.cocoeval")
WAIT_S = 600  # for a process to end
MOST_KILLS = 3
GAPS = (-4.0, -0.3)  # decimal logarithms of the seconds between two signals
TIMED = ("seconds", "data_seconds")  # what no two runs share
LOGS = ("events.out.tfevents", "console.log")  # of what happened when, which differs
REFUSED = 2  # exit code
SENT = (signal.SIGINT, signal.SIGTERM)
STEPPING, SAVED = 1, 2  # what a process says of itself


@dataclass
class Running:
    """A training in forked processes, one a rank.

    Attributes:
        said: a byte that the first rank keeps up to date: 0 before its first step, STEPPING inside one, SAVED else.
    """

    pids: list[int]
    said: mmap.mmap
    log: Path
    codes: dict[int, int] = field(default_factory=dict)

    def ended(self, *, wait: float = 0) -> bool:
        """Whether all of its processes have, within some seconds."""
        deadline = time.monotonic() + wait
        while True:
            for pid in self.pids:
                if pid not in self.codes and (found := os.waitpid(pid, os.WNOHANG))[0]:
                    self.codes[pid] = os.waitstatus_to_exitcode(found[1])
            if len(self.codes) == len(self.pids) or time.monotonic() >= deadline:
                return len(self.codes) == len(self.pids)
            time.sleep(0.002)

    def send(self, number: int, ranks: int | None = None) -> None:
        """A signal to the first so many of its processes, or to all."""
        for pid in self.pids[:ranks]:
            if pid not in self.codes:
                os.kill(pid, number)

    def finish(self) -> list[int]:
        """Exit codes, once all have ended.

        Raises:
            UserError: one of them does not.
        """
        if not self.ended(wait=WAIT_S):
            self.send(signal.SIGKILL)
            self.ended(wait=WAIT_S)
            raise UserError(f"no end after {WAIT_S} s", where=self.log, hint="read it")
        return [self.codes[pid] for pid in self.pids]


def begin(flags: tuple[object, ...], log: Path, *, every_step: bool) -> Running:
    """train.py with some flags, forked from this process, which has imported all it needs and computed nothing."""
    ranks = 2 if "--num-nodes" in flags else 1
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    said, pids = mmap.mmap(-1, 1), []
    signal.pthread_sigmask(signal.SIG_BLOCK, SENT)  # lest one come before the fork is on its own way
    for rank in range(ranks):
        pids.append(os.fork())
        if not pids[-1]:
            own = {**address, "NODE_RANK": str(rank)} if ranks > 1 else {}
            try:
                become(flags, log, own, said, every_step=every_step)
            finally:
                os._exit(1)  # a signal raised something in its last moment, which would carry on here
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
    return Running(pids, said, log)


def become(
    flags: tuple[object, ...], log: Path, environment: Mapping[str, str], said: mmap.mmap, *, every_step: bool
) -> None:
    """What the forked process does; it does not come back."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SENT)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(descriptor, number)
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        os.environ.update(environment)
        sys.argv = ["train.py", *map(str, flags)]
        if every_step:
            training.loop.SAVE_EVERY_S = -1
        Loop._step = counted(Loop._step, said)  # type: ignore[method-assign]
        run_cli(train.main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException as error:
        print(f"traceback: {error!r}", file=sys.stderr)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def counted(step: Callable[..., None], said: mmap.mmap) -> Callable[..., None]:
    """The step, which says when it begins and ends."""

    def call(*arguments: Any) -> None:
        said[0] = STEPPING
        step(*arguments)
        said[0] = SAVED

    return call


@dataclass(frozen=True)
class Place:
    """Where a scenario's runs are.

    Attributes:
        seconds: that an undisturbed run takes.
        whole: its files and what they hold.
    """

    folder: Path
    flags: tuple[object, ...]
    seconds: float
    whole: dict[str, Any]

    @classmethod
    def of(cls, name: str, folder: Path) -> "Place":
        """Write the data, and run once without a disturbance."""
        kind, flags = SCENARIOS[name]
        folder.mkdir(parents=True)
        data = write_corners(folder, 40, 12) if kind == "corners" else write_scenes(folder / "scenes", 8, 4, 4)
        flags = ("--data", data, "--project", folder, *flags)
        began = time.monotonic()
        running = begin((*flags, "--name", "whole"), folder / "log.txt", every_step=False)
        if any(running.finish()):
            raise UserError("failed undisturbed", where=running.log, hint="read it")
        return cls(folder, flags, time.monotonic() - began, left(folder / "train" / "whole"))


def left(run: Path) -> dict[str, Any]:
    """What a run has left behind, by file: tensors, and figures without their seconds."""
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.name.startswith(LOGS)]
    return {str(path.relative_to(run)): content(path) for path in files}


def content(path: Path) -> Any:
    """What a file holds, as far as two runs share it."""
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    if path.suffix == ".csv":
        rows = csv.DictReader(path.read_text().splitlines())
        return [{key: value for key, value in row.items() if key not in TIMED} for row in rows]
    if path.suffix == ".json":
        return {key: value for key, value in json.loads(path.read_text()).items() if key not in TIMED}
    return path.read_bytes()


def same(one: Any, other: Any) -> bool:
    """Whether two contents are the same, tensors bit for bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def resumed(place: Place, run: Path) -> tuple[object, ...]:
    """Flags of the next start of a run: from its beginning, where it has left nothing to continue from."""
    if (run / "recipe.yaml").exists():
        return ("--resume", run, *(("--num-nodes", 2) if "--num-nodes" in place.flags else ()))
    shutil.rmtree(run, ignore_errors=True)
    return (*place.flags, "--name", run.name)


def killed(running: Running, draw: random.Random, seconds: float) -> bool:
    """Kill a run at a random moment; of two ranks sometimes one alone. Gives whether it was running."""
    if running.ended(wait=draw.uniform(0, seconds)):
        return False
    running.send(signal.SIGKILL, 1 if draw.random() < 0.2 else None)
    return True


def asked(running: Running, draw: random.Random, seconds: float) -> bool:
    """Ask a run twice to leave, a random gap apart, at a random moment of its training; gives whether it was at it."""
    while not running.said[0] and not running.ended():
        time.sleep(0.001)
    if running.ended(wait=draw.uniform(0, seconds)):
        return False
    numbers = [draw.choice(SENT) for _ in range(2)]
    running.send(numbers[0])
    over = running.ended(wait=10 ** draw.uniform(*GAPS))
    if not over:
        running.send(numbers[1])
    return not over


SIGNALS = {"kill": (killed, MOST_KILLS), "pairs": (asked, 1)}


def ended(running: Running, *, over: bool) -> list[int]:
    """Exit codes; of a run that was over before, the 2 that says so is right."""
    return [0 if over and code == REFUSED else code for code in running.finish()]


def trial(place: Place, kind: str, seed: int) -> dict[str, Any]:
    """One run, disturbed and resumed to its end.

    Returns:
        `hits`: how often it was running when it was disturbed; `differing`: files that differ from those of the
        undisturbed run, are missing or were left behind; `codes`: exit codes.
    """
    disturb, most = SIGNALS[kind]
    draw, run, log = random.Random(seed), place.folder / "train" / f"trial{seed}", place.folder / "log.txt"
    every_step, hits, codes = bool(seed % 2), 0, []
    log.write_text("")
    for _ in range(draw.randint(1, most)):
        over = (run / FINISHED).exists()
        running = begin(resumed(place, run), log, every_step=every_step)
        hits += disturb(running, draw, place.seconds)
        codes.append(ended(running, over=over))
        if not any(codes[-1]):
            break
    if not codes or any(codes[-1]):
        over = (run / FINISHED).exists()
        codes.append(ended(begin(resumed(place, run), log, every_step=every_step), over=over))
    found = left(run)
    differing = [name for name in {**place.whole, **found} if not same(found.get(name), place.whole.get(name))]
    if not differing and not any(codes[-1]):
        shutil.rmtree(run)
    further = {"traceback": True} if "raceback" in log.read_text() else {}
    return {"seed": seed, "hits": hits, "differing": differing, "codes": codes, "every_step": every_step, **further}


def trials(names: list[str], kind: str, seeds: range, journal: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Those that the journal has, then the others, the scenarios in turns; the journal gets a line for each."""
    make_folder(journal.parent)
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    done = [own for own in done if own["signals"] == kind and own["scenario"] in names and own["seed"] in seeds]
    yield from done
    known, places = {(own["scenario"], own["seed"]) for own in done}, {}
    for seed in seeds:
        for name in names:
            if (name, seed) in known:
                continue
            if name not in places:
                places[name] = Place.of(name, folder / name.replace(" ", "_"))
            found = {"signals": kind, "scenario": name, **trial(places[name], kind, seed)}
            with journal.open("a") as file:
                print(json.dumps(found), file=file)
            yield found


def show_kind(kind: str, name: str, found: list[dict[str, Any]]) -> None:
    """Print what the trials of a scenario came to."""
    hit = [own for own in found if own["hits"]]
    equal = sum(not (own["differing"] or any(own["codes"][-1]) or "traceback" in own) for own in hit)
    about: dict[str, Any] = {
        "trials": len(found),
        "undisturbed": len(found) - len(hit),
        "disturbances": sum(own["hits"] for own in found),
        "tracebacks": sum("traceback" in own for own in found),
        "differing": [own["seed"] for own in found if own["differing"]],
    }
    title = f"{kind}, {name}: fraction of disturbed runs that end bit-equal, with no file left behind"
    show(title, equal / max(1, len(hit)), 1, "the same run undisturbed", **about)


def main() -> None:
    """Disturb, resume, compare."""
    parser = Parser(description="Whether runs that are disturbed and resumed end with the same bits.")
    parser.add_argument("--signals", choices=SIGNALS, default="kill", help="[kill]")
    parser.add_argument("--trials", type=int, default=200, help="of each scenario [200]")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="scenarios [all]")
    parser.add_argument("--journal", type=Path, help="a line a trial; those in it are not repeated [none]")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no trial begins later [any time]")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in PRELOADED:
        importlib.import_module(name)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        journal, found = arguments.journal or Path(folder) / "journal.jsonl", []
        for own in trials(arguments.only, arguments.signals, range(arguments.trials), journal, Path(folder) / "runs"):
            found.append(own)
            if time.monotonic() - began > arguments.seconds:
                break
    for name in arguments.only:
        show_kind(arguments.signals, name, [own for own in found if own["scenario"] == name])


if __name__ == "__main__":
    run_cli(main)
