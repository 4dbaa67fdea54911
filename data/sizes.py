"""Sizes of images that were decoded before, and other answers: a second start on much data need not read it again.

They are kept in one file below the user's cache folder; a file that has changed since, or is another, is not in it.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from utils.files import user_cache

FILE = "image_sizes.sqlite3"
TABLES = """CREATE TABLE IF NOT EXISTS sizes (folder TEXT, name TEXT, stamp TEXT, height INTEGER, width INTEGER,
PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answers (question TEXT PRIMARY KEY, answer TEXT);"""
WAIT_S = 30.0  # for another process that writes
Size = tuple[int, int]
NOT_KEPT = (sqlite3.Error, UnicodeEncodeError)  # no place, a damaged file; a name that is no UTF-8


def stamp(status: os.stat_result | None) -> str:
    """What changes with a file's content: its length and times, and which file it is; nothing where there is none."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}" if status else ""


def known(stamps: Mapping[Path, str]) -> dict[Path, Size]:
    """Height and width of those images that are noted under the same stamp."""
    found: dict[Path, Size] = {}
    with contextlib.suppress(*NOT_KEPT), opened() as base:
        noted: dict[str, dict[str, tuple[str, int, int]]] = {}
        for path, own in stamps.items():
            folder, _, name = str(path).rpartition(os.sep)
            if folder not in noted:
                rows = base.execute("SELECT name, stamp, height, width FROM sizes WHERE folder = ?", (folder,))
                noted[folder] = {row[0]: row[1:] for row in rows}
            row = noted[folder].get(name)
            if row is not None and row[0] == own:
                found[path] = row[1:]
    return found


def remembered(question: str, answer: Callable[[], list[str]]) -> list[str]:
    """The answer to a question that was asked before, or else the answer, which is noted."""
    with contextlib.suppress(*NOT_KEPT), opened() as base:
        if row := base.execute("SELECT answer FROM answers WHERE question = ?", (question,)).fetchone():
            return list(json.loads(row[0]))
    found = answer()
    with contextlib.suppress(*NOT_KEPT), opened() as base, base:
        base.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (question, json.dumps(found)))
    return found


def note(sizes: Iterable[tuple[Path, str, Size]]) -> None:
    """Keep sizes for the next time; where that cannot be done they are decoded again."""
    rows = ((str(path.parent), path.name, own, *size) for path, own, size in sizes)
    with contextlib.suppress(*NOT_KEPT), opened() as base, base:
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
            base.executescript(TABLES)
            yield base
    except sqlite3.OperationalError:  # locked, full, or not ours to write
        raise
    except sqlite3.DatabaseError:
        with contextlib.suppress(OSError):
            (folder / FILE).unlink()
        raise
