"""Every flag of every command, and every key of a recipe, as pages of the documentation.

`python -m studies.reference_flags flags > docs/flags.md`, and `recipe` for docs/recipe_keys.md.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from unittest import mock

from utils.errors import run_cli
from utils.flags import describe, recipe_flags, shown
from utils.parser import Parser
from utils.text import as_markdown

COMMANDS = ("train", "val", "detect", "export", "study")
MADE = "Made by `python -m studies.reference_flags {name} > docs/{file}.md`."


class CaughtError(Exception):
    """A command has come as far as its parser."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


def catch(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
    """In place of parsing."""
    raise CaughtError(parser)


def parser_of(command: str) -> argparse.ArgumentParser:
    """The parser that a command makes of its flags."""
    with mock.patch.object(Parser, "parse_args", catch), mock.patch.object(sys, "argv", [command]):
        try:
            importlib.import_module(command).parse()
        except CaughtError as caught:
            return caught.parser
    raise AssertionError(f"{command} parses no flags")


def cell(text: str) -> str:
    """Text of a table's cell."""
    for sign, written in (("<", "&lt;"), ("[", "\\[")):
        text = text.replace(sign, written)
    return " ".join(text.split())


def flag_row(action: argparse.Action, formatter: argparse.HelpFormatter) -> list[str]:
    """One row of a table: how a flag is written, and what it does."""
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.dest}`"
    values = "" if action.nargs == 0 else formatter._format_args(action, str(action.metavar or action.dest.upper()))
    shown_values = f"`{values}`".replace("|", "/") if values else ""
    text = formatter._expand_help(action) if action.help else ""
    return [names, shown_values, cell(text)]


def command_part(command: str) -> str:
    """A command's chapter: a table for each group of its flags."""
    parser = parser_of(command)
    formatter = parser._get_formatter()
    parts = [f"## {command}.py", " ".join((parser.description or "").split())]
    for group in parser._action_groups:
        actions = [action for action in group._group_actions if action.help is not argparse.SUPPRESS]
        if actions:
            title = "" if group.title in ("options", "positional arguments") else f"### {command}.py: {group.title}"
            rows = [["flag", "value", "meaning"], *(flag_row(action, formatter) for action in actions)]
            parts += [title, cell(group.description or ""), as_markdown(rows, "l")]
    return "\n\n".join(part for part in parts if part)


def flags_page() -> str:
    """All commands."""
    head = ["# Flags", MADE.format(name="flags", file="flags"), "Defaults are in square brackets."]
    return "\n\n".join([*head, *map(command_part, COMMANDS)]) + "\n"


def recipe_page() -> str:
    """All keys of a recipe with their types and defaults."""
    head = ["# Recipe keys", MADE.format(name="recipe", file="recipe_keys"), "Each key is also a flag of `train.py`."]
    tables: dict[str | None, list[list[str]]] = {}
    for flag, section, key, field in recipe_flags():
        default = "" if field.default is None else f"`{cell(shown(field.default))}`"
        row = [f"`{key}`", f"`{flag}`", default, cell(field.description or "")]
        tables.setdefault(section, [["key", "flag", "default", "meaning"]]).append(row)
    for section, rows in tables.items():
        head += [f"## {section or 'top level'}", describe(section) or "", as_markdown(rows, "l")]
    return "\n\n".join(part for part in head if part) + "\n"


PAGES: dict[str, Callable[[], str]] = {"flags": flags_page, "recipe": recipe_page}


def main() -> None:
    """Print a page."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=PAGES)
    print(PAGES[parser.parse_args().page](), end="")


if __name__ == "__main__":
    run_cli(main)
