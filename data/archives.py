"""Fetching and unpacking the archives of a data set: whole or not at all, and never outside its folder."""

import lzma
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from torch.hub import download_url_to_file

from utils.console import console
from utils.errors import UserError

# RuntimeError: a zip with a password.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError)


def fetch(url: str, path: Path, sha256: str | None = None) -> Path:
    """Download a file under a temporary name, with a progress bar; it takes its name when it is what was published.

    Raises:
        UserError: no such server or file, another content, a full disk.
    """
    console.print(f"fetching {url} to {path}", markup=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        download_url_to_file(url, str(path), hash_prefix=sha256, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError) as error:  # RuntimeError: another hash
        what = f"cannot fetch {path.name} ({error})"
        raise UserError(what, where=url, mend=f"try again, or fetch it yourself to {path}") from error
    return path


def unpack(archives: Sequence[Path], folder: Path, *, yaml: Path) -> None:
    """Unpack tar and zip files into a new folder, under a temporary name until they are whole.

    Where all archives share one top folder of the new folder's own name, that folder takes its place.

    Raises:
        UserError: an archive is damaged, or has a member that would land elsewhere; the disk is full.
    """
    console.print(f"unpacking {', '.join(archive.name for archive in archives)} into {folder}", markup=False)
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
        raise UserError(what, where=folder, mend=f"free it, or choose another `path:` in {yaml}") from error


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
        if tarfile.is_tarfile(archive):  # asked first: a tar that ends with a zip looks like a zip
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
                check_end(tar)
        else:
            with zipfile.ZipFile(archive) as file:
                for name in file.namelist():
                    check_member(name, archive)
                file.extractall(folder)
    except tarfile.FilterError as error:
        raise leads_out(str(error), archive) from error
    except (*DAMAGED, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's; a decompressor sets no errno
            raise
        raise UserError(f"is no whole tar or zip file ({error})", where=archive, mend="fetch it again") from error


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
    return UserError(f"a member leads out of the folder: {what}", where=archive, mend="do not use this archive")
