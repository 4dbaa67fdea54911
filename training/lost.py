"""Pictures that could not be read any more while a network learns: left out, named, counted."""

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
