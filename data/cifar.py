"""CIFAR-10 and CIFAR-100 as published, binary or Python version; or one .npz file of the same arrays.

The .npz file holds x_train, x_test [n, H, W, 3] uint8 RGB, y_train, y_test [n] and classes, the names.
"""

import codecs
import io
import pickle
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from data.parsing import class_index, read_lines
from data.records import Description, Record, Split, make_record
from utils.errors import UserError

SIDE = 32
PIXEL_BYTES = 3 * SIDE * SIDE
SPLITS = ("train", "test")
Files = dict[str, tuple[str, ...]]  # train, test → names
REPLACE = "replace it by the published file"


@dataclass(frozen=True)
class Batch:
    """One file: images [n, H, W, 3] uint8 RGB and labels [n]."""

    file: Path
    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Layout:
    """One of the published forms.

    Attributes:
        meta: file with the class names; its presence shows the form.
        files: names of the files of train and test.
        read: file → its images and labels.
        names: meta file → class names in the order of the labels.
    """

    meta: str
    files: Files
    read: Callable[[Path], Batch]
    names: Callable[[Path], list[str]]


def read_cifar(description: Description, split: str) -> Split:
    """Read one split, train or test; images are held in memory.

    Raises:
        UserError: no such split, no CIFAR files, a file of the wrong size or content, a class outside `names`.
    """
    part = description.split(split)
    if part not in SPLITS:
        what, hint = f"CIFAR has no split `{part}`", f"correct `{split}:`; it has {' and '.join(SPLITS)}"
        raise UserError(what, where=description.yaml, hint=hint)
    listed = cifar_names(description.root, part)
    records = [
        record
        for batch in batches(description.root, part)
        for record in batch_records(batch, listed, description.names)
    ]
    return Split(split, description, records)


def cifar_names(root: Path, train: str) -> list[str]:
    """Class names in the order of the labels."""
    archive = npz_file(root)
    if archive:
        return [str(name) for name in npz_array(archive, "classes")]
    layout = find_layout(root)
    return layout.names(root / layout.meta)


def batches(root: Path, part: str) -> Iterator[Batch]:
    """The files of a split, in order."""
    archive = npz_file(root)
    if archive:
        yield Batch(archive, npz_array(archive, f"x_{part}"), npz_array(archive, f"y_{part}"))
        return
    layout = find_layout(root)
    for name in layout.files[part]:
        if not (root / name).is_file():
            raise UserError("the file does not exist", where=root / name, hint="add it; the set is not complete")
        yield layout.read(root / name)


def find_layout(root: Path) -> Layout:
    """The published form of the files in a folder.

    Raises:
        UserError: none of them.
    """
    found = next((layout for layout in LAYOUTS if (root / layout.meta).is_file()), None)
    if found is None:
        known = ", ".join(layout.meta for layout in LAYOUTS)
        raise UserError(f"no CIFAR files here (none of {known}, *.npz)", where=root, hint="correct `path:`")
    return found


def batch_records(batch: Batch, listed: list[str], names: list[str]) -> list[Record]:
    """Records of one file, its labels translated from the order of its set to that of `names`.

    Raises:
        UserError: images and labels are not of the form that Batch states, or a class outside `names`.
    """
    images, labels = batch.images, batch.labels
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
        what = f"images of {images.dtype} {list(images.shape)} instead of uint8 [n, H, W, 3]"
        raise UserError(what, where=batch.file, hint=REPLACE)
    if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} labels {list(labels.shape)} for {len(images)} images"
        raise UserError(what, where=batch.file, hint=REPLACE)
    strange = np.flatnonzero((labels < 0) | (labels >= len(listed)))
    if len(strange):
        what = f"label {labels[strange[0]]} with {len(listed)} classes"
        raise UserError(what, where=f"{batch.file}#{strange[0]}", hint=REPLACE)
    index = {label: class_index(listed[label], names, str(batch.file)) for label in np.unique(labels)}
    height, width = images.shape[1:3]
    return [
        make_record(Path(f"{batch.file}#{row}"), (height, width), classes=[index[label]], pixels=image)
        for row, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def as_images(rows: np.ndarray) -> np.ndarray:
    """Rows [n, 3072] of the red, green and blue plane → images [n, 32, 32, 3]."""
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def read_binary(path: Path, *, label_bytes: int) -> Batch:
    """A file of the binary version: a row is its labels, the finest last, and 3,072 bytes of pixels.

    Raises:
        UserError: its size is not that of whole rows.
    """
    content = np.fromfile(path, np.uint8)
    row = label_bytes + PIXEL_BYTES
    if not len(content) or len(content) % row:
        what = f"{len(content)} bytes are no whole number of rows of {row}"
        raise UserError(what, where=path, hint=REPLACE)
    rows = content.reshape(-1, row)
    return Batch(path, as_images(rows[:, label_bytes:]), rows[:, label_bytes - 1].astype(np.int64))


def read_pickled(path: Path, *, labels: str) -> Batch:
    """A file of the Python version; `labels` is the key of the labels.

    Raises:
        UserError: not a pickle of plain values and arrays, or not with rows of 3,072 bytes.
    """
    content = load_pickle(path)
    rows = content.get("data")
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != PIXEL_BYTES:
        raise UserError(f"`data` is not uint8 [n, {PIXEL_BYTES}]", where=path, hint=REPLACE)
    found = content.get(labels)
    if not isinstance(found, list) or not all(isinstance(label, int) for label in found):
        raise UserError(f"`{labels}` is no list of numbers", where=path, hint=REPLACE)
    return Batch(path, as_images(rows), np.array(found, np.int64))


def pickled_names(path: Path, *, key: str) -> list[str]:
    """Class names of the Python version.

    Raises:
        UserError: there are none.
    """
    found = load_pickle(path).get(key)
    if not isinstance(found, list):
        raise UserError(f"`{key}` is no list of names", where=path, hint=REPLACE)
    return [text(name) for name in found]


def text(value: object) -> str:
    """A string of Python 2, which arrives as bytes, or of Python 3."""
    return value.decode() if isinstance(value, bytes) else str(value)


# What arrays and strings are unpickled with. numpy moved its private modules: both spellings lead to the present one.
CORES = ("numpy.core", "numpy._core")
ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): codecs.encode,
    **{(f"{core}.multiarray", "_reconstruct"): np.zeros(1).__reduce__()[0] for core in CORES},
    **{(f"{core}.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0] for core in CORES},
}


class PlainUnpickler(pickle.Unpickler):
    """Admits arrays, strings, lists and dicts; a pickle that asks for anything else could run code."""

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call.

        Raises:
            pickle.UnpicklingError: it asks for anything else.
        """
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return ADMITTED[module, name]


def load_pickle(path: Path) -> dict[str, Any]:
    """A pickled dict with its keys as strings.

    Raises:
        UserError: damaged, no dict, or with more in it than plain values and arrays.
    """
    try:
        content = PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"is no pickle of plain values and arrays ({error})", where=path, hint=REPLACE) from error
    if not isinstance(content, dict):
        raise UserError(f"holds a {type(content).__name__} instead of a dict", where=path, hint=REPLACE)
    return {text(key): value for key, value in content.items()}


def npz_file(root: Path) -> Path | None:
    """The .npz file of a folder, if it holds one.

    Raises:
        UserError: it holds several.
    """
    found = sorted(root.glob("*.npz"))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise UserError(f"several .npz files: {names}", where=root, hint="leave one in the folder")
    return found[0] if found else None


def npz_array(path: Path, key: str) -> np.ndarray:
    """One array of an .npz file.

    Raises:
        UserError: damaged, without that array, or with a pickle in its place.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            return np.asarray(content[key])
    except KeyError:
        what, hint = f"no array `{key}`", "write x_train, y_train, x_test, y_test and classes"
        raise UserError(what, where=path, hint=hint) from None
    except (OSError, ValueError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"`{key}` cannot be read ({error})", where=path, hint="replace the file") from error


TEN: Files = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
HUNDRED: Files = {"train": ("train",), "test": ("test",)}


def binary(meta: str, files: Files, *, label_bytes: int) -> Layout:
    """The binary version: the files of the Python version with a suffix."""
    named = {part: tuple(f"{name}.bin" for name in names) for part, names in files.items()}
    return Layout(meta, named, partial(read_binary, label_bytes=label_bytes), partial(read_lines, hint=REPLACE))


def pickled(meta: str, files: Files, *, labels: str, names: str) -> Layout:
    """The Python version; labels and names are keys of its dicts."""
    return Layout(meta, files, partial(read_pickled, labels=labels), partial(pickled_names, key=names))


LAYOUTS = (
    binary("batches.meta.txt", TEN, label_bytes=1),
    binary("fine_label_names.txt", HUNDRED, label_bytes=2),
    pickled("batches.meta", TEN, labels="labels", names="label_names"),
    pickled("meta", HUNDRED, labels="fine_labels", names="fine_label_names"),
)
