"""Whether a run's backbone had learnt anything when its detector began: without that no comparison says a thing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from evaluation.classification import METRICS
from evaluation.learnt import judged_by, outcome, taken, why_not
from studies.recipe import Cell, Study
from studies.runs import run_folder
from utils.files import read_json
from utils.runs import FINISHED
from utils.text import NOTHING

FEW = "too few"  # in the column `learnt` of runs.csv


@dataclass(frozen=True)
class Lesson:
    """The last classifier of the blocks that a detector took over.

    Attributes:
        figure: name of the figure that decides, `accuracy` or `auc`; `unknown` where nobody can say any more.
        value: of it, on the validation images of pre-training.
        learnt: whether it is above chance and the majority class by its interval.
        auc: macro AUC on the same images; None in a runs.csv of before it was kept.
        few: there are too few of these images, or patients, for such an interval.
        least: the highest of chance, majority class and grey border; None in a runs.csv of before it was kept.
    """

    COLUMNS: ClassVar = ("figure", "pretrained", "learnt", "pretrained_auc", "to_exceed")  # of runs.csv

    figure: str
    value: float
    learnt: bool
    auc: float | None = None
    few: bool = False
    least: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, str]) -> "Lesson | None":
        """From a row of runs.csv."""
        if not row.get("figure"):
            return None
        if row["figure"] == UNKNOWN.figure:
            return UNKNOWN
        auc, least = (float(row[name]) if row.get(name) else None for name in ("pretrained_auc", "to_exceed"))
        return cls(row["figure"], float(row["pretrained"]), row["learnt"] == "yes", auc, row["learnt"] == FEW, least)

    @classmethod
    def at(cls, stage: Mapping[str, Any], figure: str) -> "Lesson":
        """From the figures of a stage, of which one decides."""
        least = max((stage[name] for name in ("chance", "majority", "border") if name in stage), default=None)
        return cls(figure, stage[figure], bool(stage.get("learnt")), stage.get("auc"), bool(stage.get("few")), least)

    def cells(self) -> list[str]:
        """For a row of runs.csv."""
        if self == UNKNOWN:
            return [self.figure, *[""] * (len(self.COLUMNS) - 1)]
        auc, least = ("" if own is None else f"{own:.6f}" for own in (self.auc, self.least))
        return [self.figure, f"{self.value:.6f}", "yes" if self.learnt else FEW if self.few else "no", auc, least]

    @property
    def figures(self) -> dict[str, float]:
        """As a stage has them."""
        return {self.figure: self.value, "learnt": float(self.learnt), "few": float(self.few)}

    def why_not(self, least_auc: float | None = None) -> str | None:
        """The reason for no verdict, or None.

        Args:
            least_auc: what a study asks for besides.
        """
        if self == UNKNOWN:
            return "what the classifiers learnt is not recorded"
        if (why := why_not(self.figures, self.figure == judged_by(True))) or least_auc is None:
            return why
        if self.auc is None:
            return f"the AUC of the classifiers is not recorded, and {least_auc:g} is asked for"
        return None if self.auc >= least_auc else f"the classifiers reached an AUC of {self.auc:.3f}, not {least_auc:g}"


UNKNOWN = Lesson("unknown", 0.0, learnt=False)


def maker_of(study: Study, cell: Cell) -> Cell:
    """The cell whose run made the backbone that a cell begins with, perhaps its own."""
    return next(own for own in study.cells if own.name == cell.source) if cell.source else cell


def lesson_of(study: Study, cell: Cell) -> Lesson | None:
    """What the backbone of a cell knew; None where it starts from random weights, or nothing is known of its file."""
    maker = maker_of(study, cell)
    path = run_folder(study, maker) / FINISHED
    if not path.exists():
        return None
    content = read_json(path, "train it again")
    if not maker.recipe.pretrains:
        own = content.get("lesson")  # of a file from elsewhere
        return Lesson.at(own, own["judged_by"]) if own else None
    name = cell.recipe.weights.stem.removeprefix("backbone_") if cell.recipe.weights else maker.recipe.backbones[0]
    stages = taken(content["pretrain"][name], cell.recipe.reuse_upto)
    return Lesson.at(stages[-1], content["judged_by"])


def lesson_text(lessons: Sequence[Lesson | None]) -> str:
    """The figure of several runs for a table: `top-1 0.931 (0.119)`, what it has to exceed; and any doubt."""
    known = [own for own in lessons if own not in (None, UNKNOWN)]
    if not known:
        return NOTHING
    mean = sum(own.value for own in known) / len(known)
    doubt = next((f", {outcome(own.figures)}" for own in known if not own.learnt), "")
    least = max((own.least for own in known if own.least is not None), default=None)
    beside = "" if least is None else f" ({least:.3f})"
    return f"{METRICS[known[0].figure].short} {mean:.3f}{beside}{doubt}"


def reason(lessons: Sequence[Lesson | None], least_auc: float | None = None) -> str | None:
    """Why the runs with these backbones prove nothing, or None; `least_auc` is what the study asks for besides."""
    found = (own.why_not(least_auc) for own in lessons if own is not None)
    return next((why for why in found if why), None)
