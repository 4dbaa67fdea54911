"""Errors that are the user's to mend: one line, exit code 2, no traceback."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from utils.text import printable, redacted


class UserError(Exception):
    """Something in the user's input is wrong.

    Args:
        what: what is wrong, with the value.
        where: file, file:line or flag.
        mend: what to do about it.
    """

    def __init__(self, what: str, *, where: str | Path, mend: str) -> None:
        super().__init__(redacted(f"{where}: {what} — {mend}"))


class Stopped(BaseException):
    """The process was asked to leave, by the signal of that number; whatever it had to save is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Output:
    """Standard output or error of a command: nothing in a name can steer the terminal, and a full disk is told."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        try:
            self.stream.write(printable(text))
        except BrokenPipeError:
            raise
        except OSError as error:
            raise cannot_say(error) from error
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def cannot_say(error: OSError) -> UserError:
    """The error for a standard output that takes no more."""
    what = f"cannot write ({error.strerror or error})"
    return UserError(what, where="standard output", mend="free the disk that it goes to, or send it elsewhere")


def prepare_output() -> None:
    """Make the standard streams take any text: closed ones swallow it, those of few signs spell the others."""
    from utils.console import console

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        if name == "stdout":
            console.file = stream  # it sees to its lines itself: some of what it writes is meant to steer
        setattr(sys, name, Output(stream))


def leave(code: int) -> NoReturn:
    """End the process, even where nobody takes what it still had to say."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if code == 0 and not isinstance(error, BrokenPipeError):
            print(f"error: {cannot_say(error)}", file=sys.stderr)
        code = code or (141 if isinstance(error, BrokenPipeError) else 2)
    sys.exit(code)


def run_cli(main: Callable[[], None]) -> NoReturn:
    """Run an entry script: user errors become one line and exit code 2, a signal 128 and its number."""
    prepare_output()
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        leave(2)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        leave(128 + stopped.number)
    except BrokenPipeError:  # as in `… | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        leave(130)
    leave(0)
