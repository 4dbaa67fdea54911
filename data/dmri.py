"""Diffusion MRI: a table of subjects, and below a folder of each its volumes as scanners and BIDS or HCP leave them.

A picture is a slice of fractional anisotropy, one of the middle ones in each of three directions (2.5D). It has the
class of its subject, and the boxes of what a mask beside the volume shows in it. Subjects are never parted.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import numpy as np

from data.listing import files_below
from data.parsing import class_index, numbered_lines, read_table
from data.records import EVERYTHING, Description, Notice, Problem, Record, Split, make_record
from data.slices import Slice, centre, upright
from data.volumes import MASK, Volume, anisotropy, described, ends_in, is_nifti, mask_of
from utils.console import progress, said_if_slow
from utils.errors import UserError

TABLE = "participants.tsv"
USUAL = ("*dwi*.nii*", "data.nii*", "*fa.nii*")  # names of volumes where the yaml says none
T = TypeVar("T")
TOUCHING = np.ones((3, 3))  # pixels of one part of a mask: also at a corner


@dataclass(frozen=True)
class Subject:
    """A row of the table: its name, its class, and file:line."""

    name: str
    label: int
    where: str


def read_dmri(description: Description, split: str) -> Split:
    """Read one split: the middle slices of every volume of its subjects.

    Raises:
        UserError: no table, or not with the column of `label:`; no such list; volumes whose gradients or masks do
            not fit, or of four dimensions where three are meant.
    """
    subjects, notices = subjects_of(description)
    problems: list[Problem] = []
    chosen = [subjects[name] for name in listed(description, split, subjects, problems) if name in subjects]
    volumes, passed, doubled = [], list[str](), list[str]()
    for subject in chosen:
        own = once(volumes_of(subject, description, problems, passed), doubled)
        volumes += [(subject, volume) for volume in own]
    if doubled:
        what = "volumes of anisotropy are left out, since a diffusion-weighted one in the same folder is fitted"
        notices.append(Notice(what, doubled, "say with `volumes:` which of them count"))
    if passed:
        notices.append(Notice("volumes are neither diffusion-weighted nor called FA, and are passed over", passed))
    return Split(split, description, list(records_of(volumes, description.slices, problems)), problems, notices)


def records_of(volumes: Sequence[tuple[Subject, Volume]], slices: int, problems: list[Problem]) -> Iterator[Record]:
    """The pictures of volumes; damaged ones go to problems."""
    with said_if_slow(f"fractional anisotropy of {len(volumes)} volumes"):
        for subject, volume in progress(volumes, "fractional anisotropy", len(volumes)):
            yield from readable(lambda: pictures(volume, subject, slices), volume.path, problems) or ()  # noqa: B023


def subjects_of(description: Description) -> tuple[dict[str, Subject], list[Notice]]:
    """The subjects of the table that are of a class, by name, and what is to be said of the others.

    Raises:
        UserError: no table, or one without the column; a subject that occurs twice; a value that nobody has.
    """
    table = description.labels or description.root / TABLE
    rows = list(rows_of(table, description))
    labels = {name: class_index(name, description.names, str(description.yaml)) for name in description.classes}
    values = {value: labels[name] for name, own in description.classes.items() for value in own}
    if unknown := values.keys() - {value for _, value, _ in rows}:
        what = f"no subject has `{sorted(unknown)[0]}` under `{description.label}`"
        raise UserError(what, where=table, hint=f"correct `classes:` in {description.yaml}")
    found: dict[str, Subject] = {}
    for name, value, where in rows:
        if name in found:
            raise UserError(f"subject `{name}` occurs twice", where=where, hint="delete one of the rows")
        if value in values:
            found[name] = Subject(name, values[value], where)
    others = [name for name, value, _ in rows if value not in values]
    return found, [Notice(f"subjects are of no class by `{description.label}`", others)] if others else []


def rows_of(table: Path, description: Description) -> Iterator[tuple[str, str, str]]:
    """Subject, value of the class's column and file:line, of each row; subjects are in the first column.

    The value of a row that is too short is empty.

    Raises:
        UserError: no table, or one without the column.
    """
    hint = f"correct it, or name another with `labels:` in {description.yaml}"
    header, rows = read_table(table, "table of subjects", hint)
    if description.label not in header[1:]:
        what = f"no column `{description.label}`, but {', '.join(header) or 'nothing at all'}"
        raise UserError(what, where=table, hint=f"correct `label:` in {description.yaml}")
    for where, row in rows:
        if row[header[0]]:
            yield row[header[0]], row[description.label], where


def listed(description: Description, split: str, subjects: dict[str, Subject], problems: list[Problem]) -> list[str]:
    """Names of the subjects of a split: all, or those on its list; unknown ones go to problems.

    Raises:
        UserError: no such list.
    """
    value = description.split(split)
    if value == EVERYTHING:
        return list(subjects)
    lines = list_of(description, split, value)
    where = description.root / value
    hint = "correct the name, or take it off the list"
    problems += [
        Problem(f"{where}:{number}", f"subject `{name}` is not in the table, or of no class", hint)
        for number, name in lines
        if name not in subjects
    ]
    return list(dict.fromkeys(name for _, name in lines))


def refuse_parted(description: Description) -> None:
    """Refuse lists of splits that share a subject: figures on the one would flatter what learnt from the other.

    Raises:
        UserError: two do, or there is no such list.
    """
    seen: dict[str, str] = {}
    for split, parts in description.splits.items():
        names = [name for part in parts if part != EVERYTHING for _, name in list_of(description, split, part)]
        for name in names:
            if (other := seen.setdefault(name, split)) != split:
                what = f"subject `{name}` is in `{other}` and in `{split}`"
                raise UserError(what, where=description.yaml, hint="take it off one of the lists")


def list_of(description: Description, split: str, value: str) -> list[tuple[int, str]]:
    """Lines of a list of subjects.

    Raises:
        UserError: no such list.
    """
    hint = f"correct `{split}:` in {description.yaml}: a list of subjects, or a share such as 0.8"
    return numbered_lines(description.root / value, hint)


def volumes_of(subject: Subject, description: Description, problems: list[Problem], passed: list[str]) -> list[Volume]:
    """The volumes below a subject's folder; what is damaged goes to problems, what is none to passed.

    Raises:
        UserError: as in volumes.described.
    """
    folder = description.root / subject.name
    files = [path for path in files_below(folder, (".nii", ".gz")) if is_nifti(path)]
    beside: dict[Path, list[Path]] = defaultdict(list)
    for path in files:
        beside[path.parent].append(path)
    wanted = (description.volumes,) if description.volumes else USUAL
    found = []
    for path in files:
        if ends_in(path, MASK) or not any(fnmatch(path.name.lower(), pattern.lower()) for pattern in wanted):
            continue
        volume = readable(lambda: [described(path, beside[path.parent])], path, problems)  # noqa: B023
        found += [own for own in volume or () if own is not None]
        passed += [str(path)] if volume == [None] else []
    if not found:
        what = f"no volume of subject `{subject.name}` below {folder}"
        problems.append(Problem(subject.where, what, "add it, or name the files with `volumes:`"))
    return found


def once(volumes: Sequence[Volume], doubled: list[str]) -> list[Volume]:
    """The volumes without the anisotropy of folders with a diffusion-weighted volume, whose paths go to doubled."""
    fitted = {own.path.parent for own in volumes if own.gradients}
    doubled += [str(own.path) for own in volumes if not own.gradients and own.path.parent in fitted]
    return [own for own in volumes if own.gradients or own.path.parent not in fitted]


def readable(read: Callable[[], list[T]], path: Path, problems: list[Problem]) -> list[T] | None:
    """What `read` gives; None where a file is damaged, which goes to problems."""
    try:
        return read()
    except (UserError, ImportError, MemoryError):
        raise
    except Exception as error:  # gzip, zlib and nibabel have many errors for what is not whole
        what = f"damaged volume ({str(error) or type(error).__name__})"
        problems.append(Problem(str(path), what, "replace the file, or take the subject off the list"))
        return None


def pictures(volume: Volume, subject: Subject, slices: int) -> list[Record]:
    """The middle slices of a volume's fractional anisotropy, 0–1 as 0–255, with the boxes of its masks."""
    values = upright(np.asarray(anisotropy(volume)), volume.affine)
    grey = (values * 255).round().astype(np.uint8)
    region = upright(mask_of(volume.regions), volume.affine) if volume.regions else None
    return [
        picture(volume.path, one, np.ascontiguousarray(one.cut(grey)), region, subject)
        for one in centre(grey.shape, slices)
    ]


def picture(path: Path, one: Slice, pixels: np.ndarray, region: np.ndarray | None, subject: Subject) -> Record:
    """The record of a slice."""
    boxes = [] if region is None else boxes_of(one.cut(region))
    return make_record(
        Path(f"{path}#{one.name}"),
        (pixels.shape[0], pixels.shape[1]),
        boxes,
        [subject.label] * len(boxes),
        classes=[subject.label],
        pixels=pixels[..., None],
        group=subject.name,
    )


def boxes_of(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """X1 y1 x2 y2, half-open, of each part of a mask [h, w] that hangs together."""
    from scipy import ndimage

    parts = ndimage.find_objects(ndimage.label(mask, TOUCHING)[0])
    return [(columns.start, rows.start, columns.stop, rows.stop) for rows, columns in parts]
