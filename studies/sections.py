"""What a study yaml may ask for: a table of its runs, one over tasks, reports on all runs together."""

from collections.abc import Container, Iterator
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from maps.defaults import MEASURED_ONLY
from utils.config import ROOT, Section


class Gallery(Section):
    """Detections of some methods on the same images, side by side, as in figure 10 of the paper.

    Attributes:
        methods: those of the first seed.
        images: of the split, drawn at random.
        published: whether the data's licence allows that the pictures leave the study's folder.
    """

    methods: tuple[str, ...] = Field(min_length=1)
    images: int = Field(6, ge=1)
    published: bool = False


class Table(Section):
    """What every run's detector is reported with, one row a method.

    Attributes:
        split: what is reported; every choice was made on another.
        measures: keys of the metrics file, the columns.
        reference: method that differences of all others are reported against; None for none.
        pairs: methods whose difference is reported, first minus second.
        least_auc: macro AUC of the last classifier of a backbone below which none of its differences is reported; None
            for none.
        beside: row → metrics file of another program, relative to the yaml; one that is not there is shown as such.
        gallery: None for none.
    """

    split: Literal["val", "test"] = "test"
    measures: tuple[str, ...] = Field(("map", "map50", "map75"), min_length=1)
    reference: str | None = None
    pairs: tuple[tuple[str, str], ...] = ()
    least_auc: float | None = Field(None, gt=0.5, lt=1)
    beside: dict[str, Path] = Field(default_factory=dict)
    gallery: Gallery | None = None


class Report(Section):
    """What `val.py` reports of all runs together; the keys are its flags.

    Attributes:
        kind: accuracy or localise.
        runs: patterns of the names of the runs that it covers, METHOD_seedN.
        files: patterns of backbone files in every run's weights.
        data: data yaml, relative to the study's; None for that of the runs.
        reference: csv of published accuracies, relative to the study's.
    """

    kind: Literal["accuracy", "localise"]
    runs: tuple[str, ...] = Field(("*",), min_length=1)
    files: tuple[str, ...] = Field(("backbone_*.pt",), min_length=1)
    data: Path | None = None
    task: Literal["val", "test"] | None = None
    bootstrap: int | None = Field(None, ge=0)
    maps: tuple[str, ...] = ()
    percentile: int | Literal["auto"] | None = None
    lime: int | None = Field(None, ge=0)
    regions: bool = False
    claims: bool = False
    explain: str | None = None
    targets: tuple[str, ...] = ()
    images: int | None = Field(None, ge=1)
    stretch: bool = False
    view: Literal["learnt", "pictures"] | None = None
    untrained: int | None = Field(None, ge=1)
    method: tuple[str, ...] = ()
    reference: Path | None = None
    reference_over: Literal["class", "all"] | None = None
    batch_size: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _maps_only(self) -> Self:
        given = self.model_fields_set - {"kind", "runs", "files", "data", "task", "bootstrap", "batch_size"}
        if self.kind == "accuracy" and given:
            raise ValueError(f"{', '.join(sorted(given))}: only with `kind: localise`")
        if self.method and (unused := [name for name in MEASURED_ONLY if name in given]):
            raise ValueError(f"{', '.join(unused)}: not with `method`")
        return self

    def flags(self, folder: Path) -> list[str]:
        """As on val.py's command line, without its files; relative paths start in the folder."""
        words = [f"--{self.kind}"]
        for name, value in self.model_dump(exclude={"kind", "runs", "files"}, exclude_defaults=True).items():
            parts = [] if value is True else value if isinstance(value, tuple) else [value]
            given = [(folder / part).resolve() if name in ("data", "reference") else part for part in parts]
            words += [f"--{name.replace('_', '-')}", *map(shown, given)]
        return words


REPORTED = ("iou", "gt_known")  # what a report on boxes has by seed


class TaskRow(Section):
    """A task on the backbones of a study.

    Attributes:
        methods: what the names of methods begin with, before `_` and the column; of a report, of those that left its
            backbones.
        measure: of the table; with a report a figure of it, `iou` or `gt_known`.
        report: name of a report of kind localise whose rows these are; None: the methods' own figures.
        method: of the report.
        lines: networks of the report, a column each.
    """

    methods: str
    measure: str
    report: str | None = None
    method: str = ""
    lines: tuple[str, ...] = ()


class Tasks(Section):
    """One table over tasks: a row each, a column for each kind of pre-training.

    Attributes:
        differences: pairs of columns whose difference is reported, first minus second.
    """

    columns: tuple[str, ...] = Field(min_length=1)
    differences: tuple[tuple[str, str], ...] = ()
    rows: dict[str, TaskRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        if unknown := {column for pair in self.differences for column in pair} - {*self.columns}:
            raise ValueError(f"differences of {', '.join(sorted(unknown))}, none of {', '.join(self.columns)}")
        for name, row in self.rows.items():
            if row.report and len(row.lines) != len(self.columns):
                raise ValueError(f"{name}: give `lines` as many networks as there are columns")
        return self

    def missing(self, methods: Container[str], reports: Container[str], table: Table | None) -> str | None:
        """The first thing that a row names and a study has not."""
        return next(self._missing(methods, reports, table.measures if table else ()), None)

    def _missing(self, methods: Container[str], reports: Container[str], measures: tuple[str, ...]) -> Iterator[str]:
        for row in self.rows.values():
            wanted = [f"{row.methods}_{column}" for column in self.columns]
            yield from (name for name in wanted if name not in methods)
            if row.report:
                yield from [row.report] * (row.report not in reports)
                yield from [row.measure] * (row.measure not in REPORTED)
            else:
                yield from [row.measure] * (row.measure not in measures)


def shown(word: object) -> str:
    """A word of a command; a path as seen from the project's folder, where it is in there."""
    if isinstance(word, Path) and word.is_relative_to(ROOT):
        return str(word.relative_to(ROOT))
    return str(word)
