"""Run folders: runs/<kind>/exp, exp2, exp3…; a finished training run holds metrics.json."""

from pathlib import Path

from utils.errors import UserError
from utils.files import first_free, make_folder

FINISHED = "metrics.json"


def new_run(project: Path, kind: str, name: str = "exp") -> Path:
    """Create the next free run folder, project/kind/name{,2,3…}."""
    return make_folder(first_free(lambda candidate: project / kind / candidate, name))


def training_runs(project: Path, *, finished: bool) -> list[Path]:
    """Training runs that are finished, or not yet, the newest last."""
    runs = [path.parent for path in (project / "train").glob("*/recipe.yaml")]
    runs = [run for run in runs if (run / FINISHED).exists() == finished]
    marker = FINISHED if finished else "recipe.yaml"
    return sorted(runs, key=lambda run: (run / marker).stat().st_mtime_ns)


def newest_run(project: Path, *, finished: bool = True) -> Path:
    """The newest finished (or unfinished) training run.

    Raises:
        UserError: there is none.
    """
    runs = training_runs(project, finished=finished)
    if not runs:
        state, mend = ("finished", "train one with `python train.py`, or name a checkpoint with --weights FILE")
        if not finished:
            state, mend = ("unfinished", "name the run folder, or start a new run without --resume")
        raise UserError(f"no {state} training run", where=project / "train", mend=mend)
    return runs[-1]
