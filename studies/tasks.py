"""One table over tasks: what each reaches from each kind of pre-training, and how far these are apart."""

from evaluation.learnt import NOT_TESTED
from studies.gate import reason
from studies.recipe import Study
from studies.runs import figures_file, here_or_published
from studies.sections import TaskRow, Tasks
from studies.table import Result, mean_and_spread, paired
from utils.files import read_json
from utils.text import as_markdown

BySeed = dict[int, float]


def tasks_table(study: Study, tasks: Tasks, found: list[Result]) -> str:
    """A row for each task: mean ± standard deviation of each column, and the differences seed by seed."""
    apart = [f"{one} minus {other}" for one, other in tasks.differences]
    least = study.settings.table.least_auc if study.settings.table else None
    rows = [["task", "measure", *tasks.columns, *apart]]
    for name, row in tasks.rows.items():
        values = columns(study, tasks, row, found)
        cells = [mean_and_spread(list(values[column].values())) for column in tasks.columns]
        lessons = {column: [own.lesson for own in of(row, column, found)] for column in tasks.columns}
        for one, other in tasks.differences:
            if why := reason([*lessons[one], *lessons[other]], least):
                cells.append(f"{NOT_TESTED}: {why}")
                continue
            seeds = [seed for seed in values[one] if seed in values[other]]
            pairs = [values[one][seed] - values[other][seed] for seed in seeds]
            cells.append(paired(pairs, len(study.settings.seeds)))
        rows.append([name, row.measure, *cells])
    return as_markdown(rows)


def of(row: TaskRow, column: str, found: list[Result]) -> list[Result]:
    """The runs of a row and a column; of a report those that left its backbones."""
    return [own for own in found if own.cell.method == f"{row.methods}_{column}"]


def columns(study: Study, tasks: Tasks, row: TaskRow, found: list[Result]) -> dict[str, BySeed]:
    """Seed → measure, for each column."""
    if row.report:
        lines = reported(study, row)
        return {column: lines.get(line, {}) for column, line in zip(tasks.columns, row.lines, strict=True)}
    return {
        column: {own.cell.seed: own.values[row.measure] for own in of(row, column, found) if row.measure in own.values}
        for column in tasks.columns
    }


def reported(study: Study, row: TaskRow) -> dict[str, BySeed]:
    """Line → seed → measure, of a report on boxes; nothing of one that is not written yet, or of maps too coarse."""
    path = here_or_published(study, figures_file(study, str(row.report)))
    content = read_json(path, "delete it, so that the report is made again") if path.exists() else {"rows": []}
    return {
        own["line"]: {int(seed): values[row.measure] for seed, values in own["by_seed"].items()}
        for own in content["rows"]
        if own["method"] == row.method and not own.get("coarse")
    }
