"""Yaml as people write it: what unfolds without end, or has values that nothing here could be, is refused in time."""

import reprlib
from typing import Any

import yaml

MOST_BYTES = 2**20
MOST_VALUES = 100_000  # once every alias is replaced by its value
DEEPEST = 20  # lists in lists
LONGEST = 300  # letters of a list of values
SHOWN = 60  # letters of a value that a message repeats
LET_THROUGH = (ValueError, TypeError, KeyError, AttributeError, OverflowError)  # by PyYAML's own constructors
ANYWHERE = "write `key: value` in plain words and numbers"


class Unfit(Exception):  # noqa: N818 – its words go into a UserError, which knows the file
    """Text that is no yaml, or none for here.

    Args:
        line: number of the line, from 1, where it is known.
    """

    def __init__(self, what: str, line: int | None, hint: str) -> None:
        super().__init__(what)
        self.what, self.line, self.hint = what, line, hint


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which says of a value that it cannot make where it is, and under which key."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.keys: dict[int, str] = {}

    def fetch_flow_collection_start(self, token: Any) -> None:
        """Begin a [list] or {mapping}.

        Raises:
            Unfit: in too many others; the parser would only find out in seconds.
        """
        if self.flow_level > DEEPEST:
            raise Unfit(f"has lists in lists, more than {DEEPEST} deep", self.line + 1, ANYWHERE)
        super().fetch_flow_collection_start(token)  # type: ignore[no-untyped-call]

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node.

        Raises:
            Unfit: it is not what its tag says.
        """
        try:
            return super().construct_object(node, deep)
        except yaml.YAMLError as error:
            raise self.unfit(node, getattr(error, "problem", None) or "cannot be read") from error
        except LET_THROUGH as error:
            kind = node.tag.rpartition(":")[2]
            raise self.unfit(node, f"`{str(node.value)[:SHOWN]}` is not a valid {kind[:SHOWN]}") from error

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what `<<` merges into a mapping.

        Raises:
            Unfit: it is no mapping.
        """
        try:
            super().flatten_mapping(node)  # type: ignore[no-untyped-call]
        except yaml.YAMLError as error:
            raise self.unfit(node, getattr(error, "problem", None) or "cannot be merged") from error

    def unfit(self, node: yaml.Node, what: str) -> Unfit:
        """The error for a node."""
        key = self.keys.get(id(node), "")
        hint = "correct the value, or put it in quotes"
        return Unfit(f"`{key}`: {what}" if key else what, node.start_mark.line + 1, hint)


def plain_yaml(content: bytes) -> Any:
    """What a yaml file says.

    Raises:
        Unfit: too long, no text, no yaml; too deep, refers to itself, or unfolds to too much; a value that is not what
            its tag says, or that has letters no file name can have.
    """
    if len(content) > MOST_BYTES:
        raise Unfit(f"has more than {MOST_BYTES:,} bytes", None, "give the file that was meant")
    try:
        loader = Loader(yaml_text(content))
        node = loader.get_single_node()
        if node is None:
            return None
        Survey(loader).unfolded(node, "", 0)
        return loader.construct_document(node)  # type: ignore[no-untyped-call]
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        what = f"is not valid yaml ({problem[:SHOWN]})" if problem else "is not valid yaml"
        raise Unfit(what, mark.line + 1 if mark else None, "correct the syntax there") from error
    except LET_THROUGH as error:
        raise Unfit("is not valid yaml", None, "put values in quotes") from error
    except RecursionError as error:
        raise Unfit(f"has lists in lists, more than {DEEPEST} deep", None, ANYWHERE) from error


def yaml_text(content: bytes) -> str:
    """Text in UTF-8 or, marked as such, UTF-16.

    Raises:
        Unfit: it is in neither.
    """
    try:
        return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise Unfit("is not valid yaml: no text in UTF-8", line, "save it as UTF-8") from error


class Survey:
    """Counts what a tree of nodes unfolds to, before anything is made of it, and notes which key each is under."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.sizes: dict[int, int] = {}
        self.open: set[int] = set()

    def unfolded(self, node: yaml.Node, key: str, depth: int) -> int:
        """Values in a node, those of aliases each time.

        Raises:
            Unfit: too many, too deep, round in a circle, or letters that no name can have.
        """
        own = id(node)
        self.loader.keys.setdefault(own, key)
        if own in self.open:
            raise self.loader.unfit(node, "refers to itself")
        if depth > DEEPEST:
            raise self.loader.unfit(node, f"has lists in lists, more than {DEEPEST} deep")
        if own not in self.sizes:
            self.open.add(own)
            self.sizes[own] = 1 + sum(self.unfolded(part, name, depth + 1) for part, name in self.parts(node, key))
            self.open.discard(own)
        if self.sizes[own] > MOST_VALUES:
            raise self.loader.unfit(node, f"unfolds to more than {MOST_VALUES:,} values")
        return self.sizes[own]

    def parts(self, node: yaml.Node, key: str) -> list[tuple[yaml.Node, str]]:
        """Nodes right below a node, and the keys that they are under."""
        if isinstance(node, yaml.MappingNode):
            refuse_twice(node, key)
            named = [(one, other, f"{key}.{str(one.value)[:SHOWN]}".lstrip(".")) for one, other in node.value]
            return [(part, name) for one, other, name in named for part in (one, other)]
        if isinstance(node, yaml.SequenceNode):
            return [(part, key) for part in node.value]
        if odd := [letter for letter in node.value if letter == "\0" or "\ud800" <= letter <= "\udfff"]:
            raise self.loader.unfit(node, f"has the letter {odd[0]!a}, which no name can have")
        return []


def refuse_twice(node: yaml.MappingNode, key: str) -> None:
    """Refuse a mapping with a key that is there twice: the first value would be lost without a word.

    Args:
        key: that the mapping is under.

    Raises:
        Unfit: it is.
    """
    seen: set[tuple[str, str]] = set()
    for own, _ in node.value:
        if isinstance(own, yaml.ScalarNode):
            if (own.tag, own.value) in seen:
                name = f"{key}.{own.value[:SHOWN]}".lstrip(".")
                raise Unfit(f"`{name}` is there twice", own.start_mark.line + 1, "keep one of them")
            seen.add((own.tag, own.value))


def in_short(value: object) -> str:
    """A value for a message: its beginning, where it is long or deep."""
    short = reprlib.Repr()
    short.maxlevel = 3
    short.maxstring = short.maxother = short.maxlong = SHOWN
    try:
        text = short.repr(value)
    except ValueError:  # a whole number of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
