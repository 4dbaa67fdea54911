"""The images that a trained file is judged on."""

from dataclasses import dataclass
from pathlib import Path

from data.description import load_description
from data.formats import read_unseen
from data.levels import with_levels
from data.records import Split
from data.views import View
from utils.console import console
from utils.errors import UserError
from utils.levels import Levels


@dataclass(frozen=True)
class Wanted:
    """What whoever evaluates asks for.

    Attributes:
        data: data yaml [that of the training].
        task: split [that of data.formats.read_unseen].
        download: fetch what the data yaml names and is not there yet.
        strict: damaged images or labels stop the evaluation.
        masked: pictures come with masks; those without are left out.
    """

    data: Path | None = None
    task: str | None = None
    download: bool = False
    strict: bool = False
    masked: bool = False


def check_levels(path: Path, levels: Levels | None, first: Path, wanted: Levels | None) -> None:
    """Refuse a file that was trained with other levels than the first one: all are shown the same pictures.

    Raises:
        UserError: it was.
    """
    if levels != wanted:
        own, other = (found.pair if found else "none" for found in (levels, wanted))
        raise UserError(f"levels are {own}, but {other} in {first}", where=path, hint="evaluate them one by one")


def read_held_out(
    wanted: Wanted,
    own: Path | None,
    names: list[str] | None,
    trained: Path,
    levels: Levels | None,
    view: View | None = None,
) -> Split:
    """The split to evaluate on; prints what is in it.

    Args:
        own: the data yaml of the training, if the file records it.
        names: of the classes that the file was trained on, where the data have to have them.
        trained: the file, for messages.
        levels: that it was trained with, for pictures of more than 8 bits.
        view: how its classifiers are shown the data; None for pictures as they are.

    Raises:
        UserError: its classes are not those that the file was trained on; nobody says which data.
    """
    if not (data := wanted.data or own):
        raise UserError("does not name its data set", where=trained, hint="name the data yaml with --data")
    description = with_levels(load_description(data, download=wanted.download), levels)
    split = read_unseen(description, wanted.task, strict=wanted.strict, masked=wanted.masked)
    console.print(split.summary())
    if view is not None and view.source == "objects":
        split, note = view.shown(split)
        console.print(note)
    if names is not None and names != split.description.names:
        raise UserError(
            f"classes {names} are not those of {description.yaml}: {split.description.names}",
            where=trained,
            hint="give the data yaml that it was trained on",
        )
    return split
