"""Which images a split has: those of a folder, those on a list, or all."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.images import SUFFIXES, images_below
from data.listing import Folders, alike, is_folder, kind_of
from data.parsing import read_lines
from data.records import EVERYTHING, Description, Notice
from utils.errors import UserError

OUTCOMES = ("1", "0", "-1")  # second column of VOC's lists of a class: whether it occurs


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

    def find(self, name: str, roots: list[Path]) -> Path | None:
        """The image that a list or a json means; None where it is nowhere.

        It is tried as it is, with other slashes, capitals or suffix, and then without its first folders: lists name
        paths of the machine that they were written on.
        """
        if (found := self._plainly(name, roots)) is not None:
            return found
        for text in dict.fromkeys((name, name.strip("\"'"), name.strip("\"'").replace("\\", "/"))):
            for root in roots:
                if (found := self._named(root / text)) is not None:
                    return found
        parts = [part for part in name.strip("\"'").replace("\\", "/").split("/") if part not in ("", ".", "..")]
        tails = ("/".join(parts[start:]) for start in range(1, len(parts)))
        by_tail = (found for tail in tails for root in roots if (found := self._named(root / tail)) is not None)
        found = next(by_tail, None) or (self._anywhere(parts[-1]) if parts else None)
        if found is not None:
            self.moved.append(name)
        return found

    def _plainly(self, name: str, roots: list[Path]) -> Path | None:
        """A bare name that is in the first folder, as most are."""
        return roots[0] / name if "/" not in name and name in self.folders.names(roots[0]) else None

    def _named(self, path: Path) -> Path | None:
        """A path, or that of an image whose suffix was left out or is another."""
        known = path.suffix.lower() in SUFFIXES
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
        return images_below(source), []
    return on_list(source, description, split, first, numbered=numbered)


def on_list(
    listing: Path, description: Description, split: str, first: Path | None = None, *, numbered: bool = False
) -> tuple[list[Path], list[Notice]]:
    """Images of a list, and what is to be said of its lines; one that is nowhere has the first place."""
    hint = f"correct `{split}:` in {description.yaml}: a folder of images, a list of them, or a share such as 0.8"
    looked = search(description, first, listing=listing)
    images, lost = [], []
    for line in read_lines(listing, hint):
        roots = [listing.parent, *looked.roots] if line.startswith("./") else looked.roots
        found = next(filter(None, (looked.find(name, roots) for name in names_on(line, numbered))), None)
        if found is None:
            lost.append(line)
            found = roots[0] / (line if Path(line).suffix else f"{line}.jpg")
        images.append(found)
    nowhere = Notice(f"names of {listing} are of no image", lost, f"looked in {', '.join(map(str, looked.roots))}")
    return images, [*looked.notices(listing), *([nowhere] if lost else [])]


def names_on(line: str, numbered: bool) -> Iterator[str]:
    """What a line may name: all of it, or its first column where the second says whether a class occurs.

    Args:
        numbered: the second column may be any whole number.
    """
    yield line
    first, _, rest = line.rpartition(" ")
    if rest in OUTCOMES or (numbered and rest.isdecimal()):
        yield first.strip()
