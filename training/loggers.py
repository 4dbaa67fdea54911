"""Where the figures of each epoch go besides the CSV files: TensorBoard, Weights & Biases, MLflow; through Fabric.

To add one, write a function that gives a Logger of Lightning Fabric for a run, and add a LoggerEntry to LOGGERS.
"""

import importlib.util
import json
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from utils.config import Recipe
from utils.console import console
from utils.errors import UserError
from utils.files import json_text, write_text
from utils.tables import Entry, Table

PROJECT = "cascade-yolo"  # what W&B and MLflow file the runs under, unless their own variables say otherwise
IDS = "loggers.json"  # in the run folder: under which id a service knows the run; a resumed run continues with it
LIGHTNING = "pytorch-lightning==2.6.6"  # whose loggers of W&B and MLflow Fabric takes; of Fabric's own version


@dataclass(frozen=True)
class LoggerEntry(Entry):
    """A place for figures.

    Attributes:
        make: run folder, id that the run has there or None → a Logger of Fabric; None where nothing is to be opened.
        packages: module → what pip calls its distribution; all are needed.
        end: logger, `success` or `failed` → nothing; called once, at the end.
    """

    make: Callable[[Path, str | None], Any] | None
    packages: Mapping[str, str] = field(default_factory=dict)
    end: Callable[[Any, str], None] = lambda logger, status: logger.finalize(status)


def tensorboard(folder: Path, _: str | None) -> Any:
    """Event files in the run folder."""
    from lightning_fabric.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="tensorboard", version="")


def wandb(folder: Path, known: str | None) -> Any:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables are its own affair."""
    from pytorch_lightning.loggers import WandbLogger

    project = os.environ.get("WANDB_PROJECT", PROJECT)
    number = known or uuid.uuid4().hex[:12]
    return WandbLogger(folder.name, folder, version=number, project=project, resume="allow")


def mlflow(folder: Path, known: str | None) -> Any:
    """A run of MLflow: at MLFLOW_TRACKING_URI, or in mlflow.db of the folder of the runs."""
    from pytorch_lightning.loggers import MLFlowLogger

    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve().parents[1] / 'mlflow.db'}"
    return MLFlowLogger(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), folder.name, place, run_id=known)


def end_wandb(logger: Any, status: str) -> None:
    """Write or send what is left: Lightning leaves that to the end of the process."""
    logger.experiment.finish(exit_code=0 if status == "success" else 1)


LOGGERS = Table(
    "logger",
    "--logger",
    (
        LoggerEntry("csv", "CSV files in the run folder, which are always written", None),
        LoggerEntry("tensorboard", "TensorBoard", tensorboard),
        LoggerEntry("wandb", "Weights & Biases", wandb, {"pytorch_lightning": LIGHTNING, "wandb": "wandb"}, end_wandb),
        LoggerEntry("mlflow", "MLflow", mlflow, {"pytorch_lightning": LIGHTNING, "mlflow": "mlflow"}),
    ),
)


def check_loggers(recipe: Recipe) -> None:
    """Refuse loggers that there are not, or whose packages are not installed.

    Raises:
        UserError: names the logger, and the command that installs what it needs.
    """
    for name in recipe.logger:
        entry = LOGGERS.pick(name)
        if missing := [own for module, own in entry.packages.items() if importlib.util.find_spec(module) is None]:
            what = f"{entry.title} needs packages that are not installed: {', '.join(missing)}"
            raise UserError(what, where=f"--logger {name}", hint=f"pip install {' '.join(missing)}")


@dataclass
class Service:
    """An open logger; one that fails is left out from then on, and the run continues."""

    entry: LoggerEntry
    logger: Any
    works: bool = True

    def do(self, what: str, *arguments: Any) -> None:
        """Call a method of the logger, or the entry's `end`."""
        if not self.works:
            return
        try:
            if what == "end":
                self.entry.end(self.logger, *arguments)
            else:
                getattr(self.logger, what)(*arguments)
        except Exception as error:  # each service has types of its own, and none of them may end a training
            self.works = False
            reason = (str(error) or type(error).__name__).splitlines()[0]
            console.print(f"{self.entry.title} fails and gets no more figures: {reason}")


Services = Sequence[Service]


@contextmanager
def opened(recipe: Recipe, folder: Path) -> Iterator[Services]:
    """The loggers of a run, on its first process; closed with whether the run succeeded."""
    if console.quiet:
        yield ()
        return
    services = [open_one(LOGGERS[name], recipe, folder) for name in recipe.logger if LOGGERS[name].make]
    status = "failed"
    try:
        yield services
        status = "success"
    finally:
        for service in services:
            service.do("end", status)


def open_one(entry: LoggerEntry, recipe: Recipe, folder: Path) -> Service:
    """One of them; the recipe goes to those that file runs by it.

    Raises:
        UserError: the service does not take the run.
    """
    assert entry.make
    path = folder / IDS
    known = json.loads(path.read_text()) if path.exists() else {}
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    try:
        logger = entry.make(folder, known.get(entry.name))
        if entry.packages:
            logger.log_hyperparams(recipe.model_dump(mode="json"))
            write_text(path, json_text(known | {entry.name: (logger.version or logger.run_id)}))
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        hint = "see its documentation on how to sign in or to stay offline, or leave it out"
        raise UserError(
            f"{entry.title} refuses the run ({reason})", where=f"--logger {entry.name}", hint=hint
        ) from error
    return Service(entry, logger)
