"""Maps of any number of images, kept in a file: the network looks at each image once, and memory stays flat."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np

BLOCK = 2**26  # bytes of a block as float64


class StoredMaps:
    """[N, M] float32 maps in a file, whose rows are read when they are asked for.

    Args:
        file: open, unbuffered, with the rows one after another.
        shape: N and M.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, int]) -> None:
        self.file, self.shape = file, shape

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """[n, M] of row numbers [n], in any order."""
        found = np.empty((len(rows), self.shape[1]), np.float32)
        for own, row in zip(found, rows.tolist(), strict=True):
            self.file.seek(row * own.nbytes)
            self.file.readinto(own.data)  # type: ignore[attr-defined]
        return found


Maps = np.ndarray | StoredMaps
"""[N, M] flattened maps, in memory or in a file."""


@contextmanager
def stored(parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterator[tuple[StoredMaps, np.ndarray]]:
    """Maps [N, M] and boxes [N, 4] of batches [n, M] and [n, 4], the maps in a file as long as they are.

    The file is in the folder for temporary files, which TMPDIR names, takes 4·N·M bytes, and is gone at the end.
    """
    with tempfile.TemporaryFile(buffering=0) as file:
        boxes, pixels = [], 0
        for maps, own in parts:
            file.write(np.ascontiguousarray(maps, np.float32).data)
            boxes.append(own)
            pixels = maps.shape[1]
        found = np.concatenate(boxes)
        yield StoredMaps(file, (len(found), pixels)), found


def blocks(maps: Maps, rows: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Some rows as float64, a block at a time, each with its place among them."""
    step = max(1, BLOCK // (8 * maps.shape[1]))
    for start in range(0, len(rows), step):
        yield slice(start, start + step), maps[rows[start : start + step]].astype(np.float64)
