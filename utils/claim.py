"""One process at a time works on a folder; what a process held that has died is free."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

HERE: set[Path] = set()  # held by this process: the system's locks do not keep its own threads out


@contextlib.contextmanager
def claimed(path: Path) -> Iterator[str]:
    """Hold a lock file as long as the block takes, or this process lives; it is removed in the end.

    Processes that this one starts do not hold it. Where the file system knows no locks, nobody is kept out.

    Yields:
        An empty text, or who holds it already.
    """
    own, me = path.resolve(), f"process {os.getpid()} on {socket.gethostname()}"
    if own in HERE:
        yield me
        return
    file, holder = taken(path)
    with file:  # closing it in between would give up the lock
        if holder:
            yield holder
            return
        HERE.add(own)
        file.truncate(0)
        file.write(me)
        file.flush()
        try:
            yield ""
        finally:
            HERE.discard(own)
            path.unlink(missing_ok=True)


def taken(path: Path) -> tuple[TextIO, str]:
    """A lock file, open and locked, and an empty text; or who holds it already."""
    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            return file, file.read(200).strip() or "another process"
        except OSError:
            return file, ""
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file, ""
        file.close()  # whoever held it has removed it in between: a lock on it keeps nobody off
