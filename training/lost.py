"""Pictures that could not be read any more while a network learns: left out, named, counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data.images import UnreadableError
from utils.console import console


class Lost:
    """Names each picture that batches have lost once."""

    def __init__(self) -> None:
        self.named: set[str] = set()

    def note(self, batch: Any) -> int:
        """How many pictures a batch has lost; says which.

        Raises:
            UserError: nothing is left of the batch.
        """
        lost = getattr(batch, "lost", ())
        for where, what in lost:
            if where not in self.named:
                console.aloud(f"left out {where}: {what}")
                self.named.add(where)
        if lost and not len(batch.index):
            raise UnreadableError(*lost[0])
        return len(lost)


@contextmanager
def blamed(batch: Any) -> Iterator[None]:
    """Where BatchNorm cannot take a spread from what lost pictures have left of a batch, these are named.

    Raises:
        UnreadableError: one image is left of it, which is too small by itself.
    """
    lost = getattr(batch, "lost", ())
    try:
        yield
    except ValueError as error:
        if not lost or len(batch.index) > 1:
            raise
        where, what = lost[0]
        raise UnreadableError(where, f"{what}, and one image is left of its batch, too small for BatchNorm") from error
