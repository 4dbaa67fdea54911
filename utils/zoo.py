"""Weights that ship: `zoo:NAME` in place of a file, and what commands use where there is no run yet.

`python -m utils.zoo` lists them; `python -m utils.zoo NAME --download` fetches one that is too large to ship.
"""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, HttpUrl

from utils.config import ROOT
from utils.errors import UserError, run_cli
from utils.fetch import fetch
from utils.files import sha256_of
from utils.parser import Parser
from utils.tables import near
from utils.text import as_terminal

FOLDER = ROOT / "weights"
LIST = FOLDER / "zoo.yaml"
PREFIX = "zoo:"


class Shipped(BaseModel):
    """A file of weights/.

    Attributes:
        file: its name in weights/.
        kind: what commands take it for.
        about: one line for the table.
        recipe: what it was trained with, from the project's root.
        figures: measured on the test or validation split, by name.
        sha256: of the file.
        url: where a file that is too large to ship is published.
        default: a command without weights and without a run takes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    kind: Literal["detector", "backbone"]
    about: str
    recipe: str
    figures: dict[str, float]
    sha256: str
    url: HttpUrl | None = None
    default: bool = False

    @property
    def path(self) -> Path:
        return FOLDER / self.file


@cache
def zoo() -> dict[str, Shipped]:
    """Name → file, as weights/zoo.yaml has them."""
    return {name: Shipped(**content) for name, content in yaml.safe_load(LIST.read_text()).items()}


def weight_file(text: str) -> Path:
    """A path; of `zoo:NAME` that of the file, which is checked.

    Raises:
        UserError: there is no such name, or the file is missing or another one.
    """
    if not text.startswith(PREFIX):
        return Path(text)
    return checked(entry(text.removeprefix(PREFIX)))


def entry(name: str) -> Shipped:
    """The file of a name.

    Raises:
        UserError: there is no such name.
    """
    if name not in zoo():
        hint = near(name, zoo()) or f"there are {', '.join(zoo())}"
        raise UserError(f"no weights `{name[:60]}`", where=f"{PREFIX}{name[:60]}", hint=hint)
    return zoo()[name]


def checked(own: Shipped) -> Path:
    """The path of a file.

    Raises:
        UserError: it is missing, or not what was published.
    """
    hint = "restore it with `git checkout weights`"
    if own.url:
        hint = f"fetch it with `python -m utils.zoo {own.path.stem} --download`"
    if not own.path.is_file():
        raise UserError("no such file", where=own.path, hint=hint)
    if sha256_of(own.path) != own.sha256:
        raise UserError("is not the file that was published", where=own.path, hint=hint)
    return own.path


def shipped(kind: str) -> list[Path]:
    """The files of a kind that commands take by default."""
    return [checked(own) for own in zoo().values() if own.kind == kind and own.default]


def main() -> None:
    """List the files, or fetch one."""
    parser = Parser(description="Weights that commands take as zoo:NAME.")
    parser.add_argument("name", nargs="?", help="the one to look for [list all]")
    parser.add_argument("--download", action="store_true", help="fetch it where it is not here and published")
    arguments = parser.parse_args()
    if arguments.download and not arguments.name:
        raise UserError("which weights?", where="--download", hint="give a name of the list")
    if arguments.name is None:
        rows = [
            [f"{PREFIX}{name}", own.about, str(own.path if own.path.is_file() else own.url)]
            for name, own in zoo().items()
        ]
        print(as_terminal([["--weights", "network, data", "file"], *rows]))
        return
    own = entry(arguments.name)
    if arguments.download and own.url and not own.path.is_file():
        fetch(str(own.url), own.path, own.sha256)
    print(checked(own))


if __name__ == "__main__":
    run_cli(main)
