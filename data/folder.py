"""Class folders: <split>/<class>/**/<image>, whatever the images are called."""

from pathlib import Path

from data.images import SUFFIXES, images_below, readable, unread_folders
from data.lists import place
from data.parsing import class_index
from data.records import Description, Notice, Problem, Record, Split, make_record
from utils.errors import UserError
from utils.paths import is_folder


def read_folder(description: Description, split: str) -> Split:
    """Read one split; an image's class is the folder right under the split. Images beside these are named.

    Raises:
        UserError: no such folder, or a class folder outside `names`.
    """
    root = place(description.root, description.split(split))
    paths: list[Path] = []
    classes: list[int] = []
    closed: list[Path] = []
    for folder in class_folders(root, f"correct `{split}:` in {description.yaml}"):
        found = images_below(folder, closed)
        paths += found
        classes += [class_index(folder.name, description.names, str(folder))] * len(found)
    problems: list[Problem] = []
    records: list[Record] = []
    for path, index, size in zip(paths, classes, readable(paths, problems), strict=True):
        if size is not None:
            records.append(make_record(path, size, classes=[index]))
    beside = [str(path) for path in sorted(root.glob("*")) if path.suffix.lower() in SUFFIXES and not is_folder(path)]
    notices = [Notice("pictures are in no class folder and have no class", beside)] if beside else []
    return Split(split, description, records, problems, [*notices, *unread_folders(closed)])


def folder_names(root: Path, train: str) -> list[str]:
    """The class folders of the training split in alphabetical order."""
    return [folder.name for folder in class_folders(root / train, "correct `train:`")]


def class_folders(root: Path, hint: str) -> list[Path]:
    """Folders of a split in alphabetical order; hidden ones are passed over.

    Raises:
        UserError: no such split, or no folder in it.
    """
    folders = [path for path in sorted(root.glob("*")) if is_folder(path) and not path.name.startswith(".")]
    if not folders:
        raise UserError("no class folders here", where=root, hint=f"put one folder a class there, or {hint}")
    return folders
