"""A study's recipe → its cells: one training run for each method and seed.

A study yaml names a training recipe, seeds, and for each method what it changes in that recipe, as in
configs/studies/table1_sample.yaml.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from utils.config import Recipe, Section, anchor_paths, build, merged, read_yaml
from utils.errors import UserError

FROM = "from"


class StudyYaml(Section):
    """Keys of a study yaml.

    Attributes:
        title: of its table and figure.
        recipe: training recipe, relative to the yaml.
        seeds: every method is trained with each.
        split: what is reported; every choice was made on another.
        measures: keys of the metrics file, the columns.
        changes: laid over the recipe for all methods.
        methods: name → changes; `from: method/backbone_x.pt` takes the weights that another method's run of the same
            seed has left.
        reference: method that differences are told against; None for none.
    """

    title: str
    recipe: Path
    seeds: tuple[int, ...] = Field(min_length=1)
    split: Literal["val", "test"] = "test"
    measures: tuple[str, ...] = ("map", "map50", "map75")
    changes: dict[str, Any] = Field(default_factory=dict)
    methods: dict[str, dict[str, Any]] = Field(min_length=1)
    reference: str | None = None

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("give every seed once")
        if self.reference is not None and self.reference not in self.methods:
            raise ValueError(f"`reference` is none of the methods {', '.join(self.methods)}")
        for method, changes in self.methods.items():
            source = changes.get(FROM)
            if source is not None and str(source).partition("/")[0] not in self.methods:
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
    """

    yaml: Path
    folder: Path
    settings: StudyYaml
    cells: list[Cell]

    def share(self, number: int, of: int) -> list[Cell]:
        """The cells of one of several machines; those that build on each other stay together.

        Args:
            number: from 1.
        """
        sources = {cell.name: cell.source for cell in self.cells}

        def root(name: str) -> str:
            while (source := sources[name]) is not None:
                name = source
            return name

        roots = list(dict.fromkeys(root(cell.name) for cell in self.cells))
        mine = set(roots[number - 1 :: of])
        return [cell for cell in self.cells if root(cell.name) in mine]


def cell_name(method: str, seed: int) -> str:
    """Of a run folder."""
    return f"{method}_seed{seed}"


def read_study(path: Path, project: Path) -> Study:
    """Read a study yaml and check the recipe of every cell.

    Args:
        project: the study's folder is made in it, under the name of the yaml.

    Raises:
        UserError: unreadable, an unknown key here or in a recipe, methods that wait for each other.
    """
    settings = build(StudyYaml, read_yaml(path), path)
    folder = (project / "studies" / path.stem).resolve()
    cells = [make_cell(settings, path, folder, method, seed) for seed in settings.seeds for method in settings.methods]
    return Study(path, folder, settings, list(ordered(cells, path)))


def make_cell(settings: StudyYaml, path: Path, folder: Path, method: str, seed: int) -> Cell:
    """The cell of a method and a seed."""
    base = path.parent / settings.recipe
    values = read_yaml(base)
    anchor_paths(values, base.parent)
    changes = dict(settings.methods[method])
    source, _, file = str(changes.pop(FROM, "")).partition("/")
    for over in (settings.changes, changes):
        anchor_paths(over, path.parent)
        values = merged(values, over)
    if source:
        values |= {"weights": folder / "train" / cell_name(source, seed) / "weights" / file, "baselines": []}
    recipe = build(Recipe, values | {"seed": seed}, f"{path}, method {method}")
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
            raise UserError(f"the methods {names} wait for each other's weights", where=path, mend="correct `from:`")
        yield ready[0]
        done.add(ready[0].name)
        waiting.remove(ready[0])
