"""Fetching and unpacking the archives of a data set: whole or not at all, and never outside its folder."""

import lzma
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, model_validator

from utils.console import console
from utils.errors import UserError
from utils.fetch import fetch
from utils.limits import UNPACKED
from utils.memory import GIB
from utils.names import checked_name

SUSPECT = 50  # times the size of an archive that its members have only to fill a disk

# RuntimeError: a zip with a password.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


class Archive(BaseModel):
    """A file to unpack, and where it is published."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path
    url: HttpUrl | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _checked(self) -> Self:
        if (self.url is None) != (self.sha256 is None):
            raise ValueError("give `url` and `sha256` together")
        return self


def present(archive: Archive, yaml: Path, *, download: bool) -> Path:
    """Path of an archive that is there, or that was fetched.

    Raises:
        UserError: it is not there and may not be fetched, or cannot, or would be outside the yaml's folder.
    """
    path = (yaml.parent / archive.file).resolve()
    if path.is_file():
        return path
    if archive.url is None or archive.sha256 is None:
        raise UserError(f"the archive {path} does not exist", where=yaml, hint="add it, or correct `archives:`")
    if not download:
        hint = f"add it, or let it be fetched from {archive.url} with --download"
        raise UserError(f"the archive {path} does not exist", where=yaml, hint=hint)
    if not path.is_relative_to(yaml.parent.resolve()):
        hint = "give `file:` a place beside the yaml or below it"
        raise UserError(f"{path} is outside the yaml's folder, where nothing is fetched to", where=yaml, hint=hint)
    for part in path.relative_to(yaml.parent.resolve()).parts or ("",):
        checked_name(part, f"{yaml}: archives")
    return fetch(str(archive.url), path, archive.sha256)


def unpack(archives: Sequence[Path], folder: Path, *, yaml: Path) -> None:
    """Unpack tar and zip files into a new folder, under a temporary name until they are whole.

    Where all archives share one top folder of the new folder's own name, that folder takes its place.

    Raises:
        UserError: an archive is damaged, or has a member that would land elsewhere; the disk is full.
    """
    console.print(f"unpacking {', '.join(archive.name for archive in archives)} into {folder}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            fresh = Path(temporary) / "whole"
            fresh.mkdir()
            for archive in archives:
                unpack_one(archive, fresh)
            settle(fresh, folder)
    except OSError as error:
        what = f"cannot write ({error.strerror or error})"
        raise UserError(what, where=folder, hint=f"free it, or choose another `path:` in {yaml}") from error


def settle(fresh: Path, folder: Path) -> None:
    """Give what was unpacked its name, unless another process was faster."""
    inner = fresh / folder.name
    whole = inner if list(fresh.iterdir()) == [inner] and inner.is_dir() else fresh
    try:
        whole.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise


def unpack_one(archive: Path, folder: Path) -> None:
    """Unpack one tar (of any compression) or zip file.

    Raises:
        UserError: neither of the two, damaged, or with a member that would land outside the folder.
    """
    try:
        archive.open("rb").close()
    except OSError as error:
        what = f"cannot be read ({error.strerror or error})"
        raise UserError(what, where=archive, hint="make it readable, or fetch it again") from error
    try:
        if tarfile.is_tarfile(archive):  # asked first: a tar that ends with a zip looks like a zip
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter=Room(archive))
                check_end(tar)
        else:
            with zipfile.ZipFile(archive) as file:
                room = Room(archive)
                for member in file.infolist():
                    check_member(member.filename, archive)
                    room.take(member.file_size)
                file.extractall(folder)
    except tarfile.FilterError as error:
        raise leads_out(str(error), archive) from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; a decompressor sets no errno
            raise
        raise UserError(f"is no whole tar or zip file ({error})", where=archive, hint="fetch it again") from error


class Room:
    """How much the members of an archive have taken together; a filter for tar files too.

    Raises:
        UserError: they are large, and SUSPECT times as large as the archive: pictures do not shrink so.
    """

    def __init__(self, archive: Path) -> None:
        self.archive, self.taken = archive, 0

    def take(self, size: int) -> None:
        """Count one more member."""
        self.taken += size
        what = UNPACKED.too_much(self.taken / GIB)
        if what and self.taken > SUSPECT * self.archive.stat().st_size:
            raise UserError(f"unpacks to {what}", where=self.archive, hint="do so only if you trust it")

    def __call__(self, member: tarfile.TarInfo, folder: str) -> tarfile.TarInfo | None:
        self.take(member.size)
        return tarfile.data_filter(member, folder)


def check_end(tar: tarfile.TarFile) -> None:
    """Refuse a tar, read to its end, that was cut between two members or in a header; tarfile itself is content.

    Raises:
        tarfile.ReadError: no whole block follows the last member.
    """
    if tar.fileobj is not None and tar.fileobj.tell() < tar.offset + tarfile.BLOCKSIZE:
        raise tarfile.ReadError("it ends without an end mark")


def check_member(name: str, archive: Path) -> None:
    """Refuse a zip member that is not below the folder.

    Raises:
        UserError: an absolute path, or one with `..`.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise leads_out(f"`{name}`", archive)


def leads_out(what: str, archive: Path) -> UserError:
    """The error for an archive that reaches out of its folder."""
    return UserError(f"a member leads out of the folder: {what}", where=archive, hint="do not use this archive")
