"""What frozen blocks put out, computed once and read in every epoch: in RAM, or memory-mapped on disk."""

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from data.images import UnreadableError
from data.records import Split
from training.same_data import contents
from utils.console import console
from utils.errors import UserError
from utils.files import cannot_write, make_folder, write_text
from utils.memory import GIB, free_memory
from utils.paths import is_file

MARK_EVERY = 64  # steps between two notes of how far a file is filled
NEW_VIEWS = "augmentation draws a new view of each image in every epoch"
STORED = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.int16}  # numpy knows no bfloat16


@dataclass
class FeatureBatch:
    """Features of one step: features [B, C, H, W], present [B, classes] 0 or 1, index in the split [B]."""

    features: Tensor
    present: Tensor
    index: Tensor


@dataclass(frozen=True)
class CacheKey:
    """What decides the content of a cache; two caches are the same if and only if their keys are.

    Attributes:
        prefix: hash of the frozen blocks' weights and statistics.
        data: hash of what is in the images, and of their labels.
        transform: what is done to an image, spelt out, with the seed of its draws.
        dtype, shape: of one image's features, shape as channels, height, width.
        views: rows of each image.
        images: how many there are.
    """

    prefix: str
    data: str
    transform: str
    dtype: str
    shape: tuple[int, ...]
    views: int
    images: int

    @property
    def rows(self) -> int:
        """Images times views."""
        return self.images * self.views


class FeatureCache(Dataset[FeatureBatch]):
    """Features of a split at one cut; row view · images + index. Asked with many (view, index) at once.

    On disk: `features.bin`, `present.bin`, `key.json`, and `filled<shard>.json` for each process that fills it. Space
    is reserved before anything is written, and a row counts as there only once a flush has followed it: a kill at any
    moment leaves a cache that is continued, never one that is half read. Notes carry checksums, of themselves and of
    the rows that they vouch for; what has been damaged since is said in one line and computed again.

    Args:
        folder: of its files, or None for RAM.
        shards: processes that fill it together; this one is number `shard`. They must share the folder.
        step: rows computed at once.

    Raises:
        UserError: the folder holds a cache of another key; says which parts differ.
    """

    def __init__(
        self, folder: Path | None, key: CacheKey, classes: int, *, step: int, shard: int = 0, shards: int = 1
    ) -> None:
        self.folder, self.key, self.step, self.shard, self.shards = folder, key, step, shard, shards
        channels, height, width = key.shape
        self.dtype: torch.dtype = getattr(torch, key.dtype)
        shape = (key.rows, height, width, channels)
        if folder is None:
            self.features = np.empty(shape, STORED[self.dtype])
            self.present = np.empty((key.rows, classes), np.uint8)
        else:
            if shard == 0:
                reserve(folder, key, self.nbytes(key, classes))
            self.features = np.memmap(wait_for(folder / "features.bin"), STORED[self.dtype], "r+", shape=shape)
            self.present = np.memmap(wait_for(folder / "present.bin"), np.uint8, "r+", shape=(key.rows, classes))
        self.done, self.sum = self._noted(shard)
        self._whole = False
        if self.sum != self._checksum(self.done):
            console.aloud(f"{folder}: cached features are damaged; they are computed again")
            self.done = self.sum = 0
            self.mark()

    @staticmethod
    def nbytes(key: CacheKey, classes: int) -> tuple[int, int]:
        """Bytes of the features and of the classes."""
        item = torch.empty((), dtype=getattr(torch, key.dtype)).element_size()
        return key.rows * int(np.prod(key.shape)) * item, key.rows * classes

    def __len__(self) -> int:
        return self.key.images

    def __getitems__(self, draws: list[tuple[int, int]]) -> FeatureBatch:
        """The rows of (view, index) pairs."""
        assert self.complete, "a cache is read only when all of it is there"
        rows = [view * self.key.images + index for view, index in draws]
        features = torch.from_numpy(self.features[rows]).view(self.dtype).permute(0, 3, 1, 2)
        present = torch.from_numpy(self.present[rows]).float()
        self._unload()
        return FeatureBatch(features, present, torch.tensor([index for _, index in draws]))

    @property
    def complete(self) -> bool:
        """Whether every shard has noted its last row; asked before every read, so a yes is remembered."""
        if not self._whole:
            noted = [self.done if shard == self.shard else self._noted(shard)[0] for shard in range(self.shards)]
            self._whole = all(done == len(self._starts(shard)) for shard, done in enumerate(noted))
        return self._whole

    def missing(self) -> list[int]:
        """Rows that this process has yet to compute, `step` of them at once."""
        return [row for start in self._starts(self.shard)[self.done :] for row in self._chunk(start)]

    def fill(self, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Write features [step, C, H, W] and present [step, classes] of the missing rows, in their order."""
        try:
            for start, (features, present) in zip(self._starts(self.shard)[self.done :], batches, strict=True):
                self._store(self._chunk(start), features, present)
                self.done += 1
                if self.done % MARK_EVERY == 0:
                    self.mark()
        finally:
            self.mark()

    def _store(self, rows: range, features: Tensor, present: Tensor) -> None:
        assert features.dtype == self.dtype, "what is stored is what was computed, to the last bit"
        stored = features.permute(0, 2, 3, 1).contiguous().cpu()
        if self.dtype == torch.bfloat16:
            stored = stored.view(torch.int16)
        self.features[rows.start : rows.stop] = stored.numpy()
        self.present[rows.start : rows.stop] = present.cpu().numpy()
        if self.folder is not None:
            self.sum = self._added(self.sum, rows)

    def _added(self, before: int, rows: range) -> int:
        """A checksum of some rows together with those before."""
        for array in (self.features, self.present):
            before = zlib.crc32(np.ascontiguousarray(array[rows.start : rows.stop]).view(np.uint8).data, before)
        return before

    def _checksum(self, chunks: int) -> int:
        """Of so many of this process's first chunks, as they are on disk."""
        found = 0
        for start in self._starts(self.shard)[:chunks]:
            found = self._added(found, self._chunk(start))
        self._unload()
        return found

    def mark(self) -> None:
        """Flush, then note how far this process has come."""
        if self.folder is not None:
            for array in (self.features, self.present):
                assert isinstance(array, np.memmap)
                array.flush()
            write_note(self._note(self.shard), [self.done, self.sum])
            self._unload()

    def _unload(self) -> None:
        """Let this process hold no page of the file: the system's own cache does, as far as there is room."""
        if isinstance(self.features, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            self.features._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]

    def delete(self) -> None:
        """Free the space."""
        del self.features, self.present
        if self.folder is not None and self.shard == 0:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _starts(self, shard: int) -> range:
        return range(shard * self.step, self.key.rows, self.shards * self.step)

    def _chunk(self, start: int) -> range:
        return range(start, min(start + self.step, self.key.rows))

    def _note(self, shard: int) -> Path:
        assert self.folder is not None
        return self.folder / f"filled{shard}of{self.shards}by{self.step}.json"

    def _noted(self, shard: int) -> tuple[int, int]:
        """Chunks that a process has noted as there, and their checksum; 0 where there is no whole note."""
        if self.folder is None or not self._note(shard).exists():
            return 0, 0
        noted = read_note(self._note(shard))
        fits = isinstance(noted, list) and len(noted) == 2 and all(type(number) is int for number in noted)
        if fits and 0 <= noted[0] <= len(self._starts(shard)):
            return noted[0], noted[1]
        console.aloud(f"{self._note(shard)}: damaged; the cached features that it noted are computed again")
        return 0, 0


def write_note(path: Path, content: Any) -> None:
    """Write JSON with a checksum, whole or not at all."""
    text = json.dumps(content)
    write_text(path, f"{zlib.crc32(text.encode()):08x} {text}\n")


def read_note(path: Path) -> Any:
    """What write_note wrote; None where there is nothing, or not that any more."""
    with contextlib.suppress(OSError, ValueError):
        found, _, text = path.read_text().strip().partition(" ")
        if int(found, 16) == zlib.crc32(text.encode()):
            return json.loads(text)
    return None


def reserve(folder: Path, key: CacheKey, sizes: tuple[int, int]) -> None:
    """Make the files of a cache at their full size, or accept those that are there, of that size and with the same key.

    Raises:
        UserError: the folder holds a cache of another key, or the disk is full.
    """
    note, wanted = folder / "key.json", json.loads(json.dumps(asdict(key)))
    files = dict(zip(("present.bin", "features.bin"), reversed(sizes), strict=True))
    found = read_note(note)
    if isinstance(found, dict):
        if differing := [name for name in wanted if found.get(name) != wanted[name]]:
            what = "; ".join(f"{name} is {found.get(name)!r} there, {wanted[name]!r} now" for name in differing)
            raise UserError(f"holds the features of something else: {what}", where=folder, hint="delete the folder")
        if all(length(folder / name) == size for name, size in files.items()):
            return
    if note.exists():
        console.aloud(f"{folder}: the cached features or their notes are damaged; they are computed again")
    shutil.rmtree(folder, ignore_errors=True)
    make_folder(folder)
    try:
        for name, size in files.items():
            with (folder / name).open("wb") as file:
                allocate(file.fileno(), size)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise cannot_write(folder, error) from error
    write_note(note, wanted)


def length(path: Path) -> int:
    """Bytes of a file; -1 where there is none."""
    return path.stat().st_size if path.is_file() else -1


def allocate(descriptor: int, size: int) -> None:
    """Reserve the blocks now: a memory map that meets a full disk later kills the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


def wait_for(path: Path) -> Path:
    """A file that another process of this machine has made before the last barrier."""
    if not path.exists():
        raise UserError("is not there", where=path, hint="the processes of one machine must share the run folder")
    return path


Place = Literal["ram", "disk"]


def choose_place(wanted: str, needed: int, folders: list[Path], ranks: int) -> Place | str:
    """`ram` or `disk`, or, where `auto` finds room in neither, the reason to do without.

    `auto` takes RAM for up to half of what is free, and for one process only: several share a file.

    Raises:
        UserError: an explicit wish without the space for it; says both numbers.
    """
    held = sum(file.stat().st_size for folder in folders for file in folder.glob("*.bin"))  # of a run that continues
    home = next(parent for parent in folders[0].parents if parent.exists())
    free = {"ram": free_memory(), "disk": shutil.disk_usage(home).free + held}
    short = f"the features need {needed / GIB:.2f} GiB; free are {free['ram'] / GIB:.2f} GiB of RAM, "
    short += f"{free['disk'] / GIB:.2f} GiB of disk"
    if wanted in free:
        if needed > free[wanted]:
            raise UserError(short, where=f"--cache {wanted}", hint="use --cache off, or fewer --cache-views")
        return wanted
    if ranks == 1 and needed <= free["ram"] / 2:
        return "ram"
    return "disk" if needed <= free["disk"] else short


def hash_split(split: Split) -> str:
    """Of what is in the images, and of their labels.

    Raises:
        UnreadableError: an image is gone.
    """
    digest = hashlib.sha256()
    for record, content in zip(split.records, contents(split.records), strict=True):
        if record.pixels is None and not is_file(record.image):
            raise UnreadableError(str(record.image), "the image does not exist")
        digest.update(content)
        for array in (record.labels, record.boxes_xyxy, record.classes):
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def unchanged(items: Any) -> Any:
    """Collate function for batches that the data set makes itself."""
    return items
