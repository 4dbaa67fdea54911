"""What a command says on the terminal: lines, and a progress bar."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from utils.text import printable

T = TypeVar("T")


class Plain(Console):
    """A console on which no text can steer the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print with control characters spelt out."""
        super().print(*(printable(own) if isinstance(own, str) else own for own in objects), **options)

    def on_broken_pipe(self) -> None:
        """Leave it to whoever ends the process: rich would end it with a code of its own."""
        raise


# Every rank runs the same code; the first one speaks for all. Both variables stand before torch is even loaded.
RANK = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) + int(os.environ.get("NODE_RANK", "0"))
console = Plain(highlight=False, soft_wrap=True, quiet=RANK > 0)


def progress(items: Iterable[T], title: str, total: int, done: int = 0) -> Iterator[T]:
    """Yield items behind a progress bar; the bar vanishes at the end, and is absent where there is no terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = console.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        yield from bar.track(items, total=total, completed=done, description=title)
