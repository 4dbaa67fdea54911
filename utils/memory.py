"""How much memory there is to take."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

GIB = 2**30


def free_memory() -> int:
    """Bytes that this process may still take, by the machine and by its control group."""
    free = psutil.virtual_memory().available
    limit, used = (Path(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit.exists() and used.exists() and (text := limit.read_text().strip()).isdecimal():
        free = min(free, int(text) - int(used.read_text()))
    return max(0, free)


@contextmanager
def no_collection() -> Iterator[None]:
    """Millions of small things are made, and none is garbage: looking for some would take a third of the time."""
    wanted = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wanted:
            gc.enable()
