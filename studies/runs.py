"""The runs of a study: where their files are, how far they are, and the commands that take them further."""

from enum import StrEnum
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from studies.recipe import Cell, Study
from studies.sections import shown
from utils.config import ROOT, Recipe
from utils.errors import UserError
from utils.files import read_json, sha256_of
from utils.plugins import FLAG
from utils.recipes import differences, load_recipe
from utils.runs import BEST, FINISHED

AUTO = "auto"


class State(StrEnum):
    """How far a cell is."""

    OPEN = "not run"
    BEGUN = "interrupted"
    TRAINED = "trained"
    DONE = "done"
    FAILED = "failed"


def run_folder(study: Study, cell: Cell) -> Path:
    """Of the training run."""
    return study.folder / "train" / cell.name


def values_file(study: Study, cell: Cell) -> Path:
    """Metrics on the split that is reported."""
    return study.folder / "values" / f"{cell.name}.json"


def recipe_file(study: Study, cell: Cell) -> Path:
    """The recipe that the cell is trained by."""
    return study.folder / "recipes" / f"{cell.name}.yaml"


def log_file(study: Study, cell: Cell) -> Path:
    """All that the cell's processes printed."""
    return study.folder / "logs" / f"{cell.name}.txt"


def page_file(study: Study, name: str) -> Path:
    """Of a report on all runs."""
    return study.folder / f"{name}.md"


def figures_file(study: Study, name: str) -> Path:
    """Of a report, for programs."""
    return study.folder / f"{name}.json"


def here_or_published(study: Study, path: Path) -> Path:
    """A file of the study's folder, or its published copy where it is not on this machine."""
    return path if path.exists() or study.results is None else study.results / path.relative_to(study.folder)


def record_file(study: Study, name: str) -> Path:
    """The command that a report was written by, once it is."""
    return study.folder / "reports" / f"{name}.txt"


def reported(study: Study, name: str) -> list[Cell]:
    """The cells whose networks are in a report that was written."""
    record = record_file(study, name)
    words = record.read_text() if record.exists() else ""
    return [cell for cell in study.cells if f" {shown(run_folder(study, cell))}/" in words]


def in_report(study: Study, name: str) -> list[Cell]:
    """The cells that a report is on, once they are trained."""
    patterns = study.settings.reports[name].runs
    return [cell for cell in study.cells if any(fnmatch(cell.name, pattern) for pattern in patterns)]


def tabled(study: Study) -> set[str | None]:
    """Reports whose figures are in the table over tasks."""
    return {row.report for row in study.settings.tasks.rows.values()} if study.settings.tasks else set()


def is_judged(study: Study, cell: Cell) -> bool:
    """Whether the table has a row for it: whether it trains a detector."""
    return study.settings.table is not None and not cell.recipe.pretrain_only


def figures(study: Study, cell: Cell) -> dict[str, float | None]:
    """The measures of a cell, as published or as judged here on the study's split; None where one is not defined."""
    here, row = judged_here(study, cell), study.published.get(cell.name, {})
    there = {name: float(row[name]) if row[name] else None for name in study.measures if name in row}
    return there | {name: here[name] for name in study.measures if name in here}


def pictures(study: Study, cell: Cell) -> str:
    """The digest of the pictures that a cell's detector was judged on; empty where nobody can say any more."""
    row = study.published.get(cell.name, {})
    return judged_here(study, cell).get("found_with", {}).get("data") or row.get("data") or ""


def judged_here(study: Study, cell: Cell) -> dict[str, Any]:
    """What judging a cell on the study's split wrote on this machine; empty where it was not, or on another split."""
    path = values_file(study, cell)
    content: dict[str, Any] = read_json(path, "delete it, so that the run is judged again") if path.exists() else {}
    return content if content.get("split", study.split) == study.split else {}


def state(study: Study, cell: Cell) -> State:
    """How far a cell is, by its files, or by what was published of it."""
    folder, found, judged = run_folder(study, cell), figures(study, cell), is_judged(study, cell)
    trained = (folder / FINISHED).exists()
    known = cell.name in study.published or (bool(found) if judged else trained)
    if known and not (trained and judged and len(found) < len(study.measures)):
        return State.DONE
    if trained:
        return State.TRAINED
    if (study.folder / "failed" / cell.name).exists():
        return State.FAILED
    return State.BEGUN if (folder / "recipe.yaml").exists() else State.OPEN


def lacking(study: Study, cell: Cell) -> Cell | None:
    """The cell whose weights this one takes, where they are not on this machine."""
    if cell.source is None or cell.recipe.weights is None or cell.recipe.weights.exists():
        return None
    return next(own for own in study.cells if own.name == cell.source)


def check_made(study: Study, cell: Cell) -> None:
    """Refuse to mix runs of two versions of a recipe.

    Raises:
        UserError: the cell's run, or its figures where the run is gone, were made under another recipe; says which
            fields.
    """
    check_weights(study, cell)
    folder, values = run_folder(study, cell), values_file(study, cell)
    path = folder / "recipe.yaml"
    if not path.exists():
        path = recipe_file(study, cell)
        if not (values.exists() and path.exists()):
            return
    made = moved(load_recipe(path, {}), cell.recipe)
    free = {key for key in Recipe.model_fields if getattr(cell.recipe, key) == AUTO} | {
        "devices",
        "num_nodes",
        "logger",
    }
    wanted = cell.recipe.model_copy(update={key: getattr(made, key) for key in free})
    if wanted.pretrain.source == AUTO:
        settled = wanted.pretrain.model_copy(update={"source": made.pretrain.source})
        wanted = wanted.model_copy(update={"pretrain": settled})
    if fields := differences(made, wanted):
        left = " and ".join(str(own) for own in (folder, values) if own.exists())
        hint = f"restore the recipe of {study.yaml.name}, or move {left} away"
        raise UserError("; ".join(fields), where=path, hint=hint)


def moved(made: Recipe, wanted: Recipe) -> Recipe:
    """A recipe with the data yamls of another where they are the same ones of this project, whose folder was moved."""

    def own(old: Path | None, new: Path | None) -> Path | None:
        inside = new.relative_to(ROOT).parts if new and new.is_relative_to(ROOT) else ()
        return new if old and inside and old.parts[-len(inside) :] == inside else old

    pretrain = made.pretrain.model_copy(update={"data": own(made.pretrain.data, wanted.pretrain.data)})
    return made.model_copy(update={"data": own(made.data, wanted.data), "pretrain": pretrain})


def check_weights(study: Study, cell: Cell) -> None:
    """Refuse a run that was trained on weights that another method has made anew since.

    Raises:
        UserError: the file that it took differs from the one that is there.
    """
    path, weights = run_folder(study, cell) / FINISHED, cell.recipe.weights
    if cell.source is None or weights is None or not (path.exists() and weights.exists()):
        return
    took = read_json(path, "train it again").get("reused")
    if took and took["sha256"] != sha256_of(weights):
        what = f"{cell.name} was trained on other weights than {cell.source} has now"
        left = f"{run_folder(study, cell)} and {values_file(study, cell)}"
        raise UserError(what, where=weights, hint=f"move {left} away, so that it is trained again")


def commands(study: Study, cell: Cell) -> dict[str, list[str]]:
    """What trains and judges a cell, as one would type it in the project's folder; `resume` continues with it."""
    folder = run_folder(study, cell)
    recipe, values = recipe_file(study, cell), values_file(study, cell)
    found: dict[str, list[str | Path]] = {
        "train": ["python", "train.py", "--recipe", recipe, "--project", study.folder, "--name", cell.name],
        "resume": ["python", "train.py", "--resume", folder, *places(cell.recipe)],
    }
    if (table := study.settings.table) and is_judged(study, cell):
        judged: list[str | Path] = [
            "--data",
            cell.recipe.data,
            "--task",
            table.split,
            "--json",
            values,
            "--project",
            study.folder,
        ]
        mode = "--segment" if cell.recipe.task == "segment" else "--map"
        imports: list[str | Path] = [FLAG, *cell.recipe.imports] if cell.recipe.imports else []
        found["judge"] = ["python", "val.py", mode, "--weights", folder / BEST, *judged, *imports]
    return {name: [shown(word) for word in words] for name, words in found.items()}


def places(recipe: Recipe) -> list[str | Path]:
    """Where the data of a run are now: what it wrote down is of before its project was moved."""
    found = {"--data": recipe.data, "--pretrain-data": recipe.pretrain.data}
    return [word for flag, path in found.items() if path for word in (flag, path)]


def report_weights(study: Study, name: str) -> list[Path]:
    """The networks of a report: those of its runs that are trained, on this machine."""
    done = [cell for cell in in_report(study, name) if state(study, cell) is State.DONE]
    folders, patterns = [run_folder(study, cell) / "weights" for cell in done], study.settings.reports[name].files
    return [path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern))]


def is_published(study: Study, name: str) -> bool:
    """Whether a report is published and cannot be made anew here: networks of some of its runs are elsewhere."""
    there = study.results is not None and (study.results / page_file(study, name).name).exists()
    return there and len({path.parent for path in report_weights(study, name)}) < len(in_report(study, name))


def report_command(study: Study, name: str) -> list[str]:
    """What writes a report on those of its runs that are trained."""
    report, wanted = study.settings.reports[name], in_report(study, name)
    flags, weights = report.flags(study.yaml.parent), report_weights(study, name)
    backbones = all(name.startswith("backbone") for name in report.files)
    data = {(backbones and cell.recipe.pretrain.data) or cell.recipe.data for cell in wanted}
    if report.data is None and len(data) == 1:
        flags += ["--data", *map(shown, data)]
    words = [*flags, "--weights", *weights, "--report", page_file(study, name)]
    if report.kind == "accuracy" or name in tabled(study):
        words += ["--json", figures_file(study, name)]
    if report.kind == "localise" and backbones and not report.method:
        words += ["--keep", study.folder / "measured"]
    if imports := dict.fromkeys(path for cell in wanted for path in cell.recipe.imports):
        words += [FLAG, *imports]
    return ["python", "val.py", *map(shown, words), "--project", shown(study.folder), "--name", name]
