"""SIGTERM and Ctrl-C: training saves and leaves at the next batch; anything else leaves at once.

While a network learns, signals only set a flag, however many come: a step is never cut in two, nor is a save.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

from utils.errors import Stopped, reader_died

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ONCE, ALWAYS = 1, 2  # how many signals are only noted
MOMENT_S = 0.5


class Stop:
    """Whether this process was asked to leave; `asked` is the signal's number, 0 for none."""

    def __init__(self) -> None:
        self.asked = 0
        self._patience = 0

    @contextmanager
    def listening(self) -> Iterator[Self]:
        """Take the signals over, and give them back in the end; only the main thread gets signals to take over."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self, *, once: bool = False) -> Iterator[None]:
        """Inside, signals are only noted, for a loop that looks at `asked`.

        Args:
            once: a second signal leaves at once: for what waits for the world outside, and has nothing to lose.
        """
        before, self._patience = self._patience, ONCE if once else ALWAYS
        try:
            yield
        finally:
            self._patience = before

    @contextmanager
    def readers(self, where: str) -> Iterator[None]:
        """Inside, processes read images; where one dies of the signal that this one was sent too, that is what counts.

        Raises:
            Stopped: by the signal.
            UserError: one died by itself.
        """
        try:
            yield
        except (RuntimeError, ConnectionError, EOFError) as error:  # a dying one may break its connection first
            died = reader_died(error, where)
            if not self.asked:
                time.sleep(MOMENT_S)  # it may have heard of the signal first
            raise (Stopped(self.asked) if self.asked else died) from error

    def _note(self, number: int, _: FrameType | None) -> None:
        if self._patience < (ONCE if not self.asked else ALWAYS):
            raise Stopped(number)
        if self.asked:
            return
        self.asked = number
        # The signal may have gone to the workers too. torch raises an error in the midst of anything once one is gone;
        # now that this process is about to leave, its end shows early enough where the next batch is missing.
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, lambda *_: None)  # no SIG_DFL: Python complains of one that is on its way
