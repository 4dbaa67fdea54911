"""The levels of a data set: measured once, the same for all of its pictures of more than 8 bits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from data.records import Description, Split
from utils.images import is_deep, own_levels, read_occurring
from utils.levels import Levels, levels_of, sample_values
from utils.threads import each

MEASURED = 256  # pictures that are looked at, evenly through the split


def levelled(split: Split) -> Split:
    """The split with levels on its records of more than 8 bits; its description holds them for the other splits.

    They are those of the description where it has any: of the data yaml, of a trained file, or of the split that was
    read before. Else they are the window that all DICOM files ask for, if it is one, or else measured.
    """
    files = [None if record.pixels is not None else record.image for record in split.records]
    deep = list(each(lambda path: path is not None and is_deep(path), files))
    if not any(deep):
        return split
    paths = [record.image for record, own in zip(split.records, deep, strict=True) if own]
    levels = split.description.levels or measured(paths, split.name)
    records = [
        replace(record, levels=levels) if own else record for record, own in zip(split.records, deep, strict=True)
    ]
    return replace(split, records=records, description=replace(split.description, levels=levels))


def measured(paths: Sequence[Path], split: str) -> Levels:
    """Levels of some pictures of more than 8 bits."""
    some = evenly(paths, MEASURED)
    asked = set(each(own_levels, some))
    if len(asked) == 1 and (only := asked.pop()) is not None:
        return only
    samples = list(each(lambda path: sample_values(read_occurring(path)), some))
    return levels_of(samples, f"the values in {len(some)} pictures of `{split}`")


def evenly(items: Sequence[Path], most: int) -> Sequence[Path]:
    """At most so many of the items, evenly through them."""
    return items[:: -(-len(items) // most)]


def with_levels(description: Description, levels: Levels | None) -> Description:
    """The description with the levels of a trained file, where it has any: what it learnt from looked so."""
    return description if levels is None else replace(description, levels=levels)


def values_of(split: Split, most: int) -> np.ndarray:
    """[n] values that occur in some of a split's pictures, as they are in the files; none of what is outside them."""
    step = -(-len(split.records) // most)
    return np.concatenate(
        [
            sample_values(read_occurring(record.image) if record.pixels is None else record.pixels)
            for record in split.records[::step]
        ]
    )
