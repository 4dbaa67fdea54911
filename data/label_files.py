"""Which label file belongs to which image, and which belong to none."""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from data.images import images_below
from data.listing import Folders, alike, files_below
from data.lists import other_split
from data.records import Description, Notice
from utils.errors import UserError
from utils.paths import kind_of

TRIED = 3  # paths that the message names when there are no labels at all
Places = Callable[[Path], list[Path]]  # image → where its labels may be, the likeliest place first


@dataclass
class Matched:
    """Label files of the images of a split: None where an image has none; and what is to be said of them."""

    files: list[Path | None]
    notices: list[Notice] = field(default_factory=list)


def match(
    images: list[Path],
    description: Description,
    split: str,
    places: Places,
    roots: Iterable[Path],
    is_label: Callable[[Path], bool],
) -> Matched:
    """Find the label file of each image.

    It is in one of its places, in any capitals; or it is the only one below the roots that has the image's name, where
    no other image has that name, and its folders are not those of another split. That is said.

    Args:
        is_label: whether a file that belongs to no image is one of labels.

    Raises:
        UserError: not one image has labels.
    """
    folders = Folders()
    files = [first_there(folders, places(image)) for image in images]
    suffix = places(images[0])[0].suffix if images else ""
    homes = {path.parent for path in files if path is not None}
    below = {path for root in {*roots} for path in files_below(root, (suffix,))}
    spare = below | {path for home in homes for path in inside(folders, home, suffix)}
    spare -= {path for path in files if path is not None}
    others: list[Path] = []
    if spare:  # labels of other splits are none of this one's business
        own = set(images)
        others = [path for path in images_below(description.images or description.root) if path not in own]
        taken = {image: first_there(folders, places(image)) for image in others}
        spare -= {path for path in taken.values() if path is not None}
        others = [image for image, path in taken.items() if path is None]
    elsewhere = by_name(images, files, others, spare)
    if not any(files) and any(kind_of(image) for image in images):
        tried = ", ".join(str(path) for image in images[:TRIED] for path in places(image)[:1])
        hint = "put them there, or name their folder with `labels:`"
        if suffix != ".xml" and any(files_below(root, (".xml",)) for root in {*roots}):
            hint = "there are .xml files: write `format: voc`"
        raise UserError(f"no labels for `{split}`, looked for {tried}", where=description.yaml, hint=hint)
    known = {alike(image.stem) for image in (*images, *others)}
    lost = sorted(path for path in spare if not {alike(name) for name in stems(path)} & known and is_label(path))
    return Matched(files, said(images, files, lost, elsewhere, places))


def first_there(folders: Folders, paths: list[Path]) -> Path | None:
    """The first path that is there, in any capitals."""
    return next(filter(None, map(folders.find, paths)), None)


def inside(folders: Folders, folder: Path, suffix: str) -> list[Path]:
    """Files of a suffix right in a folder."""
    return [folder / name for name in folders.names(folder) if Path(name).suffix.lower() == suffix]


def stems(path: Path) -> tuple[str, str]:
    """The names of images that a label file may belong to: `a.jpg.txt` is for `a.jpg`."""
    return path.stem, Path(path.stem).stem


def by_name(images: list[Path], files: list[Path | None], others: list[Path], spare: set[Path]) -> list[Path]:
    """Give images without labels the spare file of their name, where both are the only ones; in place.

    Returns:
        The files that were given.
    """
    without = [index for index, path in enumerate(files) if path is None]
    if not without or not spare:
        return []
    wanting = Counter(alike(image.stem) for image in (*others, *(images[index] for index in without)))
    offered: dict[str, list[Path]] = {}
    for path in spare:
        offered.setdefault(alike(path.stem), []).append(path)
    given = []
    for index in without:
        key = alike(images[index].stem)
        if wanting[key] != 1 or len(offered.get(key, ())) != 1:
            continue
        (found,) = offered[key]
        above = len(Path(os.path.commonpath([images[index], found])).parts)
        if not other_split(images[index].parent.parts[above:], found.parent.parts[above:]):
            files[index] = found
            spare.discard(found)
            given.append(found)
    return given


def said(
    images: list[Path], files: list[Path | None], lost: list[Path], elsewhere: list[Path], places: Places
) -> list[Notice]:
    """What is to be said: images without labels, labels without image, in other folders, or of several images."""
    without = [image for image, path in zip(images, files, strict=True) if path is None]
    shared = [
        path for path, count in Counter(dict(zip(images, files, strict=True)).values()).items() if path and count > 1
    ]
    nothing = f"of {len(images)} images have no label file and count, if they can be read, as images without boxes"
    looked = f"looked for {', '.join(map(str, places(without[0])))}" if without else ""
    notices = [
        Notice(nothing, [str(path) for path in without], looked),
        Notice("label files belong to no image", [str(path) for path in lost]),
        Notice("label files were found by their names, in other folders than expected", [*map(str, elsewhere)]),
        Notice("label files belong to several images", [str(path) for path in shared]),
    ]
    return [notice for notice in notices if notice.places]
