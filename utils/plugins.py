"""Modules of the user's own that add to the tables: a backbone, a map, a measure …, given with `--import FILE.py`."""

import argparse
import contextlib
import importlib.util
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from utils.errors import UserError
from utils.files import sha256_of
from utils.paths import is_file
from utils.tables import added, take_out

FLAG = "--import"


@dataclass(frozen=True)
class Imported:
    """What a file was when it was imported.

    Attributes:
        sha256: of its content.
        entries: kind and name of what it added to the tables.
    """

    sha256: str
    entries: frozenset[tuple[str, str]]


LOADED: dict[Path, Imported] = {}


def add_import_flag(parser: argparse.ArgumentParser) -> None:
    """--import; what it names is loaded by `from_arguments`, before the other flags are made."""
    help_text = "python file that adds backbones, maps, measures … to what there is (docs/extending.md)"
    parser.add_argument(FLAG, dest="imports", nargs="+", metavar="FILE", help=help_text)


def from_arguments(arguments: Sequence[str] | None = None) -> None:
    """Load what --import names on a command line [this process's]."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_import_flag(parser)
    load(map(Path, parser.parse_known_args(arguments)[0].imports or ()))


def load(paths: Iterable[Path]) -> None:
    """Import python files, each once, and again where its content has changed: what it had added is then taken out.

    Raises:
        UserError: one is missing, fails, prints or trains while it is imported; then it has added nothing.
    """
    for path in (path.resolve() for path in paths):
        if not is_file(path):
            raise UserError("no such file", where=f"{FLAG} {path}", hint="give a python file")
        content = sha256_of(path)
        if path in LOADED and LOADED[path].sha256 == content:
            continue
        if path in LOADED:
            take_out(LOADED.pop(path).entries)
        before = added()
        try:
            import_file(path)
        except BaseException:
            take_out(added() - before)  # so that it can be tried again
            raise
        LOADED[path] = Imported(content, frozenset(added() - before))


def import_file(path: Path) -> None:
    """Run a python file as a module of the name `imported_STEM`."""
    name = f"imported_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise UserError("is no python file", where=f"{FLAG} {path}", hint="give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), untrained(path):
            # Not by the loader, which takes compiled code of the same second and size for that of an edited file.
            exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UserError(what, where=f"{FLAG} {path}", hint="the file must import without a fault") from error
    if said.getvalue().strip():
        what = f"prints while it is imported: {said.getvalue().strip()[:60]!r}"
        raise UserError(what, where=f"{FLAG} {path}", hint=GUARD)


GUARD = 'put what the file does by itself under `if __name__ == "__main__":`'


def untrained(path: Path) -> contextlib.AbstractContextManager[Any]:
    """Inside, a backward pass is refused: a file that is imported adds to the tables and does nothing else."""
    import torch

    def refuse(*_: object, **__: object) -> None:
        raise UserError("trains while it is imported", where=f"{FLAG} {path}", hint=GUARD)

    return mock.patch.object(torch.autograd, "backward", refuse)
