"""The version of this project: pyproject.toml has it, and `--version` of every command prints it."""

import argparse
import tomllib
from functools import cache
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
FLAG = "--version"


@cache
def version() -> str:
    """As in `0.1.0`."""
    return str(tomllib.loads(PYPROJECT.read_text())["project"]["version"])


def named() -> str:
    """With the project's name, as `--version` prints it."""
    return f"cascade-yolo {version()}"


def add_version_flag(parser: argparse.ArgumentParser) -> None:
    """--version, for the help: `run_cli` answers it for every command, before anything slow is imported."""
    parser.add_argument(FLAG, action="version", version=named(), help="print the version and stop")
