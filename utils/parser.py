"""The parser of every command line: what is wrong with a flag is one line, with the flags that look like it."""

import argparse
import re
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, NoReturn

from utils.errors import UserError
from utils.paths import is_file
from utils.tables import near

OF_FLAG = re.compile(r"argument (?:-\w/)?(?P<flag>[^\s/:]+)\S*: (?P<what>.*)", re.DOTALL)
HELP = "--help lists the flags"


class Parser(argparse.ArgumentParser):
    """argparse's, whose errors are those of the project, without pages of usage before them.

    Attributes:
        emptied: flags whose value may be empty.
    """

    emptied: frozenset[str] = frozenset()

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As argparse's.

        Raises:
            UserError: an unknown flag, a value that a flag cannot take, an empty one, or a flag that is missing.
        """
        refuse_empty(sys.argv[1:] if args is None else args, self.emptied)
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flag = next((word for word in unknown if word.startswith("-")), unknown[0]).partition("=")[0]
            what = "there is no such flag" if flag.startswith("-") else "belongs to no flag"
            known = [name for name in self._option_string_actions if name.startswith("--")]
            several = "put a pattern with * in quotes; " if is_file(Path(flag)) else ""
            raise UserError(what, where=flag, hint=f"{near(flag, known)}{several}{HELP}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raise what argparse found as a UserError."""
        match = OF_FLAG.fullmatch(message)
        where, what = (match["flag"], match["what"]) if match else (self.prog, message)
        raise UserError(what, where=where, hint=HELP)


def refuse_empty(words: Sequence[str], emptied: Set[str]) -> None:
    """Refuse words without letters: what an unset variable of the shell leaves would be taken for no flag at all.

    Args:
        emptied: flags after which they may be.

    Raises:
        UserError: names the flag before it.
    """
    flag = ""
    for word in words:
        name, equals, value = word.partition("=")
        flag = name if name.startswith("--") else flag
        empty = not word.strip() or (name.startswith("--") and equals and not value.strip())
        if empty and flag not in emptied:
            raise UserError("is empty", where=flag or "the command", hint="give a value, or leave the flag out")
