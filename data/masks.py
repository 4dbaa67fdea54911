"""Masks of a split: which class each pixel of its images is of; from files, or from outlines in a json.

A mask file is a PNG of class numbers, with a palette as Pascal VOC's `SegmentationClass` or in grey: 0 is the
background, n the n-th name, 255 does not count.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data.doubles import digest
from data.images import UnreadableError, attempt, readable
from data.listing import Folders
from data.lists import split_images
from data.records import Description, Mask, Notice, Problem, Record, Split, make_record
from utils.errors import UserError
from utils.images import opened
from utils.letterbox import IGNORED
from utils.threads import each

BACKGROUND = "background"
SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
OFFICIAL = "SegmentationClass"  # Pascal VOC's folder, beside that of the images
Masks = list[Mask | Problem | None]
MUCH = 0.25  # of a mask: more pixels that do not count than outlines of objects have


def mask_names(names: Sequence[str]) -> list[str]:
    """What the numbers in a mask are called, from 0."""
    return [BACKGROUND, *names]


@dataclass(frozen=True)
class MaskFile:
    """A mask in a file of its own.

    Attributes:
        shown: the numbers that it has, without IGNORED, once it was read.
        ignored: fraction of its pixels that do not count, likewise.
    """

    path: Path
    shown: tuple[int, ...] = ()
    ignored: float = 0.0

    @property
    def doubtful(self) -> bool:
        """Whether 255 seems to stand for a class: it is on many pixels, or there is no class beside it."""
        return self.ignored >= MUCH or (self.ignored > 0 and not any(self.shown))

    def pixels(self, size_hw: tuple[int, int]) -> np.ndarray:
        """[H, W] uint8 class numbers.

        Raises:
            ValueError: it is of another size than its picture.
        """
        found = read_mask(self.path)
        if found.shape != size_hw:
            raise ValueError("the mask is of {1}×{0}, its picture of {3}×{2}".format(*found.shape, *size_hw))
        return found

    def identity(self) -> bytes:
        """Name and bytes of the file."""
        return f"{self.path.name} {self.path.stat().st_size}".encode()

    def content(self) -> bytes:
        """A hash of the file."""
        return digest(self.path).encode()


def read_mask(path: Path) -> np.ndarray:
    """[H, W] uint8 of a file of class numbers.

    Raises:
        OSError, ValueError: missing, damaged, a picture in colours, or grey of more than 8 bits.
    """
    with opened(path) as image:
        if image.mode[0] in "IF":  # I, I;16, F
            raise ValueError(f"grey of more than 8 bits ({image.mode}); save its class numbers with 8 bits")
        if image.mode not in ("P", "L", "1"):
            raise ValueError(f"colours ({image.mode}) in place of class numbers; save it with a palette, or in grey")
        return np.array(image, np.uint8)


def mask_pixels(record: Record) -> np.ndarray:
    """[H, W] uint8 class numbers of a record that has a mask.

    Raises:
        UnreadableError: its file is gone, damaged, or of another size than its picture.
    """
    mask = record.mask
    assert mask is not None
    try:
        return mask.pixels(record.size_hw)
    except (OSError, ValueError) as error:
        where = mask.path if isinstance(mask, MaskFile) else record.image
        raise UnreadableError(str(where), f"damaged mask ({error or type(error).__name__})") from error


def with_masks(split: Split, *, strict: bool = False) -> Split:
    """The split with masks on its records; pictures without, or with a damaged one, are left out, counted and named.

    Args:
        strict: the first damaged mask is an error instead of being left out.

    Raises:
        UserError: the data have none, or too many names for one; a mask has a number beyond the names, or none has a
            class.
    """
    found = masks_of(split)
    problems, notices = left_out(split.records, found)
    if strict and problems:
        raise problems[0].error()
    pairs = zip(split.records, found, strict=True)
    records = [replace(record, mask=own) for record, own in pairs if own is not None and not isinstance(own, Problem)]
    if not records:
        why = f"{problems[0].where}: {problems[0].what}" if problems else "not one picture has a mask"
        hint = "correct it" if problems else "name their folder with `masks:`, or give --task detect"
        raise UserError(f"`{split.name}` has no masks: {why}", where=split.description.yaml, hint=hint)
    notices = [*split.notices, *(own for own in notices if own not in split.notices)]
    return replace(split, records=records, problems=[*split.problems, *problems], notices=notices)


def left_out(records: Sequence[Record], masks: Sequence[Mask | Problem | None]) -> tuple[list[Problem], list[Notice]]:
    """What is said of pictures with a damaged mask, or none, of masks of several, or whose 255 seems to be a class."""
    problems = [own for own in masks if isinstance(own, Problem)]
    without = [str(record.image) for record, own in zip(records, masks, strict=True) if own is None]
    files = [own for own in masks if isinstance(own, MaskFile)]
    doubtful = [str(own.path) for own in files if own.doubtful]
    shared = [str(path) for path, count in Counter(own.path for own in files).items() if count > 1]
    notices = [
        Notice(f"of {len(masks)} pictures have no mask and are left out", without),
        Notice("masks belong to several images", shared),
        Notice(f"masks have {IGNORED} on {MUCH:.0%} of the pixels, or in place of a class", doubtful,
               f"{IGNORED} does not count, class 1 is 1"),
    ]  # fmt: skip
    return problems, [own for own in notices if own.places]


def masks_of(split: Split) -> Masks:
    """The mask of each record, what is wrong with it, or None where there is none.

    Raises:
        UserError: nothing says where masks are, or there are too many names for one.
    """
    own = split.description
    refuse_many(own)
    if own.masks is not None:
        return [*folder_masks(split, own.masks)]
    if own.format.masks is None:
        what = f"the format `{own.format.name}` has no masks"
        hint = "name a folder of mask files with `masks:`, or give --task detect"
        raise UserError(what, where=own.yaml, hint=hint)
    return own.format.masks(split)


def refuse_many(description: Description) -> None:
    """Refuse names that a byte a pixel cannot tell from each other.

    Raises:
        UserError: there are so many.
    """
    if len(description.names) >= IGNORED:
        what = f"{len(description.names)} names, and a mask has numbers for {IGNORED - 1}"
        raise UserError(what, where=description.yaml, hint="join some of them, or give --task detect")


def official_masks(split: Split) -> Masks:
    """Those of a tree of Pascal VOC."""
    return [*file_masks(split, lambda image: [image.parent.parent / OFFICIAL / image.stem])]


def folder_masks(split: Split, folder: Path) -> list[MaskFile | Problem | None]:
    """Those in a folder of masks."""
    return file_masks(split, lambda image: ends_in(folder, image, split.description.root))


def ends_in(folder: Path, image: Path, root: Path) -> list[Path]:
    """Where in a folder an image's mask may be, without suffix: the image's path, then that without first folders."""
    parts = (image.relative_to(root) if image.is_relative_to(root) else Path(image.name)).with_suffix("").parts
    return [folder.joinpath(*parts[start:]) for start in range(len(parts))]


def file_masks(split: Split, places: Callable[[Path], list[Path]]) -> list[MaskFile | Problem | None]:
    """Masks in files of their own: each is read once, to see to it that it fits.

    Raises:
        UserError: a mask has a number beyond the names, or none has a class.
    """
    folders = Folders()

    def find(record: Record) -> MaskFile | None:
        stems = (stem.with_name(stem.name + suffix) for stem in places(record.image) for suffix in SUFFIXES)
        path = next(filter(None, map(folders.find, stems)), None)
        return MaskFile(path) if path else None

    files = [find(record) for record in split.records]
    pairs = zip(files, split.records, strict=True)
    found = list(each(lambda pair: checked(*pair, split.description), pairs))
    refuse_empty(split, [own for own in found if isinstance(own, MaskFile)])
    return found


def refuse_empty(split: Split, masks: Sequence[MaskFile]) -> None:
    """Refuse masks of nothing but background and what does not count: whatever is found would be right.

    Raises:
        UserError: there are some, and all are so.
    """
    if masks and not any(any(own.shown) for own in masks):
        what = f"no mask of `{split.name}` shows a class; {IGNORED} does not count"
        raise UserError(what, where=split.description.yaml, hint="write class 1 as 1, class 2 as 2")


def checked(mask: MaskFile | None, record: Record, description: Description) -> MaskFile | Problem | None:
    """A mask file that fits its picture, with the numbers that it shows, or what is wrong with it.

    Raises:
        UserError: it has a number beyond the names.
    """
    if mask is None:
        return None
    found = attempt(lambda _: mask.pixels(record.size_hw), mask.path)
    if isinstance(found, Problem):
        what = found.what.replace("damaged image", "damaged mask")
        return replace(found, what=what, hint="replace the mask, or take its picture off the list")
    numbers = np.unique(found)
    shown = tuple(numbers[numbers != IGNORED].tolist())
    highest = max(shown, default=0)
    if highest > len(description.names):
        what = f"class number {highest} in a mask, and {len(description.names)} names (0 is the background)"
        raise UserError(what, where=mask.path, hint=f"correct the mask, or `names:` in {description.yaml}")
    return replace(mask, shown=shown, ignored=float(np.mean(found == IGNORED)))


def read_masked(description: Description, split: str) -> Split:
    """Read one split of a folder of pictures with a folder of masks; an image has the classes that its mask shows.

    Pictures without a mask, or with a damaged one, are left out, counted and named: nobody knows their classes.

    Raises:
        UserError: neither folder nor list of images; no folder of masks; a number beyond the names, or too many names;
            no mask with a class.
    """
    if description.masks is None:
        raise UserError("key `masks` is missing", where=description.yaml, hint="name the folder of the masks with it")
    refuse_many(description)
    paths, notices = split_images(description, split)
    problems: list[Problem] = []
    sizes = readable(paths, problems)
    plain = [make_record(path, size) for path, size in zip(paths, sizes, strict=True) if size is not None]
    masks = folder_masks(Split(split, description, plain), description.masks)
    records = [
        replace(record, classes=np.array([number - 1 for number in own.shown if number], np.int64))
        for record, own in zip(plain, masks, strict=True)
        if isinstance(own, MaskFile)
    ]
    damaged, missing = left_out(plain, masks)
    return Split(split, description, records, [*problems, *damaged], [*notices, *missing])
