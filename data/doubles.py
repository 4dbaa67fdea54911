"""Pictures and boxes that are there twice: in a list, in a file of labels, in two splits."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.records import Notice, Record, Split


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
    rows = np.column_stack([boxes.view(np.uint32).astype(np.int64), labels, owners])
    order = np.lexsort(rows.T)
    equal = (rows[order[1:]] == rows[order[:-1]]).all(1)
    return np.unique(owners[order[1:][equal]]).tolist()


def files(split: Split) -> list[Path]:
    """Image files of a split; images that are no files of their own have none."""
    return [record.image for record in split.records if record.pixels is None]


def common(one: list[Path], other: list[Path]) -> list[Path]:
    """Those of the first files that are among the others too, byte for byte; only files of equal size are read."""
    by_size: list[dict[int, list[Path]]] = []
    for paths in (one, other):
        sizes: dict[int, list[Path]] = defaultdict(list)
        for path in paths:
            if path.is_file():
                sizes[path.stat().st_size].append(path)
        by_size.append(sizes)
    found = {*one} & {*other}
    for size in by_size[0].keys() & by_size[1].keys():
        if unknown := [path for path in by_size[0][size] if path not in found]:
            contents = {digest(path) for path in by_size[1][size]}
            found |= {path for path in unknown if digest(path) in contents}
    return sorted(found)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def in_two_splits(splits: Sequence[Split]) -> list[str]:
    """A line for each two splits of a data set that have pictures in common, byte for byte."""
    lines = []
    for index, one in enumerate(splits):
        for other in splits[index + 1 :]:
            if found := common(files(one), files(other)):
                what = f"pictures of `{one.name}` are in `{other.name}` too, byte for byte"
                lines.append(Notice(what, [str(path) for path in found], "figures flatter").line())
    return lines
