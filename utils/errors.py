"""Errors that are the user's to mend: one line, exit code 2, no traceback."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


class UserError(Exception):
    """Something in the user's input is wrong.

    Args:
        what: what is wrong, with the value.
        where: file, file:line or flag.
        mend: what to do about it.
    """

    def __init__(self, what: str, *, where: str | Path, mend: str) -> None:
        super().__init__(f"{where}: {what} — {mend}")


class Stopped(BaseException):
    """The process was asked to leave, by the signal of that number; whatever it had to save is saved."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def run_cli(main: Callable[[], None]) -> NoReturn:
    """Run an entry script: user errors become one line and exit code 2, a signal 128 and its number."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(f"stopped by {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except BrokenPipeError:  # as in `… | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
