"""Whether a run's backbone had learnt anything when its detector began: without that no comparison says a thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from evaluation.classification import METRICS
from evaluation.learnt import judged_by, why_not
from studies.recipe import Cell, Study
from studies.runs import run_folder
from utils.files import read_json
from utils.runs import FINISHED

NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Lesson:
    """The last classifier of the blocks that a detector took over.

    Attributes:
        figure: name of the figure that decides, `accuracy` or `auc`.
        value: of it, on the validation images of pre-training.
        learnt: whether it is above chance and the majority class by its interval.
    """

    COLUMNS: ClassVar = ("figure", "pretrained", "learnt")  # of runs.csv

    figure: str
    value: float
    learnt: bool

    @classmethod
    def of(cls, row: Mapping[str, str]) -> "Lesson | None":
        """From a row of runs.csv."""
        return cls(row["figure"], float(row["pretrained"]), row["learnt"] == "yes") if row.get("figure") else None

    def cells(self) -> list[str]:
        """For a row of runs.csv."""
        return [self.figure, f"{self.value:.6f}", "yes" if self.learnt else "no"]

    @property
    def why_not(self) -> str | None:
        """The reason for no verdict, or None."""
        return why_not({self.figure: self.value, "learnt": float(self.learnt)}, self.figure == judged_by(True))


def lesson_of(study: Study, cell: Cell) -> Lesson | None:
    """What the backbone of a cell knew; None where it starts from random weights, or from a file of elsewhere."""
    cells = {own.name: own for own in study.cells}
    maker = cells[cell.source] if cell.source else cell
    path = run_folder(study, maker) / FINISHED
    if not maker.recipe.pretrains or not path.exists():
        return None
    content = read_json(path, "train it again")
    name = cell.recipe.weights.stem.removeprefix("backbone_") if cell.recipe.weights else maker.recipe.backbones[0]
    stages = taken(content["pretrain"][name], cell.recipe.reuse_upto)
    figure = content["judged_by"]
    return Lesson(figure, stages[-1][figure], bool(stages[-1].get("learnt")))


def taken(stages: Sequence[dict[str, float]], upto: str | None) -> Sequence[dict[str, float]]:
    """The stages whose blocks were taken over, all of them where no cut comes before the block."""
    number = int(upto.removeprefix("b")) if upto else None
    return [own for own in stages if number is None or own["cut"] <= number] or stages


def told(lessons: Sequence[Lesson | None]) -> str:
    """The figure of several runs for a table: `top-1 0.931`, with `learnt nothing` where one did not."""
    known = [own for own in lessons if own is not None]
    if not known:
        return "–"
    mean = sum(own.value for own in known) / len(known)
    nothing = "" if all(own.learnt for own in known) else ", learnt nothing"
    return f"{METRICS[known[0].figure].short} {mean:.3f}{nothing}"


def reason(lessons: Sequence[Lesson | None]) -> str | None:
    """Why the runs with these backbones prove nothing, or None."""
    return next((own.why_not for own in lessons if own is not None and own.why_not), None)
