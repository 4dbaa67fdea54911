"""Measured values, kept in a folder: a study that was stopped, or has one more network, measures only what is new.

What is kept is found by a hash of what it was made from: the network's weights, what it was shown, the rule, this
project's code and the versions of the libraries that compute. If any of these has changed, it is measured anew.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from maps.cases import Cases
from utils import plugins
from utils.config import ROOT
from utils.errors import UserError
from utils.files import make_folder, written_whole

CODE = ("data", "evaluation", "maps", "models", "utils")  # folders whose code decides what is measured
LIBRARIES = ("torch", "torchvision", "timm", "numpy", "scikit-image", "pycocotools")

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

    @classmethod
    def at(cls, folder: Path | None) -> "Kept":
        """In a folder, which is made.

        Raises:
            UserError: it cannot be written.
        """
        try:
            return cls(folder and make_folder(folder))
        except UserError as error:
            raise UserError(f"{error.where}: {error.what}", where="--keep", hint="give another folder") from None

    def find(self, *parts: object) -> Arrays | None:
        """What was made from these; None where it is not there, or cannot be read."""
        if self.folder is None:
            return None
        path = self.path(parts)
        try:
            with path.open("rb") as file, np.load(file) as arrays:
                found = dict(arrays)
        except Exception:  # what is damaged is in many ways; it is made again, as what is absent
            return None
        self.read.append(path)
        return found

    def keep(self, found: Arrays, *parts: object) -> None:
        """Keep what was made from these."""
        if self.folder is None:
            return
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

    def content(self, cases: Cases) -> str:
        """A hash of what networks are shown, and of what their maps are measured on; empty where nothing is kept."""
        found = hashlib.sha256()
        arrays = (cases.images.numpy(), cases.labels.numpy(), cases.truth, *cases.boxes) if self.folder else ()
        for array in arrays:
            found.update(f"{array.shape} {array.dtype}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest() if self.folder else ""

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


def code() -> str:
    """A hash of what measures: this project's code, the user's own that adds to it, and libraries."""
    own = sorted(loaded.sha256 for loaded in plugins.LOADED.values())
    return hashlib.sha256(repr((SOURCES, own)).encode()).hexdigest()


def sources() -> tuple[str, ...]:
    """Hashes of this project's files, and versions of libraries."""
    files = (path for folder in CODE for path in sorted((ROOT / folder).glob("**/*.py")))
    hashes = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    return *hashes, *map(version, LIBRARIES), cv2.__version__


SOURCES = sources()  # of the code that is being imported, not of what a file may become while this process lives
