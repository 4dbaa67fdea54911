"""Pictures that could not be read any more while a network learns: left out, named, counted."""

from typing import Any

from data.images import UnreadableError
from training.ranks import mean_over_ranks
from utils.console import console


class Lost:
    """What batches have lost.

    Attributes:
        count: times that a picture could not be read in this epoch.
    """

    def __init__(self) -> None:
        self.count = 0
        self.named: set[str] = set()

    def note(self, batch: Any) -> None:
        """Count the pictures that a batch has lost; name each once.

        Raises:
            UserError: nothing is left of the batch.
        """
        lost = getattr(batch, "lost", ())
        self.count += len(lost)
        for where, what in lost:
            if where not in self.named:
                console.aloud(f"left out {where}: {what}")
                self.named.add(where)
        if lost and not len(batch.index):
            raise UnreadableError(*lost[0])

    def figures(self, fabric: Any) -> dict[str, float]:
        """`lost`: the count of all ranks; nothing where it is 0."""
        count = round(mean_over_ranks(fabric, {"lost": float(self.count)})["lost"] * fabric.world_size)
        return {"lost": count} if count else {}
