"""Data formats by name; a new one takes a file and a line here."""

from collections.abc import Callable

from data.description import Description
from data.records import Split
from data.voc import read_voc
from utils.errors import UserError

FORMATS: dict[str, Callable[[Description, str], Split]] = {"voc": read_voc}


def read_split(description: Description, split: str, *, strict: bool = False) -> Split:
    """Read one split of a data set in whatever format it is.

    Args:
        strict: the first damaged image or label is an error instead of being left out.

    Raises:
        UserError: nothing readable in the split, or strict and something damaged.
    """
    found = FORMATS[description.format](description, split)
    if strict and found.problems:
        raise found.problems[0].error()
    if not found.records:
        mend = "check `path:` and the list" + (f"; first problem: {found.problems[0].what}" if found.problems else "")
        raise UserError(f"no readable image in `{split}`", where=description.yaml, mend=mend)
    return found
