"""Files of a folder by name, whatever the capitals and however an umlaut is composed."""

import os
import stat
import unicodedata
from collections.abc import Collection, Iterator
from pathlib import Path


def alike(name: str) -> str:
    """The same for names that differ in capitals, or in how their letters are composed (NFC, NFD)."""
    return name if name.isascii() and name.islower() else unicodedata.normalize("NFC", name.casefold())


def parted(name: str) -> tuple[str, str]:
    """Stem and suffix of a name: what a Path knows too, in a tenth of its time."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


def status_of(path: Path) -> os.stat_result | None:
    """What the system knows of what is at a path; None where there is nothing, or no path could be like that."""
    try:
        return os.stat(str(path))  # noqa: PTH116 – a third of the time of a Path's
    except (OSError, ValueError):  # too long; ValueError: a name with NUL
        return None


def kind_of(path: Path) -> int | None:
    """The mode of what is at a path; None where there is nothing."""
    found = status_of(path)
    return None if found is None else found.st_mode


def is_folder(path: Path) -> bool:
    """Whether there is a folder at a path."""
    return stat.S_ISDIR(kind_of(path) or 0)


def is_file(path: Path) -> bool:
    """Whether there is a file at a path, not a folder or a pipe."""
    return stat.S_ISREG(kind_of(path) or 0)


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files at any depth by suffix, small letters, in alphabetical order; links are followed, hidden names are not."""
    found, stack, seen = list[str](), [folder], set[tuple[int, int]]()
    while stack:
        place = stack.pop()
        for entry in entries(place, seen):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                stack.append(place / entry.name)
            elif parted(entry.name)[1].lower() in suffixes:
                found.append(entry.path)
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]  # noqa: PTH206 – quicker than Paths


def entries(folder: Path, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder; nothing where it cannot be read, or was seen before: links may go round in a circle."""
    try:
        status = folder.stat()
        if (own := (status.st_dev, status.st_ino)) not in seen:
            seen.add(own)
            yield from os.scandir(str(folder))
    except (OSError, ValueError):  # ValueError: a name with NUL
        return


class Folders:
    """Looks names up in folders, each of which is listed once.

    Args:
        suffixes: those that `find_stem` looks for, small letters.
    """

    def __init__(self, suffixes: Collection[str] = ()) -> None:
        self.suffixes = suffixes
        self._names: dict[Path, frozenset[str]] = {}
        self._keys: dict[tuple[Path, bool], dict[str, str]] = {}

    def find(self, path: Path) -> Path | None:
        """A path as it is, or the first one that is alike in each of its names; None where there is none."""
        return path if path.name in self.names(path.parent) else self._by_key(path, stem=False)

    def find_stem(self, path: Path) -> Path | None:
        """The first file of one of the suffixes whose path is alike without it; None where there is none."""
        return self._by_key(path, stem=True)

    def names(self, folder: Path) -> frozenset[str]:
        """What is in a folder; nothing where there is no such folder."""
        if folder not in self._names:
            self._names[folder] = frozenset(entry.name for entry in entries(folder, set()))
        return self._names[folder]

    def _by_key(self, path: Path, *, stem: bool) -> Path | None:
        folder = self._folder(path.parent)
        if folder is None:
            return None
        if (folder, stem) not in self._keys:
            named = ((parted(name) if stem else (name, ""), name) for name in sorted(self.names(folder), reverse=True))
            kept = {alike(own): name for (own, end), name in named if not stem or end.lower() in self.suffixes}
            self._keys[folder, stem] = kept
        name = self._keys[folder, stem].get(alike(path.name))
        return None if name is None else folder / name

    def _folder(self, folder: Path) -> Path | None:
        """A folder as it is, or one that is alike."""
        if self.names(folder):
            return folder
        return None if folder.name in ("", "..") else self.find(folder)
