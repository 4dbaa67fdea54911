"""ImageNet with its boxes: pictures and Pascal VOC's XML files in a folder for each synset (image-net.org).

It is assumed that the pixels of boxes are counted as in Pascal VOC: from 1, with both corners inside. Boxes that then
reach out of their picture are clipped and counted.
"""

import re
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from data.images import readable
from data.listing import Folders
from data.lists import split_images
from data.parsing import class_index
from data.records import EVERYTHING, Description, Notice, Problem, Record, Split, make_record
from data.voc import parse_xml, read_annotation
from utils.errors import UserError
from utils.paths import is_folder

SYNSET = re.compile(r"n\d{8}")
IMAGES = ("Data/CLS-LOC", "ILSVRC/Data/CLS-LOC", "")
BOXES = ("Annotations/CLS-LOC", "ILSVRC/Annotations/CLS-LOC", "Annotation", "Annotations", "bbox")


@dataclass(frozen=True)
class Tree:
    """Where pictures and XML files are."""

    images: Path
    boxes: Path

    @classmethod
    def of(cls, description: Description) -> "Tree":
        """What the yaml names, or the published places that are there."""
        return cls(
            description.images or first_folder(description.root, IMAGES),
            description.labels or first_folder(description.root, BOXES),
        )

    def annotation(self, image: Path, folders: Folders) -> Path | None:
        """The XML file of a picture: at the same place, or without the split's folder, or by its bare name."""
        within = image.relative_to(self.images) if image.is_relative_to(self.images) else Path(image.name)
        parts = within.with_suffix(".xml").parts
        tails = (self.boxes.joinpath(*parts[start:]) for start in range(len(parts)))
        return next((path for path in tails if path.name in folders.names(path.parent)), None)


def first_folder(root: Path, places: tuple[str, ...]) -> Path:
    """The first of some folders that is there, or else the root."""
    return next((root / place for place in places if is_folder(root / place)), root)


def read_synsets(description: Description, split: str) -> Split:
    """Read one split: a folder of pictures below the images, a list as in ImageSets/CLS-LOC, or a share of all.

    A list names pictures from the split's folder on, or from that of all; a number behind a name is passed over.

    A picture's class is the synset whose folder it is in, or else that of its first box. A picture without XML file
    has no box. Where the yaml has `classes`, pictures of other synsets are left out. A box whose name is no synset is
    of its picture's synset; one of a synset that is no class is left out and counted.

    Raises:
        UserError: no such split, or a synset outside `names`.
    """
    tree = Tree.of(description)
    own = tree.images / description.split(split)
    listed = replace(description, images=tree.images)
    listed = listed if not is_folder(own) else replace(listed, splits={split: (str(own),)})
    home = first_folder(tree.images, ("" if description.split(split) == EVERYTHING else split, ""))
    images, notices = split_images(listed, split, home, numbered=True)
    owner = Owners(synset_classes(description))
    problems: list[Problem] = []
    folders, records, bare = Folders(), list[Record](), list[str]()
    for image, size in zip(images, readable(images, problems), strict=True):
        if size is None:
            continue
        annotation = tree.annotation(image, folders)
        bare += [] if annotation else [image.name]
        synset = synset_of(image, annotation)
        if synset is None:
            what = "is in no folder of a synset and has no box that names one"
            problems.append(Problem(str(image), what, "put it into the folder of its synset"))
        elif not description.classes or synset in owner.labels:
            records.append(record_of(image, size, synset, annotation, owner, problems))
    notices += [Notice("pictures have no XML file, so no box", bare)] if bare else []
    others = Notice("boxes are of synsets that are no class, and are left out", owner.foreign)
    return Split(split, description, records, problems, [*notices, others] if others.places else notices)


@dataclass(frozen=True)
class Owners:
    """Which class each synset belongs to, and the boxes of synsets that belong to none, as `n02084071 at file:line`."""

    labels: dict[str, int]
    foreign: list[str] = field(default_factory=list)

    def of_box(self, own: int, name: str, where: str) -> int | None:
        """The class of a box in a picture of class `own`; None where it is of a synset that is no class."""
        if name in self.labels or not SYNSET.fullmatch(name):
            return self.labels.get(name, own)
        self.foreign.append(f"{name} at {where}")
        return None


def synset_classes(description: Description) -> dict[str, int]:
    """Synset → index of its class; the classes are synsets where the yaml joins none."""
    if not description.classes:
        return {name: index for index, name in enumerate(description.names)}
    return {own: description.names.index(name) for name, synsets in description.classes.items() for own in synsets}


def synset_of(image: Path, annotation: Path | None) -> str | None:
    """The synset of a picture's folder, or of its first box."""
    folder = next((part for part in reversed(image.parent.parts) if SYNSET.fullmatch(part)), None)
    if folder or annotation is None:
        return folder
    try:
        return (parse_xml(annotation.read_bytes()).findtext("object/name") or "").strip() or None
    except (OSError, ElementTree.ParseError, ValueError, LookupError):
        return None


def record_of(
    image: Path, size: tuple[int, int], synset: str, annotation: Path | None, owner: Owners,
    problems: list[Problem],
) -> Record:  # fmt: skip
    """The record of a picture; one whose XML file is damaged stays, without a box."""
    synsets = list(owner.labels)
    own = owner.labels[synsets[class_index(synset, synsets, str(image.parent))]]

    read = read_annotation(annotation, image, size, partial(owner.of_box, own), problems) if annotation else None
    return make_record(image, size, classes=[own]) if read is None else replace(read, classes=np.array([own]))


def synset_names(root: Path, train: str) -> list[str]:
    """The synsets that have a folder of training pictures, in alphabetical order.

    Args:
        root: of the data, or the folder of the pictures.

    Raises:
        UserError: there is none.
    """
    images = first_folder(root, IMAGES)
    folder = images if train == EVERYTHING else images / train
    found = sorted(path.name for path in folder.glob("*") if SYNSET.fullmatch(path.name) and path.is_dir())
    if not found:
        hint = "correct `path:`, `images:` or `train:`, or give `names:`, which a list needs"
        raise UserError("no folder of a synset such as n02084071", where=folder, hint=hint)
    return found
