"""Names that become files and folders: one rule for those that are given, and one way to make one of any text."""

import re
import unicodedata
from typing import Annotated

from pydantic import AfterValidator

from utils.errors import UserError

LONGEST, MOST_BYTES = 100, 200  # file systems take 255 bytes, and suffixes are still to come
NAME = re.compile(rf"[\w.-]{{1,{LONGEST}}}")
HINT = f"give 1 to {LONGEST} letters, digits, `.`, `_` and `-`, without spaces"


def is_name(text: str) -> bool:
    """Whether a text may be the name of a file or folder: letters, digits, `._-`, neither `.` nor `..`."""
    return NAME.fullmatch(text) is not None and text not in (".", "..") and len(text.encode()) <= MOST_BYTES


def checked_name(text: str, where: str) -> str:
    """A name that somebody has given.

    Raises:
        UserError: it cannot be that of a file.
    """
    if not is_name(text):
        raise UserError(f"`{text[:LONGEST]}` cannot be the name of a file or folder", where=where, hint=HINT)
    return text


def _valid(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"cannot be the name of a file or folder: {HINT}")
    return text


PathName = Annotated[str, AfterValidator(_valid)]
"""For the keys and values of a yaml."""


def as_name(text: str) -> str:
    """A name that is as much like a text as the rule allows; `_` where nothing is left of it."""
    plain = re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", text)).strip(".")[:LONGEST]
    while len(plain.encode()) > MOST_BYTES:
        plain = plain[:-1]
    return plain.rstrip(".") or "_"
