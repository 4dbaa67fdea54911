"""Run folders: runs/<kind>/exp, exp2, exp3…; a finished training run holds metrics.json."""

from pathlib import Path

from utils.errors import UserError
from utils.files import first_free, make_folder
from utils.names import checked_name

FINISHED = "metrics.json"
BEST = "weights/best.pt"


def new_run(project: Path, kind: str, name: str = "exp") -> Path:
    """Create the next free run folder, project/kind/name{,2,3…}.

    Raises:
        UserError: it cannot be called so, or be created.
    """
    return make_folder(first_free(lambda candidate: project / kind / candidate, checked_name(name, "--name")))


def newest_run(project: Path, *, finished: bool = True, holding: str = "recipe.yaml") -> Path:
    """The newest finished (or unfinished) training run that holds a file.

    Raises:
        UserError: there is none.
    """
    runs = [path.parent for path in (project / "train").glob("*/recipe.yaml")]
    runs = [run for run in runs if (run / FINISHED).exists() == finished and (run / holding).exists()]
    if not runs:
        state, mend = ("finished", "train one with `python train.py`, or name a checkpoint with --weights FILE")
        if not finished:
            state, mend = ("unfinished", "name the run folder, or start a new run without --resume")
        raise UserError(f"no {state} training run", where=project / "train", mend=mend)
    marker = FINISHED if finished else "recipe.yaml"
    return max(runs, key=lambda run: (run / marker).stat().st_mtime_ns)


def newest_detector(project: Path) -> Path:
    """The detector of the newest finished run that trained one.

    Raises:
        UserError: there is none.
    """
    return newest_run(project, holding=BEST) / BEST
