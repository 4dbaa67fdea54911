"""A study's recipe → its cells: one training run for each method and seed.

A study yaml names a training recipe, seeds, and for each method what it changes in that recipe, as in
configs/studies/table1_sample.yaml.
"""

import csv
import fnmatch
import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from evaluation.detection_figures import FIGURES
from maps.kinds import MAPS
from studies.sections import Report, Table, Tasks
from training.check import check_names
from utils.config import ROOT, Recipe, Section
from utils.errors import UserError
from utils.names import PathName, checked_name, is_name
from utils.plugins import load
from utils.recipes import anchor_paths, build, merged, read_yaml, without_later
from utils.tables import near
from wsol.methods import METHODS

FROM, BASE = "from", "recipe"  # keys of a method that are no changes
PRETRAINING = {"pretrain", "baselines", "baseline_heads", "cache", "cache_views", "balance"}  # keys about it
ELSEWHERE = {"logger"}  # keys that do not change what a run reaches
# Names of files and folders in a study's folder that reports may not have.
TAKEN = {"readme", "runs", "figure", "gallery", "commands", "train", "val", "values", "logs", "recipes", "reports",
         "measured", "failed", "locks"}  # fmt: skip
RUNS = "runs.csv"  # in a study's folder: a row a run
# Columns without a figure.
WORDS = {"method", "seed", "state", "figure", "learnt", "recipe", "on", "data", "run", "log"}
AGAIN = "publish the study again"  # a hint, where what it left is damaged


class StudyYaml(Section):
    """Keys of a study yaml.

    Attributes:
        title: of its page.
        recipe: training recipe, relative to the yaml.
        seeds: every method is trained with each.
        changes: laid over the recipe for all methods.
        methods: name → changes; `recipe: file.yaml` begins with another training recipe, `from: method/backbone_x.pt`
            takes the weights that another method's run of the same seed has left; the seed takes
            the place of `{seed}` in a path of `init`.
        table: None where nothing is asked of single runs.
        tasks: one table over what was trained for different tasks; None for none.
        reports: name → what is asked of all runs together.
    """

    title: str
    recipe: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    changes: dict[str, Any] = Field(default_factory=dict)
    methods: dict[PathName, dict[str, Any]] = Field(min_length=1)
    table: Table | None = None
    tasks: Tasks | None = None
    reports: dict[PathName, Report] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("give every seed once")
        if not (self.table or self.reports):
            raise ValueError("say with `table` or `reports` what to report of the runs")
        if self.table:
            gallery = self.table.gallery.methods if self.table.gallery else ()
            if unknown := {*gallery, self.table.reference, *chain(*self.table.pairs)} - {*self.methods, None}:
                raise ValueError(f"`table` names {', '.join(map(str, unknown))}, none of {', '.join(self.methods)}")
        if self.tasks and (absent := self.tasks.missing(self.methods, self.reports, self.table)):
            raise ValueError(f"`tasks` names {absent}, which the study does not have")
        names = [cell_name(method, seed) for method in self.methods for seed in self.seeds]
        for name, report in self.reports.items():
            if missing := [pattern for pattern in report.runs if not fnmatch.filter(names, pattern)]:
                raise ValueError(f"report `{name}` names {', '.join(missing)}, but there is no such run")
        if taken := [name for name in self.reports if name.lower() in TAKEN]:
            raise ValueError(f"a report cannot be called {taken[0]}: a file of the study is")
        for method, changes in self.methods.items():
            source = changes.get(FROM)
            name, _, file = str(source).partition("/")
            if source is not None and (name not in self.methods or not is_name(file)):
                raise ValueError(f"`{method}` takes weights from {source}, which is no method/file.pt of this study")
        return self


@dataclass(frozen=True)
class Cell:
    """One training run.

    Attributes:
        recipe: whole and checked; its weights are those of the source.
        source: name of the cell whose weights it takes; None for none.
    """

    method: str
    seed: int
    recipe: Recipe
    source: str | None

    @property
    def name(self) -> str:
        """Of its run folder."""
        return cell_name(self.method, self.seed)


@dataclass(frozen=True)
class Study:
    """All cells in an order in which they can run.

    Attributes:
        folder: where runs and tables go.
        results: the folder in which it is published; None for none.
        published: rows of the runs.csv there, by run; those of the same recipe.
    """

    yaml: Path
    folder: Path
    settings: StudyYaml
    cells: list[Cell]
    results: Path | None = None
    published: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first of the seeds, for pictures of single runs."""
        return self.settings.seeds[0]

    @property
    def split(self) -> str | None:
        """What single runs are judged on; None where they are not."""
        return self.settings.table.split if self.settings.table else None

    @property
    def measures(self) -> tuple[str, ...]:
        """Columns of the table of single runs."""
        return self.settings.table.measures if self.settings.table else ()

    def as_published(self) -> Self:
        """The study with the rows that are published by now."""
        return replace(self, published=read_published(self.results / RUNS, self)) if self.results else self

    def share(self, number: int = 1, of: int = 1, methods: Sequence[str] | None = None) -> list[Cell]:
        """The cells of one of several machines; those that build on each other stay together.

        Args:
            number: from 1.
            methods: only theirs; all, if None.

        Raises:
            UserError: a method that the study does not have.
        """
        self.check_names("method", methods or (), self.settings.methods)
        sources = {cell.name: cell.source for cell in self.cells}

        def root(name: str) -> str:
            while (source := sources[name]) is not None:
                name = source
            return name

        roots = list(dict.fromkeys(root(cell.name) for cell in self.cells))
        mine = set(roots[number - 1 :: of])
        return [
            cell for cell in self.cells if root(cell.name) in mine and cell.method in (methods or self.settings.methods)
        ]

    def check_names(self, kind: str, names: Sequence[str], known: Collection[str]) -> None:
        """Refuse names of methods, or reports, that the study does not have.

        Raises:
            UserError: it has no such one.
        """
        for name in names:
            if name not in known:
                hint = near(name, known) or f"{kind}s: {', '.join(known) or 'none'}"
                raise UserError(f"no {kind} `{name[:60]}` in the study", where=f"{self.yaml}: --{kind}s", hint=hint)


def cell_name(method: str, seed: int) -> str:
    """Of a run folder."""
    return f"{method}_seed{seed}"


def read_study(path: Path, project: Path, results: Path | None = None, imports: Sequence[Path] = ()) -> Study:
    """Read a study yaml and check the recipe of every cell.

    Args:
        project: the study's folder is made in it, under the name of the yaml.
        results: where an earlier start may have published: what it finished under the same recipe is not run again.
        imports: python files that all recipes import, in place of their own.

    Raises:
        UserError: unreadable, an unknown key here or in a recipe, methods that wait for each other, weights that no
            method will leave, a report on maps that there are not.
    """
    checked_name(path.stem, str(path))
    settings = build(StudyYaml, read_yaml(path), path)
    folder = (project / "studies" / path.stem).resolve()
    if imports:
        changes = settings.changes | {"imports": [own.resolve() for own in imports]}
        settings = settings.model_copy(update={"changes": changes})
    made = [make_cell(settings, path, folder, method, seed) for seed in settings.seeds for method in settings.methods]
    check_asked(settings, path)
    cells = list(ordered(made, path))
    check_sources(cells, path)
    return Study(path, folder, settings, cells, results / path.stem if results else None).as_published()


def check_asked(settings: StudyYaml, path: Path) -> None:
    """Refuse before the first run what a table or a report would ask for in vain.

    Raises:
        UserError: there is no such figure of a detector, no such map, or no such way to find boxes.
    """
    for measure in settings.table.measures if settings.table else ():
        FIGURES.pick(measure, f"{path}, table")
    for name, report in settings.reports.items():
        for kind in report.maps:
            MAPS.pick(kind, f"{path}, report {name}")
        for method in report.method if report.method != ("all",) else ():
            METHODS.choose(method, f"{path}, report {name}")


def read_published(path: Path, study: Study) -> dict[str, dict[str, str]]:
    """Rows of a runs.csv whose run was finished under the recipe that it has now, by the name of the run.

    Raises:
        UserError: it is no table of runs.
    """
    wanted = digests(study.cells, study.split)
    return {name: row for name, row in done_rows(path).items() if row.get("recipe") == wanted.get(name, "")}


def done_rows(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a runs.csv whose run was finished, by the name of the run.

    Raises:
        UserError: it is no table of runs.
    """
    return {cell_name(row["method"], int(row["seed"])): row for row in run_rows(path) if row["state"] == "done"}


def run_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a runs.csv, of which every figure is a number or empty; none where there is no such file.

    Raises:
        UserError: it is no table of runs.
    """
    try:
        rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
        for row in rows:
            int(row["seed"])
            for figure in row.keys() - WORDS:
                float(row[figure] or 0)
            if missing := next((name for name in ("method", "state") if not row[name]), None):
                raise KeyError(missing)
    except (KeyError, ValueError, TypeError) as error:
        hint = "restore it, or publish into another folder"
        raise UserError(f"is no table of runs ({error})", where=path, hint=hint) from None
    return rows


def digests(cells: Sequence[Cell], split: str | None) -> dict[str, str]:
    """Of each cell's recipe and of its source's, by name: the same on every machine; cells after their sources.

    Args:
        split: what they are judged on; the digests of `test` are those of before it was part of them.
    """
    judged = {} if split in (None, "test") else {"split": split}
    found: dict[str, str] = {}
    for cell in cells:
        unused = None if cell.recipe.pretrains else PRETRAINING
        left_out = ELSEWHERE | (unused or set())
        values = cell.recipe.model_dump(mode="json", exclude=left_out) | judged
        values["source"] = found.get(cell.source or "")
        without_later(values)
        if cell.source and cell.recipe.weights:
            values["weights"] = cell.recipe.weights.name
        if values.get("init"):  # of another study: wherever its folder is
            values["init"] = str(values["init"]).rpartition("/studies/")[2]
        text = json.dumps(values, sort_keys=True).replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../")
        found[cell.name] = hashlib.sha256(text.encode()).hexdigest()[:12]
    return found


def make_cell(settings: StudyYaml, path: Path, folder: Path, method: str, seed: int) -> Cell:
    """The cell of a method and a seed."""
    changes = dict(settings.methods[method])
    base = path.parent / str(changes.pop(BASE, None) or settings.recipe)
    values = read_yaml(base)
    anchor_paths(values, base.parent)
    source, _, file = str(changes.pop(FROM, None) or "").partition("/")
    for over in (settings.changes, changes):
        anchor_paths(over, path.parent)
        values = merged(values, over)
    if values.get("init"):
        values["init"] = str(values["init"]).replace("{seed}", str(seed))
    if source:
        values |= {"weights": folder / "train" / cell_name(source, seed) / "weights" / file, "baselines": []}
    where = f"{path}, method {method}"
    recipe = build(Recipe, values | {"seed": seed}, where)
    load(recipe.imports)
    check_names(recipe, where)
    return Cell(method, seed, recipe, cell_name(source, seed) if source else None)


def ordered(cells: list[Cell], path: Path) -> Iterator[Cell]:
    """The cells, each after the one whose weights it takes.

    Raises:
        UserError: some wait for each other.
    """
    waiting, done = list(cells), set[str]()
    while waiting:
        ready = [cell for cell in waiting if cell.source is None or cell.source in done]
        if not ready:
            names = ", ".join(sorted({cell.method for cell in waiting}))
            raise UserError(f"the methods {names} wait for each other's weights", where=path, hint="correct `from:`")
        yield ready[0]
        done.add(ready[0].name)
        waiting.remove(ready[0])


def check_sources(cells: list[Cell], path: Path) -> None:
    """Refuse before the first run what a later one would look for in vain.

    Raises:
        UserError: the weights that a method takes are not among those that the other leaves.
    """
    recipes = {cell.name: cell.recipe for cell in cells}
    for cell in cells:
        if cell.source is None or cell.recipe.weights is None:
            continue
        file, left = cell.recipe.weights.name, [f"backbone_{name}.pt" for name in recipes[cell.source].backbones]
        if file not in left:
            hint = f"give {' or '.join(left)}" if left else "take them from a method that pre-trains"
            raise UserError(f"method {cell.method}: {cell.source} does not leave {file}", where=path, hint=hint)
