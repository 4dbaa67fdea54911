"""How a training run begins: which recipe, in which folder, on what; from train.py and from Python alike."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.description import channels_of
from models.backbones import make_backbone
from training import inputs
from training.check import check_names, check_processes, follows, show_cuts
from training.console_log import noted
from training.fabric import first_speaks, make_fabric, settle
from training.finished import Run
from training.loggers import check_loggers
from training.ranks import watched
from training.run import carry_out, clear_finished
from training.unread import unread
from utils.config import PRESETS, SAMPLE_RECIPE, Recipe
from utils.console import console, hushed
from utils.errors import UserError
from utils.flags import keys_of, spelling
from utils.names import checked_name
from utils.paths import is_file
from utils.recipes import load_recipe, refuse_differences
from utils.runs import BEST, FINISHED, newest_run
from utils.stop import Stop
from utils.tables import near


@dataclass(frozen=True)
class Begun:
    """A run that may begin.

    Attributes:
        recipe: checked, but for the data.
        folder: of the run to continue with, None for a new one.
        accept_changed: whether it may continue with other data than it began with.
    """

    recipe: Recipe
    folder: Path | None
    accept_changed: bool = False


def train(
    recipe: Recipe | str | Path | None = None,
    *,
    preset: str | None = None,
    resume: str | Path | bool = False,
    project: str | Path = "runs",
    name: str = "exp",
    download: bool = False,
    accept_changed_data: bool = False,
    quiet: bool = False,
    **changes: Any,
) -> Run:
    """Cascade pre-training, baselines, detector: what train.py does, with its flags as keywords.

    Seeds python, numpy and torch. In the main thread Ctrl-C and SIGTERM save the run before it ends; other threads
    get no signals.

    Args:
        recipe: what train.py takes as --recipe, or one that a program has put together
            [configs/sample.yaml unless data or preset is given].
        preset: author or marquez; recipe and changes override it.
        resume: the run folder to continue with, or True for the newest unfinished one in project.
        project: where run folders are made: project/train/name.
        name: name of the run folder; a number is added if it is taken.
        download: fetch what the data yaml names and is not there yet.
        accept_changed_data: a resumed run continues though its data have changed.
        quiet: say nothing; logs are written all the same.
        changes: keys of the recipe, called as the flags are: `epochs=3, pretrain_epochs=1, data="mine/data.yaml"`.

    Returns:
        The finished run.

    Raises:
        UserError: what the command says in one line: a key, a value, the data, the run to continue with are not right.
        Stopped: by a signal; `resume` continues with it.
    """
    source, project = Path(recipe) if isinstance(recipe, str) else recipe, Path(project)
    if not isinstance(source, Path | Recipe | None):
        what = f"{type(source).__name__} is neither a path nor a Recipe"
        raise UserError(what, where="recipe", hint="give keys by their names: train(data=…, epochs=…)")
    with hushed(quiet), noted():
        begun = choose(
            source,
            keys_of(changes),
            preset=preset,
            resume=resume,
            accept_changed=accept_changed_data,
            project=project,
        )
        first_speaks(begun.recipe)
        show_plan(begun.recipe)
        return Run.open(begin(begun, project=project, name=name, download=download))


def choose(
    source: Recipe | Path | None,
    given: Mapping[str, Any],
    *,
    preset: str | None = None,
    resume: str | Path | bool = False,
    accept_changed: bool = False,
    project: Path,
) -> Begun:
    """The recipe of a new run, or that of the run to continue with.

    Args:
        given: recipe key to value, over the recipe.
        resume: a run folder, or True for the newest unfinished one of the project.
        accept_changed: the run to continue with may do so though its data have changed.

    Raises:
        UserError: a key or value is wrong, or the run to continue with is finished or has another recipe; there is
            none whose data could have changed.
    """
    if not resume:
        if accept_changed:
            raise UserError("is for --resume", where="--accept-changed-data", hint="leave it out, or add --resume")
        if preset is not None and preset not in PRESETS:
            hint = f"{near(preset, PRESETS)}there is {', '.join(PRESETS)}"
            raise UserError(f"no preset `{preset}`", where="--preset", hint=hint)
        if source is None and "data" not in given and preset is None:
            source = SAMPLE_RECIPE
        return Begun(load_recipe(source, given, spelling(), PRESETS[preset] if preset else None), None)
    if source or preset:
        raise UserError("a resumed run keeps its recipe", where="--resume", hint="leave --recipe and --preset out")
    folder = newest_run(project, finished=False) if resume is True else Path(resume)
    if is_file(folder / FINISHED):
        clear_finished(folder)
        hint = "start a new one without --resume"
        if (folder / BEST).exists():
            hint += f"; --init {shlex.quote(str(folder / BEST))} --cl-splits 0 begins with its weights"
        raise UserError("this run is finished", where=folder, hint=hint)
    if not is_file(folder / "recipe.yaml"):
        hint = "give one that holds a recipe.yaml, or --resume alone for the newest"
        raise UserError("is not the folder of a training run", where=folder, hint=hint)
    recipe = load_recipe(folder / "recipe.yaml", {})
    wanted = load_recipe(folder / "recipe.yaml", given, spelling())
    moved: dict[str, Any] = {"logger": wanted.logger}  # and figures may go elsewhere from now on
    moved |= {key: getattr(wanted, key) for key in ("weights", "init") if inputs.same_names(recipe, wanted, key)}
    moved |= {"data": wanted.data, "pretrain": inputs.moved_data(recipe, wanted)}
    recipe = recipe.model_copy(update=moved)  # the same files in another place are the same
    refuse_differences(recipe, wanted, folder / "recipe.yaml", "leave these flags out, or start a new run")
    return Begun(recipe, folder, accept_changed)


def show_plan(recipe: Recipe) -> None:
    """Print what each sub-module will hold and cost, and what is not looked at; refuses a k that is too large."""
    check_names(recipe)
    check_loggers(recipe)
    backbone = make_backbone(recipe.backbone, recipe.width, channels_of(recipe.data))
    if recipe.pretrains:
        show_cuts(recipe, backbone)
        stage, what = recipe.stage, {"auto": "objects or pictures"}.get(recipe.pretrain.source, recipe.pretrain.source)
        side = "" if recipe.pretrain.source == "auto" else f", {stage.imgsz} px"
        console.print(
            f"backbone: {what} of {(stage.data or recipe.data).name}{side}, epochs a stage {epochs_of(recipe)}"
        )
        size = f"{recipe.data.name}, {recipe.imgsz} px"
        if kind := follows(recipe, backbone.taps):
            head = recipe.fcn if kind == "segmenter" else recipe.detector
            console.print(f"{kind}: {head}, {size}, epochs {recipe.train.epochs}")
    for line in [] if recipe.pretrain_only else unread(recipe):
        console.print(line)


def epochs_of(recipe: Recipe) -> str:
    """Of a stage: `50`, or those of the first and the last, `50–100`."""
    first, last = recipe.stage.epochs, recipe.longest
    return f"{first}" if last == first or recipe.init_freeze else f"{first}–{last}"


def begin(begun: Begun, *, project: Path, name: str, download: bool) -> Path:
    """Train to the end; the run folder.

    Raises:
        UserError, Stopped: as in train.
    """
    checked_name(name, "--name")
    recipe = settle(begun.recipe)
    refuse_several(recipe)
    fabric = make_fabric(recipe)
    with Stop().listening() as stop, watched(fabric, stop):
        return carry_out(
            recipe,
            fabric,
            stop,
            project=project,
            name=name,
            folder=begun.folder,
            download=download,
            accept_changed=begun.accept_changed,
        )


def rehearse(begun: Begun, *, download: bool) -> None:
    """Check all that a run would read, and make nothing: the end of `train.py --dry-run`.

    Raises:
        UserError: as in train, for everything that shows before the first step.
    """
    recipe = settle(begun.recipe)
    check_processes(recipe, recipe.devices * recipe.num_nodes)
    inputs.rehearse(recipe, folder=begun.folder, download=download, accept_changed=begun.accept_changed)


def refuse_several(recipe: Recipe) -> None:
    """Refuse several processes where there is no script for the others to run.

    Raises:
        UserError: the recipe asks for them in a notebook or an interactive session.
    """
    if recipe.devices * recipe.num_nodes > 1 and not hasattr(sys.modules["__main__"], "__file__"):
        what = f"{recipe.devices * recipe.num_nodes} processes cannot start from a notebook"
        raise UserError(what, where="--devices", hint="start train.py, or a script of your own")
