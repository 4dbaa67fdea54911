"""Pictures and boxes that are there twice: in a list, in a file of labels, in two splits."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.records import Notice, Record, Split
from data.sizes import remembered, stamp
from utils.console import said_if_slow
from utils.memory import no_collection
from utils.paths import status_of

SMALL = 2**24  # bytes of a file that is read at once
MANY = 1000  # files to compare, above which the outcome is noted for the next time


def without_doubles(split: Split) -> Split:
    """A split in which every picture and every box counts once, with notices of those that were there more often.

    A picture that is there twice has the boxes of both.
    """
    records, doubled = distinct_boxes(split.records)
    records, again = distinct_pictures(records, single_label=split.description.single_label)
    records = distinct_boxes(records)[0] if again else records
    notices = [
        Notice("pictures are there more than once and count once", again),
        Notice("pictures have equal boxes of one class, which count once", doubled),
    ]
    if not again and not doubled:
        return split
    return replace(split, records=records, notices=[*split.notices, *(own for own in notices if own.places)])


def distinct_pictures(records: list[Record], *, single_label: bool) -> tuple[list[Record], list[str]]:
    """Records of one picture each, and the pictures that were in more than one."""
    places: dict[Path, int] = {}
    found: list[Record] = []
    again: dict[str, None] = {}
    for record in records:
        at = places.setdefault(record.image, len(found)) if record.pixels is None else len(found)
        if at == len(found):
            found.append(record)
        else:
            whole = joined(found[at], record)
            found[at] = replace(whole, classes=found[at].classes) if single_label else whole
            again[str(record.image)] = None
    return found, list(again)


def joined(one: Record, other: Record) -> Record:
    """A record with the boxes and the classes of both."""

    def both(name: str) -> np.ndarray | None:
        parts = getattr(one, name), getattr(other, name)
        return None if any(part is None for part in parts) else np.concatenate(parts)

    classes = both("classes")
    return replace(
        one,
        boxes_xyxy=np.concatenate([one.boxes_xyxy, other.boxes_xyxy]),
        labels=np.concatenate([one.labels, other.labels]),
        difficult=np.concatenate([one.difficult, other.difficult]),
        classes=None if classes is None else np.unique(classes),
        clipped=one.clipped + other.clipped,
        crowd=both("crowd"),
        areas=both("areas"),
    )


def distinct_boxes(records: list[Record]) -> tuple[list[Record], list[str]]:
    """Records without boxes that equal an earlier one in sides and class, and the pictures that had some."""
    found = list(records)
    suspects = with_equal_boxes(records)
    for index in suspects:
        record = records[index]
        rows = np.column_stack([record.boxes_xyxy, record.labels.astype(np.float32)])
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])
        parts = {"boxes_xyxy": record.boxes_xyxy[first], "labels": record.labels[first]}
        parts |= {"difficult": record.difficult[first]}
        parts |= {name: own[first] for name in ("crowd", "areas") if (own := getattr(record, name)) is not None}
        found[index] = replace(record, **parts)  # type: ignore[arg-type]
    return found, [str(records[index].image) for index in suspects]


def with_equal_boxes(records: list[Record]) -> list[int]:
    """Indices of the records that have a box twice."""
    counts = np.array([len(record.labels) for record in records], np.int64)
    if not counts.sum():
        return []
    boxes = np.concatenate([record.boxes_xyxy for record in records]).astype(np.float32)
    labels = np.concatenate([record.labels for record in records])
    owners = np.repeat(np.arange(len(records)), counts)
    rows = np.column_stack([boxes.view(np.int64), owners << 32 | labels])  # two sides, or two numbers, in each column
    order = np.lexsort(rows.T)
    equal = (rows[order[1:]] == rows[order[:-1]]).all(1)
    return np.unique(owners[order[1:][equal]]).tolist()


def files(split: Split) -> list[Path]:
    """Image files of a split; images that are no files of their own have none."""
    return [record.image for record in split.records if record.pixels is None]


def in_both(one: Split, other: Split) -> list[Path]:
    """Pictures of a split that are in another too: files byte for byte, others pixel for pixel.

    A picture of one colour, as slices at the end of a volume are, is like no other.
    """
    theirs = {digest_of(own) for own in with_content(other)}
    return common(files(one), files(other)) + [own.image for own in with_content(one) if digest_of(own) in theirs]


def with_content(split: Split) -> Iterator[Record]:
    """Records whose pixels are in no file of their own, and not all the same."""
    return (own for own in split.records if own.pixels is not None and (own.pixels != own.pixels.flat[0]).any())


def digest_of(record: Record) -> str:
    """SHA-256 of a record's pixels and their shape."""
    pixels = np.ascontiguousarray(record.pixels)
    return hashlib.sha256(str(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def common(one: list[Path], other: list[Path]) -> list[Path]:
    """Those of the first files that are among the others too, byte for byte; only files of equal size are read."""
    found = {*one} & {*other}
    mine, theirs = by_length(path for path in one if path not in found), by_length(other)
    sides = [(mine[length], theirs[length]) for length in mine.keys() & theirs.keys()]

    def equal() -> list[str]:
        with said_if_slow("comparing the pictures of the splits"):
            return [str(path) for own, others in sides for path in same_content(own, others)]

    return sorted(found | {*map(Path, asked_once("common", [part for side in sides for part in side], equal))})


def copies(paths: list[Path]) -> list[Path]:
    """Those of the files that an earlier one equals byte for byte; only files of equal size are read."""
    alike = [own for own in by_length(paths).values() if len(own) > 1]

    def equal() -> list[str]:
        first: dict[str, Path] = {}
        with said_if_slow("comparing the pictures of a split"):
            digests = [(path, digest(path)) for own in alike for path in own]
        return [str(path) for path, own in digests if first.setdefault(own, path) != path]

    return sorted(map(Path, asked_once("copies", alike, equal)))


def asked_once(kind: str, groups: Sequence[Mapping[Path, str]], answer: Callable[[], list[str]]) -> list[str]:
    """The answer to a question about files and their stamps; where they are many, it is noted for the next time."""
    if sum(map(len, groups)) < MANY:
        return answer()
    stamps = sorted(f"{path} {own}" for group in groups for path, own in group.items())
    question = hashlib.sha256("\n".join(stamps).encode(errors="surrogateescape")).hexdigest()
    return remembered(f"{kind} {question}", answer)


def by_length(paths: Iterable[Path]) -> dict[int, dict[Path, str]]:
    """Bytes of a file → the files that are so long, with their stamps."""
    found: dict[int, dict[Path, str]] = defaultdict(dict)
    for path in paths:
        if (status := status_of(path)) is not None:
            found[status.st_size][path] = stamp(status)
    return found


def same_content(one: Iterable[Path], other: Iterable[Path]) -> list[Path]:
    """Those of the first files that have the content of one of the others."""
    contents = {digest(path) for path in other}
    return [path for path in one if digest(path) in contents]


def digest(path: Path) -> str:
    """SHA-256 of a file; one that is gone is like no other."""
    try:
        with open(str(path), "rb", buffering=0) as file:  # unbuffered: of small files, that is most of the work
            if os.fstat(file.fileno()).st_size < SMALL:
                return hashlib.sha256(file.read()).hexdigest()
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return str(path)


def in_one_split(splits: Sequence[Split]) -> list[str]:
    """A line for each split in which pictures are there under several names, byte for byte."""
    what = "pictures of `{}` are copies of others in it, byte for byte"
    notices = [Notice(what.format(own.name), [str(path) for path in copies(files(own))]) for own in splits]
    return [notice.line() for notice in notices if notice.places]


@no_collection()
def in_two_splits(splits: Sequence[Split]) -> list[str]:
    """A line for each two splits of a data set that have pictures in common, byte for byte."""
    lines = []
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:
            if found := in_both(one, other):
                what = f"pictures of `{one.name}` are in `{other.name}` too, byte for byte"
                lines.append(Notice(what, [str(path) for path in found], "the figures would be too good").line())
    return lines
