"""Files of a folder by name, whatever the capitals and however an umlaut is composed."""

import errno
import os
import unicodedata
from collections.abc import Callable, Collection, Iterator
from pathlib import Path


def alike(name: str) -> str:
    """The same for names that differ in capitals, or in how their letters are composed (NFC, NFD)."""
    return name if name.isascii() and name.islower() else unicodedata.normalize("NFC", name.casefold())


def parted(name: str) -> tuple[str, str]:
    """Stem and suffix of a name: what a Path knows too, in a tenth of its time."""
    dot = name.rfind(".")
    return (name[:dot], name[dot:]) if dot > 0 else (name, "")


def files_below(
    folder: Path,
    suffixes: Collection[str],
    closed: list[Path] | None = None,
    marked: Callable[[str], bool] | None = None,
) -> list[Path]:
    """Files at any depth by suffix, small letters, in alphabetical order; links are followed, hidden names are not.

    Links that lead nowhere, and pipes, are files to whoever asks for what is called so.

    Args:
        closed: takes the folders that cannot be read.
        marked: whether what has another suffix, or none, is wanted, too.
    """
    found, stack, seen = list[str](), [folder], set[tuple[int, int]]()
    while stack:
        place = stack.pop()
        for entry in entries(place, seen, closed):
            if entry.name.startswith("."):
                continue
            if leads_on(entry):
                stack.append(place / entry.name)
            elif parted(entry.name)[1].lower() in suffixes or (marked is not None and marked(entry.path)):
                found.append(entry.path)
    return [Path(path) for path in sorted(found, key=lambda path: path.split(os.sep))]  # noqa: PTH206 – quicker than Paths


def leads_on(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nobody may look
        return False


def entries(folder: Path, seen: set[tuple[int, int]], closed: list[Path] | None = None) -> Iterator[os.DirEntry[str]]:
    """Entries of a folder; nothing where it cannot be read, or was seen before: links may go round in a circle.

    Args:
        closed: takes the folder if it is there and cannot be read.
    """
    try:
        status = folder.stat()
        if (own := (status.st_dev, status.st_ino)) not in seen:
            seen.add(own)
            yield from os.scandir(str(folder))
    except (OSError, ValueError) as error:  # ValueError: a name with NUL
        if closed is not None and isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.ENOTDIR):
            closed.append(folder)


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
