"""Tables of what there is of a kind, by name: help, checks, captions and the reference page are made from them."""

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from utils.errors import UserError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
E = TypeVar("E", bound="Entry")


@dataclass(frozen=True)
class Entry:
    """A thing of some kind.

    Attributes:
        name: what users type; it becomes part of file names.
        title: one line, for help, captions and the reference page.
    """

    name: str
    title: str


@dataclass(frozen=True)
class Family(Entry, Generic[E]):
    """Things of a kind that another library has many of: their names are `name/model`.

    Attributes:
        models: what there is, asked for only when needed.
        entry: of a model that there is.
    """

    models: Callable[[], list[str]]
    entry: Callable[[str], E]


class Table(dict[str, E], Generic[E]):
    """Name → entry, in the order of adding.

    Args:
        kind: what the entries are, in the singular, as messages name it.
        flag: where users give a name.
        families: further entries, found by name but not counted among those of the table.
    """

    def __init__(self, kind: str, flag: str, entries: Iterable[E] = (), families: Iterable[Family[E]] = ()) -> None:
        super().__init__()
        self.kind, self.flag = kind, flag
        self.families = {family.name: family for family in families}
        for entry in entries:
            self.add(entry)

    def add(self, entry: E) -> E:
        """Put an entry into the table, and give it back.

        Raises:
            ValueError: the name is taken, or could not be part of a file name.
        """
        if not NAME.fullmatch(entry.name):
            raise ValueError(f"{self.kind} {entry.name!r}: a name has letters, digits and ._-, 1 to 100 of them")
        if entry.name in self:
            raise ValueError(f"there is a {self.kind} {entry.name!r} already")
        self[entry.name] = entry
        return entry

    def pick(self, name: str, where: str | None = None) -> E:
        """The entry of a name.

        Args:
            where: what a message points at [the table's flag].

        Raises:
            UserError: there is none; says which are nearest, and what there is.
        """
        if name in self:
            return self[name]
        family, _, model = name.partition("/")
        if family not in self.families:
            names = near(name, self.spellings)
            raise UserError(f"no {self.kind} `{name[:60]}`", where=where or self.flag, mend=f"{names}{self}")
        found = self.families[family]
        if model not in (models := found.models()):
            what, nearest = f"{family} has no `{model[:60]}`", near(model, models)
            mend = nearest or f"take one of its {len(models)}: {found.title}"
            raise UserError(what, where=where or self.flag, mend=mend.strip())
        return found.entry(model)

    @property
    def spellings(self) -> list[str]:
        """What may be typed: each name, and how those of a family are spelt."""
        return [*self, *(f"{family}/MODEL" for family in self.families)]

    def __str__(self) -> str:
        return f"there is {', '.join(self.spellings)}"


def near(name: str, names: Iterable[str]) -> str:
    """`did you mean …? ` with the names that look most like this one; nothing where none does."""
    found = difflib.get_close_matches(name, list(names), n=3)
    return f"did you mean {' or '.join(found)}? " if found else ""
