"""Downloading a file: whole or not at all, continued after a pause."""

from pathlib import Path

import requests

from utils.console import console, progress
from utils.errors import UserError
from utils.files import sha256_of
from utils.text import redacted

TIMEOUT, TRIES, CHUNK = 30, 3, 2**20  # seconds without a byte, tries, bytes at a time


def fetch(url: str, path: Path, sha256: str | None = None, *, hint: str | None = None) -> Path:
    """Download a file; it takes its name when it is whole, and what was published.

    What came is kept beside it until then, and the next try, of this call or of another one, continues from there.

    Raises:
        UserError: no such server or file, silence for TIMEOUT seconds in each of TRIES, another content, a full disk.
    """
    console.print(f"fetching {redacted(url)} to {path}")
    part = path.with_name(f".{path.name}.part")
    hint = hint or f"try again, or fetch it yourself to {path}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in reversed(range(TRIES)):
            try:
                fetch_rest(url, part)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if not left:
                    raise
    except (OSError, ValueError) as error:  # requests' own errors are OSErrors
        raise UserError(f"cannot fetch {path.name} ({error})", where=url, hint=hint) from error
    found = sha256_of(part)
    if sha256 is not None and found != sha256:
        part.unlink()
        what = f"cannot fetch {path.name} (its sha256 is {found}, not {sha256})"
        raise UserError(what, where=url, hint=hint)
    return part.replace(path)


def fetch_rest(url: str, part: Path) -> None:
    """Append to a file what is missing of what an address holds.

    Raises:
        requests.RequestException, OSError: the server does not answer, or not to its end; the disk is full.
    """
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()  # what is there belongs to another file, or is whole already
            raise requests.ConnectionError(f"the server has no byte {have:,} of it")
        answer.raise_for_status()
        goes_on = answer.status_code == requests.codes.partial_content
        length = int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if goes_on else "wb") as file:
            start = file.tell()
            chunks = progress(answer.iter_content(CHUNK), f"fetching {part.name[1:-5]}", -(-length // CHUNK))
            for chunk in chunks:
                file.write(chunk)
            if length and file.tell() - start < length:
                raise requests.ConnectionError(f"{file.tell() - start:,} of {length:,} bytes came")
