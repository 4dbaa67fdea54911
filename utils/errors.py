"""Errors that are the user's to mend: one line, exit code 2, no traceback."""

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


def run_cli(main: Callable[[], None]) -> NoReturn:
    """Run an entry script: user errors become one line and exit code 2, Ctrl-C exit code 130."""
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    sys.exit(0)
