"""Sizes of images that were decoded before: the second start on a large data set need not decode it again.

They are kept in one file below the user's cache folder; a file that has changed since, or is another, is not in it.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from utils.files import user_cache

FILE = "image_sizes.sqlite3"
TABLE = """CREATE TABLE IF NOT EXISTS sizes (folder TEXT, name TEXT, stamp TEXT, height INTEGER, width INTEGER,
PRIMARY KEY (folder, name)) WITHOUT ROWID"""
WAIT_S = 30.0  # for another process that writes
Size = tuple[int, int]


def stamp(path: Path) -> str | None:
    """What changes with a file's content: its length and times, and which file it is; None where there is no file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def known(stamps: Mapping[Path, str]) -> dict[Path, Size]:
    """Height and width of those images that are noted under the same stamp."""
    found: dict[Path, Size] = {}
    with contextlib.suppress(sqlite3.Error), opened() as base:
        noted: dict[str, dict[str, tuple[str, int, int]]] = {}
        for path, own in stamps.items():
            folder = str(path.parent)
            if folder not in noted:
                rows = base.execute("SELECT name, stamp, height, width FROM sizes WHERE folder = ?", (folder,))
                noted[folder] = {name: (stamp, height, width) for name, stamp, height, width in rows}
            row = noted[folder].get(path.name)
            if row is not None and row[0] == own:
                found[path] = row[1:]
    return found


def note(sizes: Iterable[tuple[Path, str, Size]]) -> None:
    """Keep sizes for the next time; where that cannot be done they are decoded again."""
    rows = ((str(path.parent), path.name, own, *size) for path, own, size in sizes)
    with contextlib.suppress(sqlite3.Error, UnicodeEncodeError), opened() as base, base:
        base.executemany("INSERT OR REPLACE INTO sizes VALUES (?, ?, ?, ?, ?)", rows)


@contextlib.contextmanager
def opened() -> Iterator[sqlite3.Connection]:
    """The file of sizes; a damaged one is begun anew.

    Raises:
        sqlite3.Error: there is no place for one, or it is damaged.
    """
    folder = user_cache()
    if folder is None:
        raise sqlite3.OperationalError("no cache folder")
    try:
        with contextlib.closing(sqlite3.connect(folder / FILE, timeout=WAIT_S)) as base:
            base.execute(TABLE)
            yield base
    except sqlite3.OperationalError:  # locked, full, or not ours to write
        raise
    except sqlite3.DatabaseError:
        with contextlib.suppress(OSError):
            (folder / FILE).unlink()
        raise
