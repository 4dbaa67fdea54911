"""2.5D: slices through a volume in three directions as pictures, and pictures back in the volume.

Volumes are brought to right, front and top first (RAS), by turning and mirroring, without resampling. A picture shows
the subject upright: sagittal ones have the front at the right, coronal and axial ones the subject's right.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

DIRECTIONS = ("sagittal", "coronal", "axial")  # across the first, second and third axis


@dataclass(frozen=True)
class Slice:
    """One slice: across which axis, and its number along it, from 0."""

    axis: int
    index: int

    @property
    def name(self) -> str:
        """As in `axial-072`."""
        return f"{DIRECTIONS[self.axis]}-{self.index:03d}"

    @classmethod
    def named(cls, name: str) -> "Slice":
        """The slice of a name."""
        direction, _, index = name.rpartition("-")
        return cls(DIRECTIONS.index(direction), int(index))

    def cut(self, upright: np.ndarray) -> np.ndarray:
        """[h, w] of an upright volume [X, Y, Z]."""
        return np.rot90(np.take(upright, self.index, self.axis))

    def put(self, picture: np.ndarray, upright: np.ndarray) -> None:
        """Add a picture [h, w] to its slice of an upright volume, in place."""
        np.moveaxis(upright, self.axis, 0)[self.index] += np.rot90(picture, -1)


def centre(shape: tuple[int, ...], count: int) -> Iterator[Slice]:
    """So many slices in the middle of each direction; all of them where there are fewer."""
    for axis, length in enumerate(shape):
        own = min(count, length)
        start = (length - own) // 2
        yield from (Slice(axis, index) for index in range(start, start + own))


def upright(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """[X, Y, Z] of a volume with its axes to the right, the front and the top, or as near to these as turns lead."""
    from nibabel.orientations import apply_orientation, io_orientation

    return np.asarray(apply_orientation(values, io_orientation(affine)))


def as_stored(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """An upright volume in the order of the voxels of the file with this affine."""
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    back = ornt_transform(axcodes2ornt("RAS"), io_orientation(affine))
    return np.asarray(apply_orientation(values, back))
