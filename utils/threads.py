"""A function of many files, in threads where these pay."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

THREADS = max(4, os.cpu_count() or 1)
QUICK_S, GRACE_S = 1e-3, 0.05  # for a file, up to which threads do not pay; and what all may take besides
WAITING = 64  # files for each thread that are handed out at a time
T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What a function makes of each item, in their order: one after the other while that is quick, then in threads.

    Threads pay where decoding or the disk takes long, which release the interpreter. Those that read small files wait
    for it most of the time: four take twice as long as one.
    """
    left, spent = iter(items), 0.0
    for done, item in enumerate(left, 1):
        began = time.perf_counter()
        found = work(item)
        spent += time.perf_counter() - began
        yield found
        if spent > GRACE_S + QUICK_S * done:
            break
    with ThreadPoolExecutor(THREADS) as pool:
        while handed := list(islice(left, WAITING * THREADS)):
            yield from pool.map(work, handed)
