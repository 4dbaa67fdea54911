"""Measured values, kept in a folder: a study that was stopped, or has a network more, measures only what is new.

What is kept is found by what it was made from: a hash of the network's weights, of what it was shown, of the rule, of
this project's code and of the libraries that compute. Where one of them is another, it is measured anew.
"""

import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import skimage
import torch

from maps.cases import Cases
from utils import plugins
from utils.config import ROOT
from utils.files import make_folder, written_whole

CODE = ("data", "evaluation", "maps", "models", "utils")  # folders whose code decides what is measured
LIBRARIES = tuple(f"{own.__name__} {own.__version__}" for own in (torch, np, cv2, skimage))
DAMAGED = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Kept:
    """Arrays in a folder.

    Attributes:
        folder: None: nothing is kept, all is made.
        read, made: files of them, so far.
    """

    folder: Path | None = None
    read: list[Path] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)

    def find(self, *parts: object) -> Arrays | None:
        """What was made from these; None where it is not there, or cannot be read."""
        if self.folder is None or not (path := self.path(parts)).exists():
            return None
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                found = dict(arrays)
        except DAMAGED:
            return None
        self.read.append(path)
        return found

    def keep(self, found: Arrays, *parts: object) -> None:
        """Keep what was made from these."""
        if self.folder is None:
            return
        make_folder(self.folder)
        with written_whole(path := self.path(parts)) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **found)  # type: ignore[arg-type]
        self.made.append(path)

    def of(self, make: Callable[[], Arrays], *parts: object) -> Arrays:
        """What was made from these, or is now."""
        found = self.find(*parts)
        if found is None:
            found = make()
            self.keep(found, *parts)
        return found

    def path(self, parts: tuple[object, ...]) -> Path:
        """Of the arrays that are made from these."""
        assert self.folder is not None, "only what is kept has a file"
        own = hashlib.sha256("\n".join(map(repr, (code(), *parts))).encode())
        return self.folder / f"{own.hexdigest()}.npz"

    def about(self) -> str:
        """What was read and what was made; nothing where nothing is kept."""
        if self.folder is None:
            return ""
        read, made = len(self.read), len(self.made)
        return f"{read} of the {read + made} parts of these values were read from {self.folder}\n"


def content(cases: Cases) -> str:
    """A hash of what networks are shown, and of what their maps are measured on."""
    found = hashlib.sha256()
    for array in (cases.images.numpy(), cases.labels.numpy(), cases.truth, *cases.boxes):
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def code() -> str:
    """A hash of what measures: this project's code, the user's own that adds to it, and libraries."""
    own = sorted(loaded.sha256 for loaded in plugins.LOADED.values())
    return hashlib.sha256(repr((sources(), own)).encode()).hexdigest()


@cache
def sources() -> tuple[str, ...]:
    """Hashes and versions that stay the same while a process lives."""

    def files() -> Iterator[Path]:
        for folder in CODE:
            yield from sorted((ROOT / folder).glob("**/*.py"))

    return *(hashlib.sha256(path.read_bytes()).hexdigest() for path in files()), *LIBRARIES
