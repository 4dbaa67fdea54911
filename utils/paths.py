"""What is at a path, for paths of any kind: too long, with NUL, or where nobody may look."""

import os
import stat
from pathlib import Path


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
