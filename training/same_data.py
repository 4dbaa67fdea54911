"""What a run learns from, in few digits: a run that continues continues with the same."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from data.records import Record, Split
from data.seen import END, number, numbers
from utils.errors import UserError
from utils.threads import each

WHOLE = 2**30  # bytes of a split's pictures
UNSAID = {"pretrain val"}  # split that older checkpoints say nothing of
Identity = dict[str, dict[str, str]]
"""Split → what of it → digest."""


def identity(splits: dict[str, Split]) -> Identity:
    """Of each split its classes, its pictures (names, sizes in pixels and bytes, their order), labels and contents."""
    return {
        name: {
            "classes": digest([repr(own.description.names).encode()]),
            "pictures": f"{len(own.records)} {digest(map(picture, own.records))}",
            "labels": digest(part for record in own.records for part in labels(record)),
            "contents of pictures": digest(contents(own.records)),
            **({"contents of masks": digest(masks)} if (masks := masks_of(own.records)) else {}),
            **({"levels": digest([repr(levels).encode()])} if (levels := levels_of(own.records)) else {}),
        }
        for name, own in splits.items()
    }


def digest(parts: Iterable[bytes]) -> str:
    """16 hex digits."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part + b"\n")
    return found.hexdigest()[:16]


def picture(record: Record) -> bytes:
    """What distinguishes a picture from another without decoding it."""
    return repr((record.image.name, record.size_hw, bytes_of(record.image))).encode()


def bytes_of(path: Path) -> int:
    """Size of a file; 0 of what is none, as an image in an archive."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def contents(records: Sequence[Record]) -> Iterator[bytes]:
    """What is in each picture: of files that are more than WHOLE together, what is at their ends."""
    whole = sum(map(bytes_of, {record.image for record in records})) <= WHOLE
    yield from (b"%d" % own for own in numbers(records, partial(number, end=None if whole else END)))


def levels_of(records: Sequence[Record]) -> list[tuple[float, ...]]:
    """What becomes black and white in pictures of more than 8 bits, each pair once."""
    return sorted({tuple(record.levels.pair) for record in records if record.levels is not None})


def masks_of(records: Sequence[Record]) -> list[bytes]:
    """What is in each mask."""
    masks = [record.mask for record in records if record.mask is not None]
    return list(each(lambda mask: mask.content(), masks))


def labels(record: Record) -> Iterable[bytes]:
    """What is learnt of a picture."""
    for part in (record.boxes_xyxy, record.labels, record.asked, record.classes):
        yield b"-" if part is None else np.ascontiguousarray(part).tobytes()
    if record.mask is not None:
        yield record.mask.identity()


def refuse_changed(now: Identity, then: Identity, where: Path) -> None:
    """Refuse to continue with other data than a run began with.

    Raises:
        UserError: names each split, and what of it is not the same.
    """
    if now and then and (now.keys() ^ then.keys()) - UNSAID:
        what = f"the run began with the splits {', '.join(sorted(then))}, not {', '.join(sorted(now))}"
        raise UserError(what, where=where, hint="restore the data, or give --accept-changed-data")
    changed = [
        f"`{split}` has other {part}" + (f" ({own.split()[0]}, not {before.split()[0]})" if " " in own else "")
        for split, parts in now.items()
        for part, own in parts.items()
        if (before := then.get(split, {}).get(part, own)) != own
    ]
    if changed:
        hint = "restore the data, or give --accept-changed-data"
        raise UserError(f"{'; '.join(changed)} than when the run began", where=where, hint=hint)
