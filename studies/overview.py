"""Cascade against end to end in one figure: every published study that has both, on equal axes.

`python -m studies.overview configs/overview.yaml` writes results/overview.png and results/overview.csv.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from evaluation.learnt import NOT_TESTED
from studies.claims import BLIND, blind_in, compared_seeds
from studies.ledger import untaught as why_untaught
from studies.recipe import AGAIN, RUNS, StudyYaml, run_rows
from studies.runs import State
from studies.table import seeds_of
from utils.config import ROOT, Section
from utils.errors import UserError, run_cli
from utils.files import csv_text, read_json, write_text
from utils.names import PathName
from utils.parser import Parser
from utils.plots import canvas, write_figure
from utils.recipes import build, read_yaml

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MARKERS = "osD^v"
STUDIES = ROOT / "configs" / "studies"


class Source(Section):
    """Where the points of one colour come from.

    Attributes:
        study: folder under results.
        report: of all runs, for a point at each cut; None for the study's table, one point.
        measure: of the report or the table.
        sides: the methods on the two axes: the one up, the one to the right.
        map: kind of map, of a report on maps.
        label: in the legend.
    """

    study: PathName
    report: PathName | None = None
    measure: str
    sides: tuple[str, str]
    map: str | None = None
    label: str


class Panel(Section):
    """One plot; its points share a scale."""

    title: str
    sources: tuple[Source, ...] = Field(min_length=1)


class OverviewYaml(Section):
    """Keys of the overview's yaml."""

    panels: tuple[Panel, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Point:
    """Mean and standard deviation over the seeds, two at least of a table or of maps, of both sides."""

    panel: str
    label: str
    cut: str
    up: float
    up_sd: float
    right: float
    right_sd: float


def points(panel: Panel, source: Source, results: Path) -> list[Point]:
    """Of a source; none where it was not run, or from backbones that had learnt nothing.

    Raises:
        UserError: the study was run, but has no such sides or measure.
    """
    read = of_table if source.report is None else of_maps if source.map else of_accuracy
    path = file_of(source, results)
    if not path.exists():
        return []
    try:
        up, right = (read(source, path, side) for side in source.sides)
    except KeyError:
        what = f"has no {source.measure} for {' and '.join(source.sides)}"
        raise UserError(what, where=path, hint="correct the overview's yaml") from None
    cuts = [cut for cut in up if cut in right]
    label = source.label + unfinished(source, path, results / source.study / RUNS)
    if source.map and blind_in(read_json(path, AGAIN), source.map, source.sides):
        label += f": {BLIND}"
    return [Point(panel.title, label, cut, *up[cut], *right[cut]) for cut in cuts]


def file_of(source: Source, results: Path) -> Path:
    """Where a study publishes what a source is read from."""
    own = results / source.study
    if source.report is None:
        return own / RUNS
    return own / source.report / "localise.json" if source.map else own / f"{source.report}.json"


def why_none(source: Source, results: Path) -> str:
    """What a legend says of a source without points."""
    rows = run_rows(results / source.study / RUNS)
    if any(untaught(source, rows, side) for side in source.sides) or (source.map and file_of(source, results).exists()):
        return NOT_TESTED
    # A report is of runs that train the methods on both of its sides together.
    done = [row["method"] for row in rows if row.get("state") == State.DONE]
    return "not finished" if any(source.report or method in source.sides for method in done) else State.OPEN


def of_table(source: Source, path: Path, side: str) -> dict[str, tuple[float, float]]:
    """Mean and deviation of a method's runs with the seeds that both sides have; nothing of fewer than two."""
    rows = [row for row in run_rows(path) if row["method"] == side]
    if untaught(source, rows, side):
        return {}
    shared, _ = shared_seeds(source, path)
    own = [float(row[source.measure]) for row in rows if row["seed"] in shared]
    return {"": (float(np.mean(own)), float(np.std(own, ddof=1)))} if len(own) > 1 else {}


def untaught(source: Source, rows: list[dict[str, str]], method: str) -> bool:
    """Whether the rows of a method prove nothing, by what their study asks of its classifiers."""
    path, least = STUDIES / f"{source.study}.yaml", None
    if path.exists():
        table = build(StudyYaml, read_yaml(path), path).table
        least = table.least_auc if table else None
    return why_untaught(rows, [method], least) is not None


def shared_seeds(source: Source, path: Path) -> tuple[set[str], set[str]]:
    """The seeds with which both sides have the measure, and all seeds of the study."""
    rows = run_rows(path)
    own = ({row["seed"] for row in rows if row["method"] == side and row[source.measure]} for side in source.sides)
    return set.intersection(*own), seeds_in(path)


def seeds_in(runs: Path) -> set[str]:
    """The seeds of a study, by its runs.csv."""
    return {row["seed"] for row in run_rows(runs)}


def unfinished(source: Source, path: Path, runs: Path) -> str:
    """What the label of a source says where not every seed of the study is in it: `, 3 of 5 seeds`."""
    if source.report is None:
        done, wanted = map(len, shared_seeds(source, path))
    elif runs.exists():
        content, wanted = read_json(path, AGAIN), len(seeds_in(runs))
        sides = [row["seeds"] for row in content.get("summary", ()) if row["method"] in source.sides]
        done = compared_seeds(content) if source.map else min(sides, default=0)
    else:
        return ""
    return f", {seeds_of(done, wanted)}" if done < wanted else ""


def of_accuracy(source: Source, path: Path, side: str) -> dict[str, tuple[float, float]]:
    """Cut → mean and deviation over the seeds, from accuracy.json."""
    rows = [row for row in read_json(path, AGAIN)["summary"] if row["method"] == side]
    return {row["cut"]: (row[source.measure]["mean"], row[source.measure].get("sd") or 0.0) for row in rows}


def of_maps(source: Source, path: Path, side: str) -> dict[str, tuple[float, float]]:
    """Cut → mean and deviation over two seeds at least, from localise.json; no cut without a value, or too coarse."""
    content = read_json(path, AGAIN)
    if content.get("untaught", "never compared with chance"):
        return {}
    lines: dict[tuple[str, str], dict[str, Any]] = {(own["line"], own["map"]): own for own in content["lines"]}
    line = lines[side, str(source.map)]
    if len(line["seeds"]) < 2:
        return {}
    measure = line["measures"][source.measure]
    spread = measure.get("seeds_sd") or [None] * len(line["cuts"])
    values = zip(line["cuts"], measure["mean"], spread, strict=True)
    coarse = line.get("coarse", ())
    return {f"b{cut}": (mean, sd or 0.0) for cut, mean, sd in values if mean is not None and cut not in coarse}


def draw(axis: "Axes", panel: Panel, results: Path) -> Iterator[Point]:
    """A panel: points with their deviations, the diagonal, the same scale both ways."""
    by_source = [points(panel, source, results) for source in panel.sources]
    found = [point for own in by_source for point in own]
    ends = [end for p in found for end in (p.up - p.up_sd, p.up + p.up_sd, p.right - p.right_sd, p.right + p.right_sd)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = 0.08 * (high - low) or 0.05
    for number, (source, own) in enumerate(zip(panel.sources, by_source, strict=True)):
        axis.errorbar(
            [p.right for p in own],
            [p.up for p in own],
            xerr=[p.right_sd for p in own],
            yerr=[p.up_sd for p in own],
            fmt=MARKERS[number % len(MARKERS)],
            color=f"C{number}" if own else "0.6",
            capsize=2,
            label=own[0].label if own else f"{source.label}: {why_none(source, results)}",
        )
        name_cuts(axis, own, room / 2, number)
    axis.plot([low - room, high + room], [low - room, high + room], color="0.6", linewidth=1, zorder=0)
    axis.set(
        xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal", anchor="N", title=panel.title
    )
    axis.set(xlabel="end to end", ylabel="cascade")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), frameon=False)  # where no points are
    yield from found


def name_cuts(axis: "Axes", own: list[Point], near: float, number: int) -> None:
    """Write its cut beside each point; the cuts of points that are near each other in one place.

    Every other source is named on the other side of the diagonal, where its neighbour's names are not.
    """
    groups: list[list[Point]] = []
    for point in own:
        close = (g for g in groups if math.dist((g[0].right, g[0].up), (point.right, point.up)) < near)
        if group := next(close, None):
            group.append(point)
        else:
            groups.append([point])
    place, side = (((4, -9), "left"), ((-4, 4), "right"))[number % 2]
    for first, *others in groups:
        names = ", ".join(point.cut for point in (first, *others))
        axis.annotate(names, (first.right, first.up), place, textcoords="offset points", fontsize=7, ha=side)


def overview(content: OverviewYaml, results: Path) -> None:
    """Write overview.png and overview.csv."""
    figure, axes = canvas(columns=len(content.panels), size=(4.2 * len(content.panels), 5.2))
    found = [p for axis, panel in zip(axes[0], content.panels, strict=True) for p in draw(axis, panel, results)]
    write_figure(figure, results / "overview.png")
    rows = [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(p).items()} for p in found]
    write_text(results / "overview.csv", csv_text(rows, [field.name for field in fields(Point)]))


def main() -> None:
    """Draw it."""
    parser = Parser(description="Cascade against end to end, from what studies published.")
    parser.add_argument("overview", type=Path, help="overview yaml")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where studies are published [results]")
    arguments = parser.parse_args()
    overview(build(OverviewYaml, read_yaml(arguments.overview), arguments.overview), arguments.results)
    print(f"wrote {arguments.results / 'overview.png'}")


if __name__ == "__main__":
    run_cli(main)
