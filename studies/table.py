"""What a study found: one table, its figure, a row for each run, and the commands that made them."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from studies.recipe import Cell, Study
from studies.runs import State, commands, log_file, run_folder, state, values_file
from utils.config import ROOT
from utils.files import make_folder, write_text, written_whole

NOTHING = "–"


@dataclass(frozen=True)
class Result:
    """A cell, how far it is, and its measures, where it has them."""

    cell: Cell
    state: State
    values: dict[str, float]


def results(study: Study) -> list[Result]:
    """Of every cell, method after method."""
    cells = sorted(study.cells, key=lambda cell: (list(study.settings.methods).index(cell.method), cell.seed))
    return [Result(cell, state(study, cell), values_of(study, cell)) for cell in cells]


def values_of(study: Study, cell: Cell) -> dict[str, float]:
    """The study's measures of a cell; nothing of one that is not done."""
    path = values_file(study, cell)
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {name: content[name] for name in study.settings.measures if content.get(name) is not None}


def write_results(study: Study, report: Path | None) -> str:
    """Write table.md, figure.png, runs.csv and commands.txt into the study's folder; gives the table.

    Args:
        report: a Markdown file to write too, with its figure and the two lists in a folder of the same name beside it.
    """
    found = results(study)
    folders = [(study.folder, study.folder / "table.md", "")]
    if report:
        folders.append((make_folder(report.with_suffix("")), report, f"{report.stem}/"))
    for folder, page, link in folders:
        write_text(folder / "runs.csv", as_csv(study, found))
        write_text(folder / "commands.txt", all_commands(study))
        save_figure(study, found, folder / "figure.png")
        write_text(page, as_markdown(study, found, link))
    return as_markdown(study, found, "")


def as_markdown(study: Study, found: list[Result], link: str) -> str:
    """The table with what stands above and below it."""
    settings = study.settings
    yaml = seen_from_project(study.yaml)
    done = sum(result.state is State.DONE for result in found)
    text = [
        f"# {settings.title}",
        f"Made by `python study.py {yaml}`: {done} of {len(found)} runs done, seeds "
        f"{', '.join(map(str, settings.seeds))}, figures of `{settings.split}`; mean ± standard deviation (n − 1).",
        table(study, found),
    ]
    if settings.reference:
        text.append(difference_table(study, found))
    text.append(f"![{settings.title}]({link}figure.png)")
    text.append(f"[Every run]({link}runs.csv), [every command]({link}commands.txt), [recipe](/{yaml}).")
    return "\n\n".join(text) + "\n"


def table(study: Study, found: list[Result]) -> str:
    """A row for each method."""
    measures = study.settings.measures
    lines = [f"| method | {' | '.join(measures)} | runs |", "|---|" + "---:|" * (len(measures) + 1)]
    for method in study.settings.methods:
        own = [result for result in found if result.cell.method == method]
        cells = [mean_and_spread([r.values[name] for r in own if name in r.values]) for name in measures]
        lines.append(f"| {method} | {' | '.join(cells)} | {counted(own)} |")
    return "\n".join(lines)


def counted(own: list[Result]) -> str:
    """How many runs are done, and what became of the others."""
    done = sum(result.state is State.DONE for result in own)
    others = [f"seed {result.cell.seed} {result.state}" for result in own if result.state is not State.DONE]
    return f"{done}" + (f" ({', '.join(others)})" if others else "")


def mean_and_spread(values: list[float]) -> str:
    """`mean ± sd`; of one value itself, of none a dash."""
    if not values:
        return NOTHING
    mean = f"{np.mean(values):.3f}"
    return f"{mean} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else mean


def difference_table(study: Study, found: list[Result]) -> str:
    """Each method less the reference, seed by seed: mean and 95 % interval by Student's t."""
    measures, reference = study.settings.measures, study.settings.reference
    values = {(result.cell.method, result.cell.seed): result.values for result in found}
    lines = [f"| less {reference} | {' | '.join(measures)} |", "|---|" + "---:|" * len(measures)]
    for method in study.settings.methods:
        if method != reference:
            pairs = [(values[method, seed], values[reference, seed]) for seed in study.settings.seeds if reference]
            cells = [paired([a[name] - b[name] for a, b in pairs if name in a and name in b]) for name in measures]
            lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def paired(differences: list[float]) -> str:
    """`mean [low, high]` of at least two differences."""
    if len(differences) < 2:
        return NOTHING
    mean, error = np.mean(differences), stats.sem(differences)
    reach = float(stats.t.ppf(0.975, len(differences) - 1) * error)
    return f"{mean:+.3f} [{mean - reach:+.3f}, {mean + reach:+.3f}]"


def as_csv(study: Study, found: list[Result]) -> str:
    """A row for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "seed", "state", *study.settings.measures, "run", "log"])
    for result in found:
        values = [f"{result.values[name]:.6f}" if name in result.values else "" for name in study.settings.measures]
        places = [seen_from_project(path(study, result.cell)) for path in (run_folder, log_file)]
        writer.writerow([result.cell.method, result.cell.seed, str(result.state), *values, *places])
    return text.getvalue()


def all_commands(study: Study) -> str:
    """What trains and judges every cell, in the order of running."""
    lines = []
    for cell in study.cells:
        words = commands(study, cell)
        lines += [f"# {cell.name}", " ".join(words["train"]), " ".join(words["judge"])]
    return "\n".join(lines) + "\n"


def save_figure(study: Study, found: list[Result], path: Path) -> None:
    """A panel for each measure on one scale: every run as a point, mean and deviation beside them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    measures, methods = study.settings.measures, list(study.settings.methods)
    size = (1.2 + 2.6 * len(measures), 1.6 + 0.38 * len(methods))
    figure, axes = pyplot.subplots(
        1, len(measures), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for axis, measure in zip(axes[0], measures, strict=True):
        for row, method in enumerate(methods):
            own = [r.values[measure] for r in found if r.cell.method == method and measure in r.values]
            axis.plot(own, [row] * len(own), "o", color="C0", alpha=0.35, markersize=4)
            if own:
                spread = float(np.std(own, ddof=1)) if len(own) > 1 else 0.0
                axis.errorbar(np.mean(own), row, xerr=spread, fmt="s", color="C0", capsize=3)
            else:
                axis.text(0.5, row, str(State.OPEN), transform=axis.get_yaxis_transform(), va="center", color="0.5")
        axis.set(title=measure)
        axis.grid(alpha=0.3)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    with written_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def seen_from_project(path: Path) -> str:
    """A path relative to the project's folder; of one outside, its last parts."""
    whole = path.resolve()
    return str(whole.relative_to(ROOT)) if whole.is_relative_to(ROOT) else "/".join(whole.parts[-2:])
