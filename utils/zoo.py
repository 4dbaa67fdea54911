"""Weights that ship: `zoo:NAME` in place of a file, and what commands use where there is no run yet."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict

from utils.config import ROOT
from utils.errors import UserError
from utils.files import sha256_of
from utils.tables import near

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
        default: a command without weights and without a run takes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    kind: Literal["detector", "backbone"]
    about: str
    recipe: str
    figures: dict[str, float]
    sha256: str
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
    name = text.removeprefix(PREFIX)
    if name not in zoo():
        hint = near(name, zoo()) or f"there is {', '.join(zoo())}"
        raise UserError(f"no weights `{name[:60]}`", where=text[:70], hint=hint)
    return checked(zoo()[name])


def checked(own: Shipped) -> Path:
    """The path of a shipped file.

    Raises:
        UserError: it is missing, or not what was published.
    """
    hint = "restore it with `git checkout weights`"
    if not own.path.is_file():
        raise UserError("no such file", where=own.path, hint=hint)
    if sha256_of(own.path) != own.sha256:
        raise UserError("is not the file that was published", where=own.path, hint=hint)
    return own.path


def shipped(kind: str) -> list[Path]:
    """The files of a kind that commands take by default."""
    return [checked(own) for own in zoo().values() if own.kind == kind and own.default]
