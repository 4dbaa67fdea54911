"""Files that are either whole or absent."""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import UserError


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside path; on success it is flushed to disk and takes path's place.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with written_whole(path) as temporary:
        temporary.write_text(text)


def json_text(value: object, indent: int | None = None) -> str:
    """A value as json, which knows no NaN and no infinity: null stands where nothing is known."""
    return json.dumps(finite(value), indent=indent, allow_nan=False)


def finite(value: Any) -> Any:
    """Lists and dicts with None in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {key: finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_folder(path: Path) -> Path:
    """Create a folder with its parents.

    Raises:
        UserError: it cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def user_cache() -> Path | None:
    """This project's folder below the user's cache folder, made for the user alone; None where there cannot be one."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cascade-yolo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a user without a home
        return None
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
    return folder if own else None


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a path that refuses to be written."""
    return UserError(
        f"cannot write ({error.strerror or error})", where=path, mend="choose another folder with --project, or free it"
    )


def first_free(make: Callable[[str], Path], start: str) -> Path:
    """First of make(start), make(start2), make(start3)… that does not exist yet."""
    number, candidate = 1, make(start)
    while candidate.exists():
        number += 1
        candidate = make(f"{start}{number}")
    return candidate
