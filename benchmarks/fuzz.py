"""Damaged files of every kind that is read: one clear line or a counted omission. Prints a JSON line a kind.

`python -m benchmarks.fuzz --count 1000`: so many mutations of each kind, drawn from seeds; each is read in a process
that is watched for tracebacks, for a minute's silence, and for its memory. Of weights, what is read must be the
weights that were written.
"""

import multiprocessing
import os
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import show
from benchmarks.whole_files import CASES, Case, WrongError
from utils.console import console
from utils.errors import UserError, run_cli
from utils.memory import GIB
from utils.parser import Parser

WAIT_S = 60.0


def outcome(case: Case, whole: bytes, seed: int) -> str:
    """What became of a file after accidents: read, left out, refused; `wrong: …` or `traceback: …` where it may not."""
    case.path.write_bytes(case.spoilt(whole, seed))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of what they meet
            return case.read()
    except UserError as error:
        return "refused" if len(str(error)) < 3000 else "wrong: a message of a page"
    except WrongError as error:
        return f"wrong: {error}"
    except Exception as error:
        return f"traceback: {type(error).__name__}: {error}"[:300]


def work(name: str, folder: str, first: int, count: int, pipe: Any) -> None:
    """In a process of its own: the outcomes of some seeds, and its memory over its imports, one after another."""
    console.quiet = True
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    case = CASES[name](Path(tempfile.mkdtemp(dir=folder)))
    whole, before = case.path.read_bytes(), peak()
    for seed in range(first, first + count):
        pipe.send((outcome(case, whole, seed), (peak() - before) / GIB))
    pipe.close()


def peak() -> int:
    """Most bytes that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def outcomes(name: str, folder: str, count: int) -> Iterator[tuple[int, str, float]]:
    """Seed, outcome and memory in GiB of each mutation; one that says nothing for WAIT_S is a `hang`."""
    done = 0
    while done < count:
        mine, its = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=work, args=(name, folder, done, count - done, its))
        process.start()
        its.close()
        try:
            while done < count and mine.poll(WAIT_S + (WAIT_S if done == 0 else 0)):
                yield done, *mine.recv()
                done += 1
            if done < count:
                yield done, "hang", 0.0
                done += 1
        except EOFError:
            yield done, f"traceback: ended with code {process.exitcode}", 0.0
            done += 1
        process.kill()
        process.join()


def main() -> None:
    """Spoil, read, count."""
    parser = Parser(description="What becomes of damaged files of every kind that is read.")
    parser.add_argument("--count", type=int, default=1000, help="mutations of each kind [1000]")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES), help="kinds [all]")
    arguments = parser.parse_args()
    for name in arguments.only:
        began, found, most = time.monotonic(), Counter[str](), 0.0
        with tempfile.TemporaryDirectory() as folder:
            faults = []
            for seed, said, memory in outcomes(name, folder, arguments.count):
                found[said.partition(":")[0]] += 1
                most = max(most, memory)
                if said.partition(":")[0] in ("traceback", "wrong", "hang"):
                    faults.append(f"{seed}: {said}")
        about = {"mutations": arguments.count, "gib": round(most, 3), "seconds": round(time.monotonic() - began)}
        title = f"{name}: tracebacks, hangs and damage taken for whole"
        show(title, len(faults), 0, "–", least=False, **about, outcomes=dict(found), faults=faults[:20])


if __name__ == "__main__":
    run_cli(main)
