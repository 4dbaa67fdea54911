"""What a call costs: milliseconds and memory."""

import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], Any]
TURNS = 7


def milliseconds(call: Call) -> float:
    """Median of several turns, the first of which only warms up."""
    seconds = []
    for turn in range(TURNS + 1):
        began = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn:
            seconds.append(time.perf_counter() - began)
    return 1000 * statistics.median(seconds)


def peak_bytes(call: Call) -> int:
    """Most bytes of tensors that a call holds at once, beside what was there before."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else it prints to stderr that there is no GPU
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    held = most = 0
    for event in sorted((own for own in events if own.name() == "[memory]"), key=lambda own: own.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most
