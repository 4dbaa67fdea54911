"""What the runs of a study reached: a table with differences, and a row for each run."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy import stats

from evaluation.learnt import NOT_TESTED
from studies.gate import UNKNOWN, Lesson, lesson_of, lesson_text, maker_of, reason
from studies.recipe import Cell, Study, digests
from studies.runs import State, figures, is_judged, judged_here, log_file, pictures, run_folder, state
from studies.sections import Table
from utils.files import csv_text, read_json
from utils.recipes import load_recipe
from utils.text import NOTHING, as_markdown


@dataclass(frozen=True)
class Result:
    """A cell, how far it is, its measures, where it has them, and what its backbone had learnt, if that is known.

    Attributes:
        on: device and precision that it was trained with, `cpu fp32`; empty where nobody can say any more.
        data: digest of the pictures that it was judged on; empty likewise.
    """

    cell: Cell
    state: State
    values: dict[str, float]
    lesson: Lesson | None
    on: str = ""
    data: str = ""


def results(study: Study) -> list[Result]:
    """Of every cell, method after method."""
    methods = list(study.settings.methods)
    cells = sorted(study.cells, key=lambda cell: (methods.index(cell.method), cell.seed))
    return [
        Result(
            cell, state(study, cell), values_of(study, cell), known_lesson(study, cell), trained_on(study, cell),
            pictures(study, cell),
        )
        for cell in cells
    ]  # fmt: skip


def trained_on(study: Study, cell: Cell) -> str:
    """Device and precision of a run, as it wrote them down or as published; empty where nobody can say any more."""
    path = run_folder(study, cell) / "recipe.yaml"
    if not path.exists():
        return study.published.get(cell.name, {}).get("on") or ""
    made = load_recipe(path, {})
    return f"{made.device} {made.precision}"


def unlike(found: list[Result]) -> list[str]:
    """Lines where finished runs are of several devices or precisions, or were judged on several sets of pictures."""
    done = [own for own in found if own.state is State.DONE]
    kinds = (
        ("Not all runs are alike", [own.on for own in done], "Their figures differ by that too."),
        ("Not all runs were judged on the same pictures", [own.data for own in done], "They cannot be compared."),
    )
    lines = []
    for what, names, so in kinds:
        counts = Counter(filter(None, names))
        each = ", ".join(f"{count} on {name}" for name, count in counts.most_common())
        lines += [f"{what}: {each}. {so}"] if len(counts) > 1 else []
    return lines


def values_of(study: Study, cell: Cell) -> dict[str, float]:
    """The study's measures of a cell, as published or as judged here; nothing of one that is not judged."""
    return {name: value for name, value in figures(study, cell).items() if value is not None}


def known_lesson(study: Study, cell: Cell) -> Lesson | None:
    """What the backbone of a cell had learnt, as its run says or as published; unknown where the run is gone."""
    row = study.published.get(cell.name)
    found = lesson_of(study, cell) if judged_here(study, cell) or not row else None
    found = found or (Lesson.of(row) if row else None)
    lost = found is None and maker_of(study, cell).recipe.pretrains and values_of(study, cell)
    return UNKNOWN if lost else found


def judged_methods(study: Study) -> list[str]:
    """The methods with a row in the table, in the order of the yaml."""
    judged = {cell.method for cell in study.cells if is_judged(study, cell)}
    return [method for method in study.settings.methods if method in judged]


def main_table(study: Study, table: Table, found: list[Result]) -> str:
    """A row for each method, with what its backbones had learnt, and for each other program."""
    rows = [["method", "pre-training", *table.measures, "runs"]]
    for method in judged_methods(study):
        own = [result for result in found if result.cell.method == method]
        cells = [mean_and_spread([r.values[name] for r in own if name in r.values]) for name in table.measures]
        rows.append([method, lesson_text([r.lesson for r in own]), *cells, counted(own)])
    for name, file in table.beside.items():
        path = study.yaml.parent / file
        content = read_json(path, f"correct `beside` of {study.yaml}") if path.exists() else {}
        cells = [mean_and_spread([value] if (value := content.get(key)) is not None else []) for key in table.measures]
        rows.append([name, NOTHING, *cells, "1" if content else "0 (not run)"])
    return as_markdown(rows, "llr")


def counted(own: list[Result]) -> str:
    """How many runs are done, and what became of the others."""
    seeds: dict[State, list[str]] = {}
    for result in own:
        seeds.setdefault(result.state, []).append(str(result.cell.seed))
    done = len(seeds.pop(State.DONE, ()))
    others = [f"seed{'s' * (len(each) > 1)} {', '.join(each)} {state}" for state, each in seeds.items()]
    return f"{done}" + (f" ({'; '.join(others)})" if others else "")


def mean_and_spread(values: list[float]) -> str:
    """`mean ± sd`; of one value itself, of none a dash."""
    if not values:
        return NOTHING
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def difference_tables(study: Study, table: Table, found: list[Result]) -> list[str]:
    """Each method minus the reference, and each pair's first minus its second."""
    others = [method for method in judged_methods(study) if method != table.reference]
    wanted = {
        f"minus {table.reference}": {method: (method, table.reference) for method in others if table.reference},
        "pair": {f"{one} minus {other}": (one, other) for one, other in table.pairs},
    }
    return [difference_table(study, table, found, head, rows) for head, rows in wanted.items() if rows]


def difference_table(
    study: Study, table: Table, found: list[Result], head: str, rows: dict[str, tuple[str, str]]
) -> str:
    """One method minus another, seed by seed: mean and 95 % interval by Student's t; none where nothing was learnt."""
    results = {(result.cell.method, result.cell.seed): result for result in found}
    lines = [[head, *table.measures]]
    for label, (one, other) in rows.items():
        pairs = [(results[one, seed], results[other, seed]) for seed in study.settings.seeds]
        if why := reason([own.lesson for pair in pairs for own in pair], table.least_auc):
            lines.append([label, f"{NOT_TESTED}: {why}"])
            continue
        values = [(a.values, b.values) for a, b in pairs]
        apart = ([a[name] - b[name] for a, b in values if name in a and name in b] for name in table.measures)
        lines.append([label, *(paired(own, len(study.settings.seeds)) for own in apart)])
    return as_markdown(lines)


def paired(differences: list[float], wanted: int) -> str:
    """`mean [low, high]` of at least two differences; of fewer seeds than wanted, how many: `…, 3 of 5 seeds`."""
    if len(differences) < 2:
        return NOTHING
    low, high = interval(differences)
    beside = f", {seeds_of(len(differences), wanted)}" if len(differences) < wanted else ""
    return f"{np.mean(differences):+.3f} [{low:+.3f}, {high:+.3f}]{beside}"


def seeds_of(done: int, wanted: int) -> str:
    """`1 seed`, `5 seeds`, or `3 of 5 seeds` where not all are done."""
    return f"{done if done == wanted else f'{done} of {wanted}'} seed{'' if wanted == 1 else 's'}"


def interval(values: list[float]) -> tuple[float, float]:
    """95 % interval of the mean by Student's t."""
    mean = float(np.mean(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return mean - reach, mean + reach


def as_csv(study: Study, found: list[Result]) -> str:
    """A row for each run."""
    known, rows = digests(study.cells, study.split), []
    for result in found:
        cell = result.cell
        values = {name: f"{own:.6f}" for name, own in result.values.items()}
        lesson = dict(zip(Lesson.COLUMNS, result.lesson.cells(), strict=True)) if result.lesson else {}
        files = {"run": run_folder(study, cell), "log": log_file(study, cell)}
        places = {name: str(path.relative_to(study.folder)) for name, path in files.items()}
        about = {"method": cell.method, "seed": cell.seed, "state": str(result.state)}
        made = {"recipe": known[cell.name], "on": result.on, "data": result.data}
        rows.append({**about, **values, **lesson, **made, **places})
    heads = ["method", "seed", "state", *study.measures, *Lesson.COLUMNS, "recipe", "on", "data", "run", "log"]
    return csv_text(rows, heads)
