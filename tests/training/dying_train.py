"""train.py in a process that kills itself: `MINE="EVENT COUNT [RANK]" python dying_train.py FLAGS`.

When EVENT happens for the COUNT-th time on a rank, SIGKILL or SIGTERM comes in the middle of it; `full` lives on,
without room for cached features. In the environment, because the further ranks are started with the same arguments.
"""

import os
import signal
from collections.abc import Callable
from typing import IO, Any

import torch

import train
import training.cascade
import training.features
import training.loop
from training.cache import FeatureCache
from training.loop import Loop
from utils.errors import run_cli

training.loop.SAVE_EVERY_S = -1  # a checkpoint after every batch


def dying(real: Callable[..., Any], count: int, number: int, *, late: bool = False) -> Callable[..., Any]:
    """Call the function; the count-th time send this process a signal, before the call or after it."""
    calls = 0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not late:
            os.kill(os.getpid(), number)
        found = real(*arguments, **options)
        if calls == count and late:
            os.kill(os.getpid(), number)
        return found

    return call


def half_written(content: Any, file: IO[bytes]) -> None:
    """A checkpoint of which half has reached the disk."""
    SAVE(content, file)
    file.flush()
    os.truncate(file.fileno(), file.tell() // 2)


SAVE = torch.save


def prepare(event: str, count: int) -> None:
    """Lay the mine."""
    if event == "step":
        Loop._step = dying(Loop._step, count, signal.SIGKILL, late=True)  # type: ignore[method-assign]
    elif event == "fill":
        FeatureCache._store = dying(FeatureCache._store, count, signal.SIGKILL)  # type: ignore[method-assign]
    elif event == "stage":
        training.cascade.run_stage = dying(training.cascade.run_stage, count, signal.SIGKILL, late=True)
    elif event == "write":
        halves = dying(half_written, 1, signal.SIGKILL, late=True)
        seen = iter(range(1, 10**6))
        torch.save = lambda content, file: (halves if next(seen) == count else SAVE)(content, file)
    elif event == "term":
        Loop._step = dying(Loop._step, count, signal.SIGTERM)  # type: ignore[method-assign]
    elif event == "full":
        training.features.choose_place = lambda *_: "no room"
    else:
        raise ValueError(event)


if __name__ == "__main__":
    event, count, rank = os.environ["MINE"].split()
    if int(rank) == sum(int(os.environ.get(name, "0")) for name in ("LOCAL_RANK", "NODE_RANK")):
        prepare(event, int(count))
    run_cli(train.main)
