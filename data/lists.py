"""Which images a split has: those of a folder, those on a list, or all."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from data.images import SUFFIXES, images_below, unread_folders
from data.listing import Folders, alike
from data.parsing import read_lines
from data.records import EVERYTHING, Description, Notice
from utils.errors import UserError
from utils.paths import is_folder, kind_of

SPLIT = re.compile(r"(train|val|test)(?:ing|id(?:ation)?)?(?![a-z])")  # how the folders of a split begin
Wanted = tuple[Sequence[str], list[Path]]  # what an image may be called, and the folders to look in
OUTCOMES = ("1", "0", "-1")  # second column of VOC's lists of a class: whether it occurs


@dataclass(frozen=True)
class Match:
    """The image that a name was taken for.

    Attributes:
        exact: it is called so; else a part of the name, its suffix or its capitals are others.
        moved: it is in other folders than the name says.
    """

    path: Path
    exact: bool = True
    moved: bool = False


@dataclass
class Search:
    """Where the images of a data set are looked for.

    Attributes:
        roots: folders, in the order in which they are tried.
        everywhere: below this one a bare name is looked for, where it is the only one.
        moved: names that were found elsewhere than they say.
    """

    roots: list[Path]
    everywhere: Path
    folders: Folders = field(default_factory=lambda: Folders(SUFFIXES))
    moved: list[str] = field(default_factory=list)
    _by_name: dict[str, list[Path]] | None = None

    def find_all(self, wanted: Sequence[Wanted]) -> list[Path | None]:
        """The image that each entry of a list or a json means; None where it is nowhere.

        An image belongs to the name that is exactly its own. Where it was only taken for another's, or for those of
        several, it is not the one that was meant: theirs are missing.
        """
        found = [next(filter(None, (self._match(name, roots) for name in names)), None) for names, roots in wanted]
        exact = {own.path for own in found if own and own.exact}
        meant: dict[Path, set[str]] = {}
        for (names, _), own in zip(wanted, found, strict=True):
            if own and not own.exact:
                meant.setdefault(own.path, set()).add(plain(names[-1]))
        doubtful = exact | {path for path, names in meant.items() if len(names) > 1}
        sure = [own if own and (own.exact or own.path not in doubtful) else None for own in found]
        self.moved += [names[0] for (names, _), own in zip(wanted, sure, strict=True) if own and own.moved]
        return [own.path if own else None for own in sure]

    def _match(self, name: str, roots: list[Path]) -> Match | None:
        """What a name may mean by itself.

        It is tried as it is, with other slashes, capitals or suffix, and then without its first folders: lists name
        paths of the machine that they were written on.
        """
        if "/" not in name and name in self.folders.names(roots[0]):  # as most are
            return Match(roots[0] / name)
        paths = [root / text for text in dict.fromkeys((name, name.strip("\"'"), plain(name))) for root in roots]
        for path in paths:
            if path.name in self.folders.names(path.parent) and (known_suffix(path) or path.is_file()):
                return Match(path)
        for path in paths:
            if (found := self._named(path)) is not None:
                return Match(found, exact=not known_suffix(path) and found.with_suffix("") == path)
        return self._elsewhere(name, roots)

    def _elsewhere(self, name: str, roots: list[Path]) -> Match | None:
        """What a name may mean without its first folders; never an image of another split than they say."""
        parts = [part for part in plain(name).split("/") if part not in ("", ".", "..")]
        tails = ("/".join(parts[start:]) for start in range(1, len(parts)))
        by_tail = (found for tail in tails for root in roots if (found := self._named(root / tail)) is not None)
        found = next(by_tail, None) or (self._anywhere(parts[-1]) if parts else None)
        if found is None or other_split(parts[:-1], found.relative_to(self._home(found)).parts[:-1]):
            return None
        return Match(found, exact=False, moved=True)

    def _home(self, path: Path) -> Path:
        """The outermost folder of the search that an image is in: what is above says nothing of its split."""
        return min((own for own in (*self.roots, self.everywhere) if path.is_relative_to(own)), default=path.parent)

    def _named(self, path: Path) -> Path | None:
        """A path, or that of an image whose suffix was left out or is another."""
        known = known_suffix(path)
        if (found := self.folders.find(path)) is not None and (known or found.is_file()):
            return found
        return self.folders.find_stem(path.with_suffix("") if known else path)

    def _anywhere(self, name: str) -> Path | None:
        """The only image of a name."""
        if self._by_name is None:
            self._by_name = {}
            for path in images_below(self.everywhere):
                for key in dict.fromkeys((alike(path.name), alike(path.stem))):
                    self._by_name.setdefault(key, []).append(path)
        found = self._by_name.get(alike(name), [])
        return found[0] if len(found) == 1 else None

    def notices(self, where: object) -> list[Notice]:
        """What is to be said of names that were found elsewhere."""
        what = f"names of {where} are of images that are elsewhere"
        return [Notice(what, self.moved, "the end of the path shows which")] if self.moved else []


def plain(name: str) -> str:
    """A name without quotes, with the slashes of this system."""
    return name.strip("\"'").replace("\\", "/")


def known_suffix(path: Path) -> bool:
    """Whether a path ends as an image does."""
    return path.suffix.lower() in SUFFIXES


def other_split(named: Sequence[str], found: Sequence[str]) -> bool:
    """Whether folders are those of another split: `val/…` is not `train/…`."""
    own, other = ({match[1] for name in names if (match := SPLIT.match(name.lower()))} for names in (named, found))
    return bool(own and other) and own.isdisjoint(other)


def search(description: Description, first: Path | None = None, *, listing: Path | None = None) -> Search:
    """Where images are looked for: a format's own folder first, then the root and the usual places in it."""
    root = description.root
    usual = (first, root, description.images, root / "images", listing.parent if listing else None)
    return Search(list(dict.fromkeys(path for path in usual if path is not None)), description.images or root)


def place(root: Path, value: str) -> Path:
    """A file or folder that the yaml names, relative to the root.

    Where it is not there, without the `../` that Roboflow writes before it, or in other capitals.
    """
    path = root / value
    if kind_of(path) is not None:
        return path
    folders, inside = Folders(), value.replace("\\", "/")
    while inside.startswith("../"):
        inside = inside.removeprefix("../")
    found = (folders.find(root / own) for own in (value, inside))
    return next(filter(None, found), path)


def split_images(
    description: Description, split: str, first: Path | None = None, *, numbered: bool = False
) -> tuple[list[Path], list[Notice]]:
    """Images of a split: all, those below a folder, or those on a list; and what is to be said of them.

    Args:
        first: folder that the names of a list start in.
        numbered: a whole number may follow the names of a list.

    Raises:
        UserError: neither folder nor list.
    """
    value = description.split(split)
    home = first or description.images or description.root
    source = home if value == EVERYTHING else place(description.root, value)
    if value == EVERYTHING and not is_folder(source):
        hint = f"correct `path:` or `images:` in {description.yaml}"
        raise UserError("no folder of images", where=source, hint=hint)
    if is_folder(source):
        closed: list[Path] = []
        return images_below(source, closed), unread_folders(closed)
    return on_list(source, description, split, first, numbered=numbered)


def on_list(
    listing: Path, description: Description, split: str, first: Path | None = None, *, numbered: bool = False
) -> tuple[list[Path], list[Notice]]:
    """Images of a list, and what is to be said of its lines; one that is nowhere has the first place."""
    hint = f"correct `{split}:` in {description.yaml}: a folder of images, a list of them, or a share such as 0.8"
    looked = search(description, first, listing=listing)
    lines = read_lines(listing, hint)
    if lines and lines[0].startswith(("{", "[")):
        hint = "write `format: coco` if boxes are in it"
        raise UserError(f"`{split}:` is JSON, not a list of pictures", where=listing, hint=hint)
    beside = [listing.parent, *looked.roots]
    wanted = [(names_on(line, numbered), beside if line.startswith("./") else looked.roots) for line in lines]
    images, lost = [], []
    for ((line, *_), roots), found in zip(wanted, looked.find_all(wanted), strict=True):
        if found is None:
            lost.append(line)
        images.append(found or roots[0] / (line if Path(line).suffix else f"{line}.jpg"))
    nowhere = Notice(f"names of {listing} are of no image", lost, f"looked in {', '.join(map(str, looked.roots))}")
    return images, [*looked.notices(listing), *([nowhere] if lost else [])]


def names_on(line: str, numbered: bool) -> list[str]:
    """What a line may name: all of it, or its first column where the second says whether a class occurs.

    Args:
        numbered: the second column may be any whole number.
    """
    first, _, rest = line.rpartition(" ")
    return [line, first.strip()] if rest in OUTCOMES or (numbered and rest.isdecimal()) else [line]
