"""Checkpoints: dicts of tensors and plain values, written whole, read with weights_only=True.

They are zip archives, in which every tensor and the description have a CRC-32 of their own. torch writes these and
does not look at them; here they are looked at before anything is unpacked, in files of any age and origin.
"""

import base64
import hashlib
import platform
import struct
import subprocess
import warnings
import zipfile
import zlib
from collections.abc import Mapping, Sequence, Set
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils.config import ROOT
from utils.contents import ANOTHER, checked
from utils.errors import UserError
from utils.files import written_whole
from utils.limits import CHECKPOINT
from utils.memory import GIB
from utils.paths import is_file

FORMAT = 1
TRAINED_ON = "trained_on"  # numbers of the pictures that it has learnt from, as data/seen.py makes them
LESSON = "lesson"  # what the backbone had learnt, as evaluation/learnt.py has it
OBJECTS = 64  # bytes of memory that a byte of a description may become
USUAL = 2**20  # bytes of a description
UNREADABLE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, LookupError)


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint: temporary name, flush to disk, rename.

    Raises:
        UserError: the disk is full, or the folder cannot be written; an older file of the name stays as it was.
        TypeError: numpy's values are in it, which nobody could read again.
    """
    refuse_numpy(content)
    with written_whole(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save({"format": FORMAT, **content, **provenance()}, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # torch closes its archive, and stumbles over what is missing
                raise error.__context__ from None
            raise


def refuse_numpy(value: object, key: str = "") -> None:
    """Refuse what passes for a number here, and for code where it is read.

    Raises:
        TypeError: there is such a value; names its key.
    """
    if isinstance(value, Mapping):
        for name, own in value.items():
            refuse_numpy(own, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for index, own in enumerate(value):
            refuse_numpy(own, f"{key}[{index}]")
    elif type(value).__module__ == "numpy":
        raise TypeError(f"{key} is of {type(value)}")


def load(path: Path, *kinds: str) -> dict[str, Any]:
    """Read a checkpoint of one of some kinds: `backbone`, `stage`, `detector`, `segmenter` or `training`.

    Raises:
        UserError: missing, damaged, a pickle, too large once unpacked, of another kind, or with values that are not
            fit to use; so does whoever asks what it gives for a key that is not there.
    """
    content = load_tensors(path)
    found = content.get("kind")
    if found not in kinds:
        wanted = " or ".join(kinds)
        raise UserError(
            f"holds `{found or 'no known kind'}`, not `{wanted}`", where=path, hint=f"give a {wanted} checkpoint"
        )
    return checked(content, str(found), path)


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a dict of tensors and plain values, whoever wrote it; nothing in the file is run.

    Raises:
        UserError: missing, damaged, too large once unpacked, or a pickle of something else.
    """
    if not is_file(path):
        raise UserError("no such checkpoint", where=path, hint="check the path, or train one with `python train.py`")
    check_archive(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of what the error below says
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for damaged files
        raise UserError(why_unreadable(path), where=path, hint=ANOTHER) from error
    return content if isinstance(content, dict) else {}


def learnt_by(content: Mapping[str, Any]) -> frozenset[int] | None:
    """Numbers of the pictures (data/seen.py) that a network has learnt from, or None: an older file says nothing."""
    return None if content.get(TRAINED_ON) is None else frozenset(content[TRAINED_ON].tolist())


def learnt_text(learnt: Set[int]) -> str:
    """Such numbers as the metadata of an ONNX file hold them: ascending, int64 of little-endian bytes, in base64."""
    return base64.b64encode(np.array(sorted(learnt), "<i8").tobytes()).decode()


def learnt_from(text: str) -> frozenset[int]:
    """What `learnt_text` wrote.

    Raises:
        ValueError: it did not write this.
    """
    return frozenset(np.frombuffer(base64.b64decode(text, validate=True), "<i8").tolist())


def kind_of(path: Path) -> str:
    """The kind of a checkpoint; empty for what is none: whoever reads it as one says why it is not."""
    if path.suffix != ".pt" or not is_file(path):
        return ""
    return str(load_tensors(path).get("kind", ""))


def check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to far more than it is, or of which a part is not what was written.

    What does not begin as an archive is left to torch, which reads it as one of its older files, or not at all.

    Raises:
        UserError: it is, or does; it is cut short, or cannot be read.
    """
    try:
        if start_of(path) != b"PK":
            return
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path, hint="see to its permissions") from error
    if not zipfile.is_zipfile(path):  # the table of contents is at the end
        raise UserError("truncated checkpoint", where=path, hint=ANOTHER)
    try:
        with zipfile.ZipFile(path) as archive:
            if any("/code/" in name for name in archive.namelist()):
                hint = "it is for other programs; give the .pt or .onnx of the same detector"
                raise UserError("TorchScript, which is not read here", where=path, hint=hint)
            if what := bloated(archive.infolist(), path.stat().st_size):
                raise UserError(f"unpacks to {what}", where=path, hint="do so only if you trust it")
            damaged = archive.testzip()
    except UNREADABLE as error:
        raise UserError(f"damaged: {error}", where=path, hint=ANOTHER) from error
    if damaged is not None:
        what = f"damaged: `{damaged.partition('/')[2]}` has another checksum than when it was written"
        raise UserError(what, where=path, hint=ANOTHER)


def bloated(members: Sequence[zipfile.ZipInfo], size: int) -> str | None:
    """What to say of an archive of so many bytes that takes much more memory; None of others.

    torch does not compress: an archive of tensors is as large as they are. A description becomes small objects.
    """
    described = sum(own.file_size for own in members if own.filename.endswith(".pkl"))
    needed = sum(own.file_size for own in members) + OBJECTS * max(0, described - USUAL)
    return CHECKPOINT.too_much(needed / GIB) if needed > size else None


def start_of(path: Path) -> bytes:
    """Its first two bytes."""
    with path.open("rb") as file:
        return file.read(2)


def why_unreadable(path: Path) -> str:
    """Why torch refuses a file, judged by its outside: nothing in it is run."""
    start = start_of(path)
    if start == b"PK":
        return "a pickle of code, refused because opening it could run anything"
    if start[:1] == b"\x80":
        return "a bare pickle, refused because opening it could run anything"
    return "is not a checkpoint, or only a part of one"


def load_state(module: nn.Module, state: dict[str, Any], where: Path | str) -> None:
    """Load weights that must fit exactly.

    Raises:
        UserError: names or shapes differ; says which first.
    """
    own = module.state_dict()
    for name, tensor in own.items():
        if name not in state:
            raise UserError(f"has no `{name}`", where=where, hint="it belongs to another network; see --backbone")
        if state[name].shape != tensor.shape:
            shapes = f"{tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            raise UserError(f"`{name}` is {shapes}", where=where, hint="another width or class count; see --width")
    if extra := sorted(set(state) - set(own)):
        raise UserError(f"holds `{extra[0]}` too", where=where, hint="it belongs to another network; see --backbone")
    module.load_state_dict(state)


@cache
def provenance() -> dict[str, Any]:
    """Versions and commit that made a checkpoint, as they were when this process first asked."""
    versions = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {"versions": versions, "commit": commit_of(ROOT) or "unknown"}


def commit_of(folder: Path) -> str:
    """The commit of a repository; nothing for a folder that is none, and only is in one."""
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    home, *commit = done.stdout.splitlines() or [""]
    return commit[0] if commit and done.returncode == 0 and Path(home).resolve() == folder.resolve() else ""


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer, those too that no checkpoint holds."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def hash_weights(module: nn.Module) -> str:
    """Of every parameter and buffer."""
    digest = hashlib.sha256()
    for name, tensor in tensors_of(module).items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
