"""Text from outside – names, addresses, file names – made fit for terminals, tables and messages."""

import math
import re
import unicodedata
from collections.abc import Sequence

HIDDEN = "***"
NOTHING = "–"  # in a table, where there is no number
# User and password before a host; the second form is of passwords that hold what should have been quoted.
USER = re.compile(r"(?<=://)(?:[^/\s?#@]*(?:@[^/\s?#@]*)*|[^/\s:@]+:(?!\d+/)[^\s@]*)@(?=[^/\s])")
SECRETS = (
    r"token|key|secret|passw(?:or)?d|passphrase|pwd|pass?|ps?w|user(?:name)?|usr|login\w*"
    r"|sig(?:nature)?|auth(?:orization)?|credentials?|session|sas|jwt|code"
)
QUERY = re.compile(rf"(?i)([?&;#](?:[\w.%-]*[_.-])?(?:\w*(?:{SECRETS}))=)[^&\s#;'\"`]+")
# As cameras take them, `/user=…_password=…`: hidden to the end.
PATH = re.compile(rf"(?i)(://[^\s?#'\"`]{{1,200}}?[/_][a-z]{{0,20}}(?:{SECRETS})=)[^\s'\"`]+")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but the tab and the end of a line
# Verbs of what is counted: of several → of one.
ONE = {
    "are": "is",
    "were": "was",
    "have": "has",
    "do": "does",
    "count": "counts",
    "belong": "belongs",
    "end": "ends",
    "start": "starts",
}
VERB, SECOND = (re.compile(rf"{before}({'|'.join(ONE)})\b") for before in (r"\b", "and "))
PLURAL = re.compile(r"\w+s\b")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet takes for the beginning of a formula


def redacted(text: str) -> str:
    """The text without users, passwords and tokens in the addresses in it."""
    text = USER.sub("", text)
    for pattern in (PATH, QUERY):
        text = pattern.sub(lambda match: match[1] + HIDDEN, text)
    return text


def printable(text: str) -> str:
    r"""The text with control characters spelt out, as \x1b, so that they cannot steer a terminal; lines stay lines."""
    if text.isprintable():
        return text
    return "".join(spelt(sign) if steers(sign) else sign for sign in text)


def harmless(text: str) -> str:
    """The text of a file with control characters spelt out: whoever prints the file keeps his terminal."""
    return CONTROLS.sub(lambda match: spelt(match[0]), text)


def steers(sign: str) -> bool:
    """Whether a character does something instead of being shown: controls, marks of direction, surrogates."""
    return sign not in "\n\t" and unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp")


def spelt(sign: str) -> str:
    """The character as an escape of Python."""
    return sign.encode("unicode_escape", "surrogatepass").decode("ascii")


def cell(value: object) -> object:
    """A cell of a CSV file: text that a spreadsheet would run as a formula gets an apostrophe; numbers stay."""
    if not isinstance(value, str) or not value.startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def as_number(value: float | None, form: str) -> str:
    """A number in a form such as `.3f`; NOTHING where there is none, or one that is not finite."""
    return NOTHING if value is None or not math.isfinite(value) else format(value, form)


def counted(count: int, what: str) -> str:
    """`3 boxes`, `1 box`; `3 pictures are in no split`, `1 picture is in no split`.

    Args:
        what: a plural, and its verb where there is one; what comes after a comma is of something else and stays.
    """
    if count != 1:
        return f"{count} {what}"
    head, comma, tail = what.partition(",")
    head = SECOND.sub(lambda match: f"and {ONE[match[1]]}", VERB.sub(lambda match: ONE[match[0]], head, count=1))
    return f"1 {head if head.startswith('of ') else PLURAL.sub(singular, head, count=1)}{comma}{tail}"


def singular(match: re.Match[str]) -> str:
    """A plural as a singular: `categories`, `boxes`, `pictures`."""
    word = match[0]
    return (
        f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("es" if word.endswith(("xes", "sses")) else "s")
    )


RULES = {"l": "---", "r": "---:"}


def as_markdown(table: Sequence[Sequence[str]], align: str = "lr") -> str:
    """A table in Markdown; a bar or a line's end in a cell stays in it.

    `align` has `l` or `r` for each column; the last letter also stands for the columns after it. Rows may end early.
    """
    width = len(table[0])
    rows = [[" ".join(cell.split()).replace("|", "\\|") for cell in row] + [""] * (width - len(row)) for row in table]
    rule = "".join(f"|{RULES[letter]}" for letter in align.ljust(width, align[-1])[:width])
    head, *others = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"{rule}|", *others])


def as_terminal(table: Sequence[Sequence[str]]) -> str:
    """A table in columns of one width each."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)
