"""The accuracy study on paper: terminal and Markdown tables, JSON, and the curve of its lines over depth."""

import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from data.seen import too_good
from evaluation.accuracy_study import Row, Study
from evaluation.classification import METRICS
from evaluation.learnt import LEAST_GROUPS, Judged, compared, doubtful, judged_by
from evaluation.rates import KINDS, save_rates
from utils.config import ROOT
from utils.files import json_text, write_text, written_whole
from utils.plots import canvas, write_figure
from utils.text import NOTHING, as_markdown, as_terminal

MARKERS = "osD^vP"
BESIDE = ("low", "high", "chance", "majority", "border", "learnt")  # of a row, where they are there


def measures(study: Study) -> list[str]:
    """Names of the measures that the data define, the one to look at first in front."""
    first = "accuracy" if study.single_label else "auc"
    there = {name for row in study.rows for name in row.metrics}
    return [name for name in dict.fromkeys([first, *METRICS]) if name in there]


def heading(study: Study) -> str:
    """What was measured on what, in a line."""
    task = "single-label" if study.single_label else "multi-label"
    first = study.rows[0].beside  # the same for every classifier
    of = METRICS[judged_by(study.single_label)].title
    about = f"{study.data} `{study.split}`, {study.images} {study.kind}, {study.classes} classes, {task}"
    return f"{about}; {compared(first)} of {of}"


def doubts(study: Study) -> list[str]:
    """A line on images that a network has learnt from, and one for each network whose classifiers learnt nothing."""
    classifiers = (Judged(row.line, row.seed, row.block, row.beside) for row in study.rows)
    return too_good(study.learnt, study.images, study.kind) + doubtful(classifiers, study.single_label)


def spread(rows: Sequence[Row], name: str) -> tuple[float, float | None] | None:
    """Mean and standard deviation (n − 1) of a measure over files.

    The deviation of a single file is None, and so is the whole where no file has the measure.
    """
    values = [row.metrics[name] for row in rows if name in row.metrics]
    if not values:
        return None
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def ends(rows: Sequence[Row], name: str) -> tuple[float, float] | None:
    """Mean ± standard deviation over several files, or the bootstrap interval of a single one."""
    found = spread(rows, name)
    if found is None or found[1] is None:
        return rows[0].intervals.get(name) if found else None
    return found[0] - found[1], found[0] + found[1]


def cell(rows: Sequence[Row], name: str) -> str:
    """`mean ± sd` of several files, `value [low, high]` of one."""
    found = spread(rows, name)
    if found is None:
        return NOTHING
    if found[1] is not None:
        return f"{found[0]:.3f} ± {found[1]:.3f}"
    interval = rows[0].intervals.get(name)
    return f"{found[0]:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def terminal_table(study: Study) -> str:
    """A row for each classifier, and the mean over seeds where there are several."""
    names = measures(study)
    table = [["method", "seed", "cut", "features", *(METRICS[name].title for name in names)]]
    for line, groups in study.lines.items():
        for block, rows in groups.items():
            for row in rows:
                shape = "×".join(map(str, row.shape))
                table.append([line, str(row.seed), f"b{block}", shape, *(cell([row], name) for name in names)])
            if len(rows) > 1:
                table.append([line, "mean", f"b{block}", "", *(cell(rows, name) for name in names)])
    return "\n".join([heading(study) + intervals_note(study), "", as_terminal(table), *times(study), *doubts(study)])


def times(study: Study) -> list[str]:
    """A line with what each way to look costs, where there are several."""
    if len({(row.file, row.line) for row in study.rows}) == len({row.file for row in study.rows}):
        return []
    lines = {line: fmean(row.ms for rows in groups.values() for row in rows) for line, groups in study.lines.items()}
    return [
        f"Milliseconds an image, without reading it: {'; '.join(f'{line}: {ms:.1f}' for line, ms in lines.items())}"
    ]


def intervals_note(study: Study) -> str:
    """Where the brackets come from, or why there are none though they were asked for."""
    if not study.draws:
        return ""
    if not any(row.intervals for row in study.rows):
        return f"; no intervals: they need {LEAST_GROUPS} images, or patients, at least"
    return f"; [95 % interval of {study.draws} resamples of the images]"


def markdown(study: Study, command: str, picture: str) -> str:
    """A table for each measure: cuts down, methods across."""
    lines = study.lines
    seeds = ", ".join(f"`{line}` {max(map(len, groups.values()))}" for line, groups in lines.items())
    several = any(len(rows) > 1 for groups in lines.values() for rows in groups.values())
    meaning = "; mean ± standard deviation (n − 1) over seeds" if several else ""
    blocks = sorted({row.block for row in study.rows})
    text = [f"Made by `{command}`.", f"{heading(study)}; seeds: {seeds}{meaning}{intervals_note(study)}."]
    text += [f"{line}." for line in (*times(study), *doubts(study))]
    text.append(f"![{METRICS[measures(study)[0]].title} after each block]({picture})")
    for name in measures(study):
        better = ", lower is better" if METRICS[name].lower else ""
        table = [[f"{METRICS[name].title}{better}", *lines]]
        for block in blocks:
            cells = [cell(groups[block], name) if block in groups else NOTHING for groups in lines.values()]
            table.append([f"b{block}", *cells])
        text.append(as_markdown(table))
    return "\n\n".join(text) + "\n"


def as_json(study: Study, command: str) -> dict[str, Any]:
    """Everything that was measured, and the means over seeds; files as seen from the project folder."""
    timed = bool(times(study))
    rows = [
        {
            "file": seen_from_project(row.file),
            "method": row.line,
            "seed": row.seed,
            "stage": row.stage,
            "cut": f"b{row.block}",
            "shape": list(row.shape),
            "metrics": row.metrics,
            "intervals": {name: list(interval) for name, interval in row.intervals.items()},
            "beside": {name: row.beside[name] for name in BESIDE if name in row.beside},
            **({"ms": row.ms} if timed else {}),
        }
        for row in study.rows
    ]
    summary = [
        {"method": line, "cut": f"b{block}", "seeds": len(group)}
        | {name: dict(zip(("mean", "sd"), found, strict=True)) for name in METRICS if (found := spread(group, name))}
        for line, groups in study.lines.items()
        for block, group in groups.items()
    ]
    about = {key: value for key, value in vars(study).items() if key != "rows"}
    return {"command": command, **about, "rows": rows, "summary": summary}


def save_curve(study: Study, path: Path) -> None:
    """The first measure over the depth of the cut, a line for each method, with its ends as a band."""
    name = measures(study)[0]
    figure, [[axis]] = canvas(size=(8, 5))
    for number, (line, groups) in enumerate(study.lines.items()):
        known = {block: found[0] for block, rows in groups.items() if (found := spread(rows, name))}
        bands = {block: found for block in known if (found := ends(groups[block], name))}
        colour, marker = f"C{number % 10}", MARKERS[number % len(MARKERS)]
        label = f"{line} ({band_note(study, groups)})"
        axis.plot(list(known), list(known.values()), color=colour, marker=marker, label=label)
        if bands:
            low, high = zip(*bands.values(), strict=True)
            axis.vlines(list(bands), low, high, color=colour, linewidth=1)
            axis.fill_between(list(bands), low, high, color=colour, alpha=0.15, linewidth=0)
    blocks = sorted({row.block for row in study.rows})
    axis.set_xticks(blocks, [f"b{block}" for block in blocks])
    axis.set(xlabel="features after block", ylabel=METRICS[name].title)
    axis.set_title(heading(study).replace("`", ""), fontsize="small", wrap=True)
    axis.grid(alpha=0.3)
    axis.legend()
    write_figure(figure, path, dpi=120)


def save_curves(study: Study, folder: Path) -> list[str]:
    """ROC and precision over recall of every classifier, a panel for each block; the names of the files."""
    made = []
    for kind, (_, _, area) in KINDS.items():
        panels: dict[str, list[tuple[str, list[np.ndarray]]]] = {}
        for block in sorted({row.block for row in study.rows}):
            for line, groups in study.lines.items():
                rows = [row for row in groups.get(block, []) if kind in row.curves]
                if rows:
                    label = f"{line}, {METRICS[area].short} {np.mean([row.metrics[area] for row in rows]):.3f}"
                    own = (label, [row.curves[kind] for row in rows])
                    panels.setdefault(f"features after b{block}", []).append(own)
        if panels:
            made.append(f"{kind}.png")
            save_rates(kind, panels, folder / made[-1])
    return made


def band_note(study: Study, groups: dict[int, list[Row]]) -> str:
    """What the band of a line shows."""
    seeds = max(map(len, groups.values()))
    if seeds > 1:
        return f"mean ± sd, {seeds} seeds"
    return "one seed" + (", 95 % bootstrap" if any(row.intervals for row in study.rows) else "")


def write_study(study: Study, command: str, folder: Path, *, figures: Path | None, report: Path | None) -> list[str]:
    """Write accuracy.json, accuracy.md, accuracy.png, roc.png and precision_recall.png; the names of what was written.

    Args:
        figures: a further place for the JSON.
        report: a further place for the Markdown; the curve goes beside it under the same name.
    """
    text = json_text(as_json(study, command), 1)
    for path in filter(None, (folder / "accuracy.json", figures)):
        write_text(path, text)
    curve = folder / "accuracy.png"
    save_curve(study, curve)
    write_text(folder / "accuracy.md", markdown(study, command, curve.name))
    if report:
        with written_whole(report.with_suffix(".png")) as temporary:
            shutil.copyfile(curve, temporary)
        write_text(report, markdown(study, command, report.with_suffix(".png").name))
    return ["accuracy.json", "accuracy.md", curve.name, *save_curves(study, folder)]


def shown_command(arguments: Sequence[str], program: Sequence[str] = ("val.py",)) -> str:
    """The call of val.py, or of another program, without the paths of this machine."""
    shown = [re.sub(r"(^|(?<==))/.*", lambda found: seen_from_project(Path(found[0])), text) for text in arguments]
    return shlex.join(["python", *program, *shown])


def seen_from_project(path: Path) -> str:
    """A path relative to the project folder; of one outside, only its name."""
    whole = path.resolve()
    return str(whole.relative_to(ROOT)) if whole.is_relative_to(ROOT) else path.name
