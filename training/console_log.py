"""console.log of a run folder: what the run says, as plain text, in whatever number of sittings."""

import contextlib
import io
import platform
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from utils.console import Plain, console
from utils.errors import Stopped, UserError
from utils.files import cannot_write
from utils.text import redacted
from utils.version import named

NAME = "console.log"


@contextmanager
def noted() -> Iterator[None]:
    """Inside, what the console says is kept as plain text too: in memory, and from `note_in` on in a file.

    How it fails, if it does, is the last that is noted.
    """
    before, console.copy = console.copy, plain(io.StringIO())
    try:
        yield
    except BaseException as error:
        if console.copy:
            with contextlib.suppress(OSError):
                console.copy.print(last_words(error))
        raise
    finally:
        if console.copy:
            with contextlib.suppress(OSError):
                console.copy.file.close()
        console.copy = before


def note_in(folder: Path) -> None:
    """Append what was said so far to console.log of a folder, under the command, and all that follows.

    Raises:
        UserError: it cannot be written.
    """
    copy = console.copy
    if copy is None or console.quiet:
        return
    so_far = copy.file.getvalue() if isinstance(copy.file, io.StringIO) else ""
    try:
        file = (folder / NAME).open("a", encoding="utf-8", errors="backslashreplace")
        file.write(f"{header()}\n{so_far}")
        file.flush()
    except OSError as error:
        raise cannot_write(folder / NAME, error) from error
    copy.file.close()
    console.copy = plain(file)


def plain(file: io.TextIOBase | io.TextIOWrapper) -> Console:
    """A console without colours, cursor and line breaks of its own."""
    return Plain(file=file, color_system=None, force_terminal=False)


def header() -> str:
    """When, with what, and by which command; nothing secret is in it."""
    script = Path(sys.argv[0])
    command = f"python {shlex.join([script.name, *sys.argv[1:]])}" if script.suffix == ".py" else "from Python"
    return (
        f"{time.strftime('%Y-%m-%d %H:%M:%S %z')}, {named()}, Python {platform.python_version()}\n$ {redacted(command)}"
    )


def last_words(error: BaseException) -> str:
    """One line for what the user can correct and for signals, as on the terminal; all else in full."""
    if isinstance(error, UserError):
        return f"error: {' '.join(str(error).split())}"
    if isinstance(error, Stopped | KeyboardInterrupt):
        return f"stopped by {error}" if isinstance(error, Stopped) else "stopped"
    return redacted("".join(traceback.format_exception(error))).rstrip()
