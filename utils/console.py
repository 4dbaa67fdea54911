"""What a command says on the terminal: lines, and a progress bar."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from utils.text import printable

SLOW_S = 2.0  # what takes longer is said
T = TypeVar("T")


class Plain(Console):
    """A console on which no text can steer the terminal, and what is in square brackets is text.

    Attributes:
        copy: gets all that is printed too; None for nobody.
    """

    copy: Console | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, soft_wrap=True, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print with control characters spelt out."""
        shown = [printable(own) if isinstance(own, str) else own for own in objects]
        super().print(*shown, **options)
        if self.copy and not self.quiet:
            try:
                self.copy.print(*shown, **options)
            except OSError as error:  # a full disk: what a run does next will find that out, and says so
                self.copy = None
                super().print(f"console.log ends here: {error.strerror}")

    def aloud(self, text: str) -> None:
        """Print a line of this process's own, whichever its rank: what happens to one alone is news to the others."""
        if self.quiet:
            print(printable(text), flush=True)
        else:
            self.print(text)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever ends the process: rich would end it with a code of its own."""
        raise


def rank() -> int:
    """This process's number among those of its run; both variables are set before torch is even loaded."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) + int(os.environ.get("NODE_RANK", "0"))


console = Plain(quiet=rank() > 0)  # every rank runs the same; the first one speaks


@contextmanager
def hushed(quiet: bool = True) -> Iterator[None]:
    """Inside, the console says nothing, if quiet; what is written to files is written all the same."""
    if not quiet or getattr(console.file, "name", "") == os.devnull:
        yield
        return
    before = console._file  # what was set, or None: whatever sys.stdout is by then
    with open(os.devnull, "w") as nowhere:
        console.file = nowhere
        try:
            yield
        finally:
            console.file = before  # type: ignore[assignment]


def progress(items: Iterable[T], title: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield items behind a progress bar; the bar vanishes at the end, and is absent where there is no terminal."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        yield from bar.track(items, total=total, completed=done, description=title)


@contextmanager
def said_if_slow(what: str | Callable[[], str]) -> Iterator[None]:
    """Print one line, or what a function then returns, where the block takes more than two seconds."""

    def say() -> None:
        console.print(f"{what if isinstance(what, str) else what()} …")

    timer = threading.Timer(SLOW_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
