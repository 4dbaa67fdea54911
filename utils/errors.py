"""Errors that are the user's to correct: one line, exit code 2, no traceback."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO, cast

from utils.text import printable, redacted


class UserError(Exception):
    """Something in the user's input is wrong.

    Args:
        what: what is wrong, with the value.
        where: file, file:line or flag.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: str | Path, hint: str) -> None:
        super().__init__(redacted(f"{where}: {what} — {hint}"))
        self.what, self.where = what, where


class NotReadError(ValueError):
    """A whole picture of a kind, or of a size, that is not read; says what to do about it."""


class Stopped(BaseException):
    """The process was asked to leave, by the signal of that number; whatever it had to save is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def reader_died(error: Exception, where: str) -> UserError:
    """What to say of an error that torch raises, in the midst of anything, once a process that reads images is gone.

    Raises:
        RuntimeError: the error itself, where it is of something else.
    """
    if isinstance(error, RuntimeError) and "DataLoader worker" not in str(error):
        raise error
    reason = (str(error) or type(error).__name__).splitlines()[0]
    what = f"a process that reads images died ({reason})"
    return UserError(what, where=where, hint="free memory, or give fewer --workers; a training goes on with --resume")


class Output:
    """Standard output or error of a command: nothing in a name can steer the terminal, and a full disk is reported."""

    def __init__(self, stream: Any, shown: Callable[[str], str]) -> None:
        self.stream, self.shown = stream, shown

    def write(self, text: str) -> int:
        with said():
            self.stream.write(self.shown(text))
        return len(text)

    def flush(self) -> None:
        with said():
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def said() -> Iterator[None]:
    """Turn what a full disk raises into an error of the user's to correct; a closed pipe is another matter."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        what = f"cannot write ({error.strerror or error})"
        hint = "free the disk that it goes to, or send it elsewhere"
        raise UserError(what, where="standard output", hint=hint) from error


def prepare_output() -> None:
    """Make the standard streams take any text: closed ones swallow it, those of few signs spell the others."""
    from utils.console import console

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if name == "stdout":
            console.file = cast(TextIO, Output(stream, str))  # some of what it writes is meant to steer
        setattr(sys, name, Output(stream, printable))


def leave(code: int) -> NoReturn:
    """End the process, even where nobody takes what it still had to say."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = code or 141
    except UserError as error:
        if code == 0:
            print(f"error: {error}", file=sys.stderr)
        code = code or 2
    else:
        sys.exit(code)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # which takes the rest
    sys.exit(code)


def run_cli(main: Callable[[], None]) -> NoReturn:
    """Run an entry script: user errors become one line and exit code 2, a signal 128 and its number."""
    prepare_output()
    from utils import version  # which few processes want

    try:
        try:
            if sys.argv[1:] == [version.FLAG]:
                print(version.named())
            else:
                main()
        except RuntimeError as error:
            raise reader_died(error, "reading images") from error
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        leave(128 + stopped.number)
    except BrokenPipeError:  # as in `… | head`: nobody reads on
        leave(141)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        leave(130)
    leave(0)
