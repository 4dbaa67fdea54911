"""Checkpoints: dicts of tensors and plain values, written whole, read with weights_only=True."""

import platform
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils.config import ROOT
from utils.errors import UserError
from utils.files import written_whole

FORMAT = 1


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary name, flush to disk, rename.

    Raises:
        UserError: the disk is full, or the folder cannot be written; an older file of the name stays as it was.
    """
    with written_whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"format": FORMAT, **content, **provenance()}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch closes its archive, and stumbles over what is missing
                raise error.__context__ from None
            raise


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """Read a checkpoint of one of some kinds: `backbone`, `stage`, `detector` or `training`.

    Raises:
        UserError: missing, truncated, a pickle, or of another kind.
    """
    content = load_tensors(path)
    found = content.get("kind")
    if found not in kinds:
        wanted = " or ".join(kinds)
        raise UserError(
            f"holds `{found or 'no known kind'}`, not `{wanted}`", where=path, mend=f"give a {wanted} checkpoint"
        )
    return content


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a dict of tensors and plain values, whoever wrote it; nothing in the file is run.

    Raises:
        UserError: missing, truncated, or a pickle of something else.
    """
    if not path.is_file():
        raise UserError("no such checkpoint", where=path, mend="check the path, or train one with `python train.py`")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise UserError(
            why_unreadable(path), where=path, mend="use a file that this project wrote, copied whole"
        ) from error
    return content if isinstance(content, dict) else {}


def why_unreadable(path: Path) -> str:
    """Why torch refuses a file, told from its outside: nothing in it is run."""
    with path.open("rb") as file:
        start = file.read(2)
    if start == b"PK":
        whole = zipfile.is_zipfile(path)  # the table of contents stands at the end
        return "a pickle of code, refused because opening it could run anything" if whole else "truncated checkpoint"
    if start[:1] == b"\x80":
        return "a bare pickle, refused because opening it could run anything"
    return "no checkpoint at all, or only the middle of one"


def load_state(module: nn.Module, state: dict[str, Any], where: Path | str) -> None:
    """Load weights that must fit exactly.

    Raises:
        UserError: names or shapes differ; says which first.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise UserError(f"has no `{name}`", where=where, mend="it belongs to another network; see --backbone")
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            raise UserError(f"`{name}` is {shapes}", where=where, mend="another width or class count; see --width")
    if extra := sorted(set(state) - set(own)):
        raise UserError(f"holds `{extra[0]}` too", where=where, mend="it belongs to another network; see --backbone")
    module.load_state_dict(state)


@cache
def provenance() -> dict[str, Any]:
    """Versions and commit that made a checkpoint, as they were when this process first asked."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout
    except OSError:  # no git on this machine
        commit = ""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {"versions": versions, "commit": commit.strip() or "unknown"}
