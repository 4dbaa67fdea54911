"""What a page of maps shows of single cases."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Strip:
    """Maps of a line at all cuts, side by side in one picture.

    Attributes:
        ious: IoU at each cut; NaN where there is no map.
        picture: a data URI.
        coarse: cuts that are not judged.
    """

    line: str
    kind: str
    cuts: tuple[int, ...]
    ious: list[float]
    picture: str
    coarse: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Exhibit:
    """One case: its picture with the boxes as a data URI, its class, and maps of it."""

    picture: str
    name: str
    share: float
    strips: list[Strip]


@dataclass(frozen=True)
class Group:
    """Cases that were chosen for a reason, and a sentence on what is drawn."""

    title: str
    about: str
    exhibits: list[Exhibit]
