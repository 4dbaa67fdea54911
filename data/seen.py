"""Which pictures a network has learnt from: a number for the content of each, which its checkpoint keeps.

Names would not do: one picture may be listed by two data yamls, copied or renamed.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.description import load_description
from data.formats import read_split
from data.holdout import HOLDOUT_SHARE, hold_out
from data.records import Record, Split
from utils.text import counted
from utils.threads import each

END = 2**13  # bytes at either end of a file that, with its length, distinguish it from others
UNCOMPRESSED = frozenset({".bmp", ".dib", ".pbm", ".pgm", ".pnm", ".ppm", ".tga", ".tif", ".tiff"})


def number(record: Record, end: int | None = END) -> int:
    """64 bits of a hash of a picture's content: length, first and last bytes of its file, or all of its pixels.

    Args:
        end: how many bytes at either end of the file count; None for all.
    """
    found = hashlib.sha256()
    try:
        with open(str(record.image), "rb", buffering=0) as file:
            length = os.fstat(file.fileno()).st_size
            end = length if end is None else end
            found.update(b"%d" % length + file.read(end))
            if length > 2 * end:
                file.seek(-end, os.SEEK_END)
            found.update(file.read(end))
    except OSError:  # pixels of an archive; what is gone is like no other
        pixels = record.pixels
        found.update(str(record.image).encode(errors="surrogateescape") if pixels is None else pixels.tobytes())
    return int.from_bytes(found.digest()[:8], "little", signed=True)


def certain(record: Record) -> int:
    """`number`, of all bytes of a file of uncompressed pixels: with one size and margin, many have the same ends."""
    return number(record, None if is_uncompressed(record) else END)


def is_uncompressed(record: Record) -> bool:
    """Whether the pixels of a picture's file are, by its suffix."""
    return Path(record.image).suffix.lower() in UNCOMPRESSED


def numbers(records: Iterable[Record], of: Callable[[Record], int] = certain) -> list[int]:
    """The number of each record; one that shows an object has that of its picture."""
    shown = list(records)
    once = {record.image: record for record in shown}  # many objects may be of one picture
    found = dict(zip(once, each(of, once.values()), strict=True))
    return [found[record.image] for record in shown]


def is_seen(records: Sequence[Record], seen: Set[int]) -> list[bool]:
    """Whether each record is of a picture of these numbers; older checkpoints have those of the ends of any file."""
    known = [own in seen for own in numbers(records)]
    doubt = [row for row, own in enumerate(known) if not own and is_uncompressed(records[row])]
    for row, older in zip(doubt, numbers((records[row] for row in doubt), number), strict=True):
        known[row] = older in seen
    return known


def numbers_of(records: Iterable[Record], *before: Tensor | None) -> Tensor:
    """[n] int64, ascending, as a checkpoint keeps them.

    Args:
        before: those of the networks that this one began with.
    """
    own = torch.tensor(sorted(set(numbers(records))), dtype=torch.int64)
    return torch.cat([own, *(other for other in before if other is not None)]).unique()


def would_learn(yaml: Path, pretrain: Mapping[str, Any]) -> list[Record]:
    """The images that a training on a data set learns from, as the data are today; for files that do not say.

    Args:
        pretrain: the recipe's section on pre-training, which may hold images out.
    """
    own = load_description(yaml)
    train, share = read_split(own, "train"), pretrain.get("holdout")
    if "val" not in own.splits or (share is None and pretrain.get("patience") is not None):
        share = share or HOLDOUT_SHARE
    return hold_out(train, share)[0].records if share else train.records


def unseen(split: Split, seen: Set[int]) -> tuple[Split, list[Record]]:
    """The split without the pictures of these numbers, and those that were left out."""
    if not seen:
        return split, []
    known = is_seen(split.records, seen)
    left = [record for record, own in zip(split.records, known, strict=True) if not own]
    return replace(split, records=left), [r for r, own in zip(split.records, known, strict=True) if own]


def count_learnt(split: Split, *learnt: Set[int] | None) -> int | None:
    """How many of the images any of some networks has learnt from; None where no file says."""
    known = [own for own in learnt if own is not None]
    return len(unseen(split, frozenset[int]().union(*known))[1]) if known else None


def too_good(count: int | None, images: int, kind: str = "images") -> list[str]:
    """A line on images that a network has learnt from, of all; none where there are none."""
    return [counted(count, f"of {images} {kind} were used to train a network: figures are too good")] if count else []
