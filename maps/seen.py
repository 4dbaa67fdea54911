"""Pictures that trained a network are not explained, and nothing is chosen on them: checkpoints say which they are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from data.records import Notice, Record, Split
from data.seen import numbers, unseen, would_learn
from utils.errors import UserError
from utils.text import counted


class Trained(Protocol):
    """A file that may say what it has learnt from.

    Attributes:
        learnt: numbers of the pictures; None where the file does not say.
        data: the data yaml of its training, if the file records it.
        trained: what of the recipe holds images out of it.
    """

    @property
    def path(self) -> Path: ...

    @property
    def learnt(self) -> frozenset[int] | None: ...

    @property
    def data(self) -> Path | None: ...

    @property
    def trained(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Seen:
    """Numbers of the pictures (data/seen.py) that any of the networks has learnt from, and lines on what is guessed."""

    numbers: frozenset[int]
    notes: tuple[str, ...] = ()


def seen_by(files: Sequence[Trained]) -> Seen:
    """What any of them has learnt from; of a file that does not say, what its data yaml says today."""
    found = frozenset[int]().union(*(file.learnt for file in files if file.learnt is not None))
    silent = [file for file in files if file.learnt is None]
    notes = []
    for file in {repr((file.data, file.trained)): file for file in silent}.values():
        who = ", ".join(own.path.name for own in silent if (own.data, own.trained) == (file.data, file.trained))
        own = as_of_today(file)
        used = f"those of {file.data.name} as it is today are used" if file.data and own else "its data cannot be read"
        notes.append(f"{who}: the file does not record its training pictures; {used}")
        found |= own
    return Seen(found, tuple(notes))


def as_of_today(file: Trained) -> frozenset[int]:
    """Numbers of what the data yaml of a file calls training images now; of none where it cannot be read."""
    try:
        return frozenset(numbers(would_learn(file.data, file.trained)) if file.data else ())
    except UserError:
        return frozenset()


def explained_images(split: Split, seen: Seen) -> tuple[list[Record], tuple[str, ...]]:
    """The images to explain, and lines on those that are left out because a network has learnt from them.

    Training images are explained if it is they that are asked for, and the report says so.

    Raises:
        UserError: none is left.
    """
    left, known = unseen(split, seen.numbers)
    names = [path.name for path in sorted({record.image for record in known})]
    if not names:
        return split.records, seen.notes
    whole = len({record.image for record in split.records})
    splits = split.description.splits
    if split.name == "train" or splits.get(split.name) == splits.get("train", ()):
        what = f"of {whole} explained images were used to train a network, which may have memorised what it saw"
        return split.records, (*seen.notes, counted(len(names), what))
    if not left.records:
        hint = "explain images that they have not seen, or give --task train to explain these"
        what = f"all {whole} images of `{split.name}` were used to train a network"
        raise UserError(what, where=split.description.yaml, hint=hint)
    left_out = Notice(f"of {whole} images were used to train a network and are left out", names).line()
    return left.records, (*seen.notes, left_out)
