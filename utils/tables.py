"""Tables of what there is of a kind, by name: help, checks, captions and the reference page are made from them.

A name may be followed by options: a word after a colon, `key=value` after a colon, a number after @ for the option
`share`, as in `sensitivity:sgd`, `mining:steps=2:keep=none`, `cam@0.2`. A word may mean several options, as in
`mining:cai`; those that are named beside it override it.
"""

import difflib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from utils.errors import UserError

NAMES = Path(__file__).with_name("names.json")  # made by `python -m studies.reference names`
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
E = TypeVar("E", bound="Entry")
SHARE = "share"  # the option that @ gives
EXAMPLE = 0.2  # of a share


@dataclass(frozen=True)
class Option:
    """Something that may be asked of an entry.

    Attributes:
        default: what it is where nothing is said.
        choices: the words that it may be; () for a number of the default's kind.
        low, high: bounds of a number, both allowed.
        slow: words that take much longer.
    """

    default: str | int | float | None
    choices: tuple[str, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    slow: tuple[str, ...] = ()

    def read(self, text: str) -> str | int | float:
        """The value behind a text.

        Raises:
            ValueError: it is none of the choices, or no number within the bounds; says what may be given.
        """
        if self.choices:
            if text not in self.choices:
                raise ValueError(f"give {' or '.join(self.choices)}")
            return text
        try:
            value = int(text) if isinstance(self.default, int) else float(text)
        except ValueError:
            value = math.nan
        if not self.low <= value <= self.high:
            what = "a whole number" if isinstance(self.default, int) else "a number"
            raise ValueError(f"give {what} from {self.low:g} to {self.high:g}")
        return value


@dataclass(frozen=True)
class Entry:
    """A thing of some kind.

    Attributes:
        name: what users type; it becomes part of file names.
        title: one line, for help, captions and the reference page.
        options: what may be asked of it, by key.
        sets: word → values of several options.
    """

    name: str
    title: str
    options: Mapping[str, Option] = field(default_factory=dict, kw_only=True)
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, kw_only=True)


@dataclass(frozen=True)
class Chosen(Generic[E]):
    """An entry with the options that were asked for.

    Attributes:
        text: as it was typed.
        options: every option of the entry, at its default where nothing was said.
    """

    text: str
    entry: E
    options: dict[str, Any]

    @property
    def slow(self) -> bool:
        """Whether an option was asked for that takes much longer."""
        return any(value in self.entry.options[key].slow for key, value in self.options.items())


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

    Attributes:
        first: the names that it was made with.
    """

    def __init__(self, kind: str, flag: str, entries: Iterable[E] = (), families: Iterable[Family[E]] = ()) -> None:
        super().__init__()
        self.kind, self.flag = kind, flag
        self.families = {family.name: family for family in families}
        LOADED[kind] = self
        for entry in entries:
            self.add(entry)
        self.first = frozenset(self)

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
            raise UserError(f"no {self.kind} `{name[:60]}`", where=where or self.flag, hint=f"{names}{self}")
        found = self.families[family]
        if model not in (models := found.models()):
            what, nearest = f"{family} has no `{model[:60]}`", near(model, models)
            hint = nearest or f"take one of its {len(models)}: {found.title}"
            raise UserError(what, where=where or self.flag, hint=hint.strip())
        return found.entry(model)

    @property
    def spellings(self) -> list[str]:
        """What may be typed: each name, and how those of a family are spelt."""
        return [*self, *(f"{family}/MODEL" for family in self.families)]

    @property
    def listed(self) -> list[str]:
        """How all that there is is typed, with options, as help lists it."""
        return [*map(shown, self.values()), *self.spellings[len(self) :]]

    def choose(self, text: str, where: str | None = None) -> Chosen[E]:
        """The entry of a name with options.

        Args:
            where: what a message points at [the table's flag].

        Raises:
            UserError: there is none, or it has no such option.
        """
        head, at, share = text.partition("@")
        name, *words = head.split(":")
        entry = self.pick(name, where)
        options = {key: own.default for key, own in entry.options.items()}
        for word in words:
            options |= entry.sets.get(word, {})
        pairs = [pair(word, entry) for word in words if word not in entry.sets] + ([(SHARE, share)] if at else [])
        given = dict(pairs)
        for key, value in given.items():
            if key not in entry.options:
                known = ", ".join(spelt(entry)) or "none"
                raise UserError(
                    f"`{text[:60]}`: no option `{key}`", where=where or self.flag, hint=f"{name} has {known}"
                )
            try:
                options[key] = entry.options[key].read(value)
            except ValueError as error:
                raise UserError(f"`{text[:60]}`", where=where or self.flag, hint=str(error)) from None
        if twice := next((key for key in given if [own for own, _ in pairs].count(key) > 1), None):
            raise UserError(f"`{text[:60]}`: `{twice}` twice", where=where or self.flag, hint="say it once")
        return Chosen(text, entry, options)

    def __str__(self) -> str:
        return f"there are {', '.join(self.spellings)}"


def near(name: str, names: Iterable[str]) -> str:
    """`did you mean …? ` with the names that look most like this one; nothing where none does."""
    found = difflib.get_close_matches(name, list(names), n=3)
    return f"did you mean {' or '.join(found)}? " if found else ""


def pair(word: str, entry: Entry) -> tuple[str, str]:
    """Key and value of an option; of a word alone, the key of which it is a choice."""
    key, equals, value = word.partition("=")
    if equals:
        return key, value
    keys = [key for key, own in entry.options.items() if word in own.choices]
    return (keys[0], word) if len(keys) == 1 else (word, "")


def spelt(entry: Entry) -> list[str]:
    """How the options of an entry are typed, as in `:sgd`, `:steps=3`, `@0.2`, and words for several of them."""
    found = [f":{word}" for word in entry.sets]
    for key, own in entry.options.items():
        if own.choices:
            others = [word for word in own.choices if word != own.default]
            found += [f":{word}" if pair(word, entry)[1] else f":{key}={word}" for word in others]
        else:
            example = own.default if own.default is not None else EXAMPLE
            found.append(f"@{example}" if key == SHARE else f":{key}={example}")
    return found


def shown(entry: Entry) -> str:
    """A name with its options, for help: `cam[@0.2]`."""
    return entry.name + "".join(f"[{option}]" for option in spelt(entry))


LOADED: dict[str, Table[Any]] = {}  # by kind, those that this process has imported


def added() -> set[tuple[str, str]]:
    """Kind and name of all entries that tables were not made with."""
    return {(kind, name) for kind, table in LOADED.items() for name in table if name not in table.first}


def take_out(entries: Iterable[tuple[str, str]]) -> None:
    """Remove entries, by kind and name."""
    for kind, name in entries:
        LOADED[kind].pop(name, None)


def listed(kind: str) -> list[str]:
    """What there is of a kind, for help that answers at once: tables and what they name take seconds to import.

    A table that is loaded, as by a file of --import that adds to it, is asked itself.
    """
    if kind in LOADED:
        return LOADED[kind].listed
    found: list[str] = json.loads(NAMES.read_text())[kind]
    return found
