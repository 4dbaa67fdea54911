"""The processes of one run, its ranks: what they agree on, and what happens when one of them falls silent."""

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from utils.errors import Stopped, UserError
from utils.stop import Stop

T = TypeVar("T")
BEAT_S = 1.0
LATE_S = 6.0  # a rank silent for so long is the one that died, once a collective has failed
SILENT_S = 40.0  # a rank silent for so long is lost, even if no connection broke


def agree(fabric: Any, value: int) -> int:
    """The largest of all ranks' values."""
    if fabric.world_size == 1:
        return value
    return int(fabric.all_reduce(torch.tensor(value), reduce_op="max"))


def mean_over_ranks(fabric: Any, values: dict[str, float]) -> dict[str, float]:
    """Each value averaged over the ranks."""
    if fabric.world_size == 1:
        return values
    means = fabric.all_reduce(torch.tensor(list(values.values()), dtype=torch.float64), reduce_op="mean")
    return dict(zip(values, means.tolist(), strict=True))


def interleaved(fabric: Any, own: list[T]) -> list[T]:
    """All items in order, where this rank holds every world_size-th one, from its rank on."""
    if fabric.world_size == 1:
        return own
    parts: list[list[T]] = [[] for _ in range(fabric.world_size)]
    dist.all_gather_object(parts, own)
    longest = max(map(len, parts))
    return [part[index] for index in range(longest) for part in parts if index < len(part)]


class Watch(threading.Thread):
    """Every rank's heartbeat, and an ear on those of the others.

    A rank whose machine vanishes breaks no connection: the others would wait for it until the collective's own
    limit, half an hour. This thread ends the process, with the name of the silent rank, long before.
    """

    def __init__(self, fabric: Any) -> None:
        super().__init__(daemon=True, name="watch")
        self.rank, self.ranks = fabric.global_rank, fabric.world_size
        self.names = [f"rank {rank}" for rank in range(self.ranks)]
        self.seen = [(b"", time.monotonic())] * self.ranks
        self.over = threading.Event()
        host, port = fabric.broadcast((os.environ["MASTER_ADDR"], free_port()) if self.rank == 0 else None)
        self.store = dist.TCPStore(
            host,
            port,
            None,
            is_master=self.rank == 0,
            timeout=timedelta(seconds=SILENT_S),
            wait_for_workers=False,
        )
        self.store.set(f"name{self.rank}", f"rank {self.rank} ({socket.gethostname()}, process {os.getpid()})")
        self.store.set(f"beat{self.rank}", "0")
        fabric.barrier()
        self.names = [self.store.get(f"name{rank}").decode() for rank in range(self.ranks)]

    def run(self) -> None:
        count = 0
        while not self.over.wait(BEAT_S):
            count += 1
            try:
                self.store.set(f"beat{self.rank}", str(count))
                self._listen()
            except RuntimeError:  # the store lives in rank 0
                self.seen[0] = (b"", min(self.seen[0][1], time.monotonic() - LATE_S))
            if lost := self._silent(SILENT_S):
                print(f"error: {lost_message(lost)}", file=sys.stderr, flush=True)
                os._exit(1)  # the main thread hangs in a collective and cannot be woken

    def blame(self) -> UserError | None:
        """The error to end with if a collective failed: names the rank that no longer beats; None where all do."""
        deadline = time.monotonic() + 3 * LATE_S
        while not (lost := self._silent(LATE_S)) and time.monotonic() < deadline:
            time.sleep(BEAT_S)
        return (
            UserError(lost_message(lost), where=self.names[self.rank], hint="see its own last words") if lost else None
        )

    def stop(self) -> None:
        """End the thread."""
        self.over.set()

    def _listen(self) -> None:
        for rank in range(self.ranks):
            beat = self.store.get(f"beat{rank}")
            if beat != self.seen[rank][0]:
                self.seen[rank] = (beat, time.monotonic())

    def _silent(self, seconds: float) -> str:
        now = time.monotonic()
        late = [self.names[rank] for rank, (_, when) in enumerate(self.seen) if now - when >= seconds]
        return ", ".join(name for name in late if name != self.names[self.rank])


@contextmanager
def watched(fabric: Any, stop: Stop) -> Iterator[None]:
    """Run with a Watch where there are several ranks.

    Raises:
        UserError: a collective failed because a rank died; says which.
        Stopped: it failed because all were asked to leave, and another was faster.
    """
    if fabric.world_size == 1:
        yield
        return
    watch = Watch(fabric)
    watch.start()
    try:
        yield
    except RuntimeError as error:  # what torch raises for a broken connection, and its subclasses
        if stop.asked:
            raise Stopped(stop.asked) from error
        if blamed := watch.blame():
            raise blamed from error
        raise  # of this rank itself, as of memory that is full
    finally:
        watch.stop()


def lost_message(lost: str) -> str:
    """What is said of a lost rank."""
    return f"{lost} died or cannot be reached; the run stops here and continues from its last save with --resume"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])
