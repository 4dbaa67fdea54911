"""Files that are either whole or absent."""

import csv
import errno
import hashlib
import io
import json
import math
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from utils.errors import UserError
from utils.text import cell, harmless

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary name beside path; on success it is flushed to disk and takes path's place.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = temporary_name(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A temporary folder beside a folder, whose place it takes on success; what was there is deleted then.

    Raises:
        UserError: the folder cannot be created or written, or the disk is full.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield make_folder(partial)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            raise cannot_write(folder, error) from error
        raise
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def temporary_name(path: Path) -> Path:
    """What a file of this thread is called beside path until it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have left half written at any depth; nobody else may be at work there."""
    for path in folder.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole; control characters, and bytes of names that are no UTF-8, are spelt out."""
    with written_whole(path) as temporary:
        temporary.write_text(harmless(text), encoding="utf-8", errors="backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_file(path: Path) -> Path:
    """Where the SHA-256 of a file of weights that has no room for it is noted, beside it."""
    return path.with_name(path.name + ".sha256")


def as_noted(path: Path) -> bool:
    """Whether a file has the SHA-256 that is noted beside it; True where none is."""
    note = digest_file(path)
    return not note.is_file() or note.read_text(errors="replace").split()[:1] == [sha256_of(path)]


def csv_text(rows: Sequence[Mapping[str, object]], columns: Sequence[str] | None = None) -> str:
    """A CSV table; no cell of it is a formula to a spreadsheet.

    Args:
        columns: their order [all keys, as they come].
    """
    text = io.StringIO()
    names = list(dict.fromkeys(key for row in rows for key in row)) if columns is None else columns
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writerow({name: cell(name) for name in names})
    writer.writerows([{key: cell(value) for key, value in row.items()} for row in rows])
    return text.getvalue()


def read_json(path: Path, hint: str) -> dict[str, Any]:
    """The object that a JSON file holds.

    Args:
        hint: of the error.

    Raises:
        UserError: it cannot be read, is not JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not valid JSON"
        raise UserError(f"cannot be read: {why}", where=path, hint=hint) from error
    if not isinstance(content, dict):
        raise UserError("is JSON, but no object", where=path, hint=hint)
    return content


def json_text(content: object, indent: int | None = None) -> str:
    """JSON that every reader takes: what is no finite number is null."""
    return json.dumps(finite(content), indent=indent, allow_nan=False) + "\n"


def finite(value: Any) -> Any:
    """The value with None for each number in it that is not finite."""
    if isinstance(value, dict):
        return {key: finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [finite(own) for own in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def free_folder(path: Path, own: Path) -> Path:
    """The whole path of a folder that may be replaced: one that is not there, is empty, or is `own`, the default.

    Raises:
        UserError: it holds something, which would be lost.
    """
    path = path.resolve()
    if path != own.resolve() and path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError("holds something, which would be lost", where=path, hint="give a new folder with --folder")
    return path


def make_folder(path: Path) -> Path:
    """Create a folder with its parents.

    Raises:
        UserError: it cannot be created or written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = temporary_name(path / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise cannot_write(path, error) from error
    return path


def created(path: Path) -> bool:
    """Create a folder with its parents; False where it is there, as another process may have been faster.

    Raises:
        UserError: it cannot be created.
    """
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise cannot_write(path, error) from error
    return True


def user_cache() -> Path | None:
    """This project's folder below the user's cache folder, for the user alone; None where it is not, or cannot be."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cascade-yolo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            return None
        if stat.S_IMODE(status.st_mode) & 0o077:
            folder.chmod(0o700)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: a user without a home
        return None
    return folder


def cannot_write(path: Path, error: OSError) -> UserError:
    """The error for a path that refuses to be written."""
    return UserError(
        f"cannot write ({error.strerror or error})", where=path, hint="give another place, or make this one writable"
    )


def first_free(make: Callable[[str], Path], start: str) -> Path:
    """First of make(start), make(start2), make(start3)… that does not exist yet."""
    number, candidate = 1, make(start)
    while os.path.lexists(candidate):
        number += 1
        candidate = make(f"{start}{number}")
    return candidate
