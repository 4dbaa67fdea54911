"""Run folders: runs/<kind>/exp, exp2, exp3…; a finished training run holds metrics.json."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from utils.errors import UserError
from utils.files import created, first_free, make_folder
from utils.names import checked_name
from utils.paths import kind_of
from utils.zoo import PREFIX, shipped, weight_file

FINISHED = "metrics.json"
WEIGHTS = "weights"
BEST = f"{WEIGHTS}/best.pt"
NOTES = (
    "recipe.yaml",
    "console.log",
    "loggers.json",
    "events.out.tfevents*",
    "wandb/**",
)  # they alone are not worth a folder


def new_run(project: Path, kind: str, name: str = "exp") -> contextlib.AbstractContextManager[Path]:
    """The next free run folder, project/kind/name{,2,3…}, as made by `made`; runs that start together have one each.

    Raises:
        UserError: it cannot be called so.
    """
    free = partial(first_free, (project / kind).joinpath, checked_name(name, "--name"))
    return made(free(), free)


@contextlib.contextmanager
def made(folder: Path, otherwise: Callable[[], Path] | None = None) -> Iterator[Path]:
    """A folder for the block; where it was made for it, it goes again if the block fails with nothing to keep.

    Args:
        folder: it may be there already, if there is no `otherwise`.
        otherwise: names the folder to take where another process has made this one meanwhile.

    Raises:
        UserError: it cannot be created or written.
    """
    parents = [own for own in folder.parents if not own.exists()]
    mine = otherwise is None and not folder.exists()
    try:
        while otherwise and not (mine := created(folder)):
            folder = otherwise()
        yield make_folder(folder)
    except BaseException:
        if mine and not worth_keeping(folder):
            shutil.rmtree(folder, ignore_errors=True)
        for own in parents:
            with contextlib.suppress(OSError):  # it holds something
                own.rmdir()
        raise


def worth_keeping(folder: Path) -> bool:
    """Whether a run folder holds a result, or a checkpoint to continue from."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(not any(path.match(note) for note in NOTES) for path in files)


def newest_run(project: Path, *, finished: bool = True, holding: str = "recipe.yaml") -> Path:
    """The newest finished (or unfinished) training run that holds a file.

    Raises:
        UserError: there is none.
    """
    runs = [path.parent for path in (project / "train").glob("*/recipe.yaml")]
    runs = [run for run in runs if (run / FINISHED).exists() == finished and (run / holding).exists()]
    if not runs:
        state, hint = ("finished", "train one with `python train.py`, or name a checkpoint with --weights FILE")
        if not finished:
            state, hint = ("unfinished", "name the run folder, or start a new run without --resume")
        raise UserError(f"no {state} training run", where=project / "train", hint=hint)
    marker = FINISHED if finished else "recipe.yaml"
    return max(runs, key=lambda run: (run / marker).stat().st_mtime_ns)


def newest_detector(project: Path) -> Path:
    """The detector of the newest finished run that trained one; where there is none, the one that ships."""
    return newest_best(project, "detect") or said(project, "a detector", shipped("detector")[:1])[0]


def newest_segmenter(project: Path) -> Path:
    """The segmenter of the newest finished run that trained one.

    Raises:
        UserError: there is none.
    """
    if found := newest_best(project, "segment"):
        return found
    hint = "train one with `python train.py --task segment`, or name a checkpoint with --weights FILE"
    raise UserError("no finished run has a segmenter", where=project / "train", hint=hint)


def newest_model(project: Path) -> Path:
    """The detector or segmenter of the newest finished run that trained one; else the detector that ships."""
    return newest_best(project, "detect", "segment") or newest_detector(project)


def newest_best(project: Path, *tasks: str) -> Path | None:
    """best.pt of the newest finished run of one of some tasks; None where there is no such run."""
    found = [run / BEST for run in finished_runs(project) if (run / BEST).exists() and task_of(run) in tasks]
    return max(found, key=lambda path: (path.parents[1] / FINISHED).stat().st_mtime_ns, default=None)


def finished_runs(project: Path) -> list[Path]:
    """Folders of the training runs that came to their end."""
    return [path.parent for path in (project / "train").glob(f"*/{FINISHED}")]


def task_of(run: Path) -> str:
    """`detect` or `segment`, as the figures of a finished run say."""
    try:
        return str(json.loads((run / FINISHED).read_text()).get("task", "detect"))
    except (OSError, ValueError, AttributeError):
        return ""


def newest_backbones(project: Path) -> list[Path]:
    """All backbone files of the newest finished run; where no run has finished, those that ship.

    Raises:
        UserError: the run has none.
    """
    try:
        run = newest_run(project)
    except UserError:
        return said(project, "a backbone", shipped("backbone"))
    if not (found := sorted((run / WEIGHTS).glob("backbone_*.pt"))):
        raise UserError("holds no backbone_*.pt", where=run, hint="name backbone files with --weights")
    return found


def said(project: Path, what: str, files: list[Path]) -> list[Path]:
    """The files, after a line that they are taken."""
    names, folder = " and ".join(path.name for path in files), files[0].parent.name
    print(f"weights that ship are used, since no finished run in {project / 'train'} has {what}: {names} in {folder}/")
    return files


def located(path: Path, project: Path) -> Path:
    """A weight file as given; one that is not there and has no folder is looked up in the newest run that has it.

    `zoo:NAME` is a file that ships.

    Raises:
        UserError: no such file, and no finished run holds one of this name.
    """
    if str(path).startswith(PREFIX):
        return weight_file(str(path))
    if kind_of(path) is not None or path.name != str(path):
        return path
    try:
        found = newest_run(project, holding=f"{WEIGHTS}/{path}") / WEIGHTS / path
    except UserError:
        what = f"no such file, and no finished run in {project / 'train'} has a weight file of this name"
        raise UserError(what, where=path, hint=f"give a path, as {project / 'train' / 'RUN' / BEST}") from None
    print(f"{path}: {found}")
    return found
