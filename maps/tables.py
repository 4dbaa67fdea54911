"""The study in numbers: JSON, CSV by image, Markdown and terminal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maps.figures import REGIONS, as_csv, deviation
from maps.kinds import title_of
from maps.localise import BASELINE, Row, Study
from maps.measures import MEASURES, shown_in
from maps.summary import Line, Pair, Summary
from utils.files import make_folder, write_text
from utils.text import as_markdown, as_terminal

NOTHING = "–"
SEEDS_BY = "Student's t"  # how intervals take seeds in; reports of before resampled them


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the figure there, the rule that it is judged by, what was found, and the verdict."""

    figure: str
    claim: str
    rule: str
    found: str
    verdict: str


def as_json(summary: Summary, claims: Sequence[Claim], command: str) -> dict[str, Any]:
    """Everything but the values by image."""
    study = summary.study
    return {
        "command": command,
        "data": study.plan.split.description.yaml.name,
        "split": study.plan.split.name,
        "images": len(study.records),
        "cases": len(study.cases),
        "percentile": study.plan.rule.percentile,
        "box_share": float(study.shares.mean()),
        **summary.bounds,
        "lines": [line_json(line) for line in summary.lines],
        "pairs": [pair_json(pair) for pair in summary.pairs],
        "regions": [vars(region) for region in summary.regions],
        "untaught": study.plan.untaught(),
        "notes": list(study.plan.notes),
        **study.beside.figures,
        "claims": [vars(claim) for claim in claims],
        "seeds_by": SEEDS_BY,
    }


def line_json(line: Line) -> dict[str, Any]:
    """Means, bounds and spread over seeds of every measure by cut."""
    measures = {}
    for name in MEASURES:
        if name in line.values:
            low, high = line.intervals[name]
            measures[name] = {"mean": line.mean(name).tolist(), "low": low.tolist(), "high": high.tolist()}
            if (deviation := line.deviation(name)) is not None:
                measures[name]["seeds_sd"] = deviation.tolist()
    degenerate = float(np.nansum(line.values["degenerate"])) if "degenerate" in line.values else 0.0
    about = {"line": line.name, "map": line.kind, "seeds": list(line.seeds), "cuts": list(line.cuts)}
    return {**about, "cases": line.values["iou"].shape[1], "degenerate_maps": int(degenerate), "measures": measures}


def pair_json(pair: Pair) -> dict[str, Any]:
    """One line against another, measure by measure and cut by cut."""
    rows = [
        {"measure": row.measure, "cut": row.cut, **vars(row.values), "holm_p": row.adjusted, "mcnemar_p": row.localised}
        for row in pair.rows
    ]
    return {"map": pair.kind, "first": pair.first.name, "second": pair.second.name, "rows": rows}


def write_values(study: Study, folder: Path) -> None:
    """A CSV for each measure: a row a case, a column for each map, line, seed and cut."""
    names = study.plan.split.description.names
    make_folder(folder)
    for name, rows in study.beside.sheets.items():
        write_text(folder / f"{name}.csv", as_csv(rows))
    for measure in (own.name for own in shown_in("values")):
        columns = {
            f"{column.kind}/{column.line}/seed{column.seed}/b{cut}": column.values[measure][:, place]
            for column in study.columns
            if column.chosen is None and measure in column.values
            for place, cut in enumerate(column.cuts)
        }
        if columns:
            write_text(folder / f"{measure}.csv", as_csv(case_rows(study, names, columns)))
    for measure in (own.name for own in shown_in("values") if own.regions):
        own = [column for column in study.columns if column.chosen is not None]
        if own:
            columns = {
                f"{column.line}/seed{column.seed}/b{cut}": column.values[measure][:, place]
                for column in own
                for place, cut in enumerate(column.cuts)
            }
            write_text(folder / f"lime_{measure}.csv", as_csv(case_rows(study, names, columns, own[0].chosen)))


def case_rows(
    study: Study, names: list[str], columns: dict[str, np.ndarray], chosen: np.ndarray | None = None
) -> list[Row]:
    """What each case is, and its values."""
    rows: list[Row] = []
    indices = range(len(study.cases)) if chosen is None else chosen.tolist()
    explained = study.plan.explain is None
    for place, index in enumerate(indices):
        image, label = study.cases[index]
        row: Row = {
            "image": study.records[image].image.name,
            "class": names[label] if explained else "",
            "box_share": float(study.shares[index]),
        }
        rows.append(row | {name: float(values[place]) for name, values in columns.items()})
    return rows


def heading(summary: Summary) -> str:
    """What was measured on what, and what could be reached, in two lines; one more a doubtful classifier."""
    study, own = summary.study, summary.bounds
    split, rule = study.plan.split, study.plan.rule
    lines = ", ".join(f"{line.name} ({len(line.seeds)})" for line in first_kind(summary) if line.trained)
    warned = "".join(f"\n{line}." for line in (*study.plan.doubts(), *study.plan.notes, *study.beside.notes))
    return (
        f"{split.description.yaml.name} `{split.name}`: {len(study.cases)} cases {study.plan.about}; seeds: {lines}. "
        f"Regions are the highest {100 - rule.percentile} % of a map.\n"
        f"Boxes take {study.shares.mean():.1%} of an image; with regions of this size the mean IoU can reach "
        f"{own['iou_ceiling']:.3f}, chance gives about {own['iou_chance']:.3f}, and {own['localisable']:.1%} of the "
        f"cases can have an IoU above 0.2 at all.{warned}"
    )


def first_kind(summary: Summary) -> list[Line]:
    """The lines of the first kind of map."""
    return summary.of(summary.kinds[0])


def cell(line: Line, measure: str, place: int) -> str:
    """`mean [low, high]` at one cut."""
    digits = MEASURES[measure].digits
    low, high = line.intervals[measure][:, place]
    if np.isnan(line.mean(measure)[place]):
        return NOTHING
    mean = f"{line.mean(measure)[place]:.{digits}f}"
    return mean if np.isnan(low) else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"


def measure_table(summary: Summary, kind: str, measure: str) -> list[list[str]]:
    """A row a cut, a column a line; header first. Baselines are rows below, where they apply."""
    lines = summary.of(kind)
    table = [[MEASURES[measure].title, *(line.name for line in lines)]]
    for cut in sorted({cut for line in lines for cut in line.cuts}):
        row = [cell(line, measure, line.cuts.index(cut)) if cut in line.cuts else NOTHING for line in lines]
        table.append([f"b{cut}", *row])
    return table


def baseline_table(summary: Summary) -> list[list[str]]:
    """What costs no training."""
    measures = shown_in("baselines")
    rows = [[line.name, *(cell(line, own.name, 0) for own in measures)] for line in summary.of(BASELINE)]
    return [["baseline", *(own.title for own in measures)], *rows]


def pair_table(pair: Pair, measure: str = "iou") -> list[list[str]]:
    """Difference with its interval, share above, and p values by cut."""
    table = [["cut", "difference", "95 % interval", "above", "ties", "sign p (Holm)", "Wilcoxon p", "McNemar p"]]
    digits = MEASURES[measure].digits + 1
    for row in pair.of(measure):
        low, high = row.values.interval
        table.append(
            [
                f"b{row.cut}",
                f"{row.values.mean:+.{digits}f}",
                NOTHING if np.isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]",
                f"{row.values.above:.1%}",
                f"{row.values.ties:.1%}",
                shown(row.adjusted),
                shown(row.values.wilcoxon),
                NOTHING if row.localised is None else shown(row.localised),
            ]
        )
    return table


def region_table(summary: Summary, measure: str) -> list[list[str]]:
    """Mean and deviation over runs on frozen features: a row a cut, a column a line."""
    runs = summary.runs(measure)
    cuts = sorted({region.cut for region in summary.regions})
    rows = [
        [
            f"b{cut}",
            *(
                f"{np.mean(own[cut]):.3f} ± {deviation(own[cut]):.3f}" if cut in own else NOTHING
                for own in runs.values()
            ),
        ]
        for cut in cuts
    ]
    return [[f"frozen features: {REGIONS[measure]}", *runs], *rows]


def claim_table(claims: Sequence[Claim]) -> list[list[str]]:
    """The claims and what became of them."""
    return [
        ["figure", "claim", "rule", "found", "verdict"],
        *([c.figure, c.claim, c.rule, c.found, c.verdict] for c in claims),
    ]


def shown(p: float) -> str:
    """A p value in few digits."""
    return f"{p:.2g}" if p >= 1e-4 else "< 0.0001"


def tables(summary: Summary) -> list[tuple[str, list[list[str]]]]:
    """Title and table, in the order of reading."""
    found = list(summary.study.beside.tables)
    for kind in summary.kinds:
        measures = [own.name for own in shown_in("table") if own.name in summary.of(kind)[0].values]
        found += [(title_of(kind), measure_table(summary, kind, measure)) for measure in measures]
        for pair in (pair for pair in summary.pairs if pair.kind == kind):
            title = f"{title_of(kind)}: {pair.first.name} minus {pair.second.name}"
            found += [
                (f"{title}, {own.title}", pair_table(pair, own.name))
                for own in shown_in("differences")
                if pair.of(own.name)
            ]
    regions = [("Boxes from frozen features", region_table(summary, own)) for own in REGIONS if summary.regions]
    return [*found, *regions, ("Without training", baseline_table(summary))]


def terminal(summary: Summary, claims: Sequence[Claim]) -> str:
    """What is printed: mean IoU of every kind, the pairs, the verdicts."""
    parts = [heading(summary)]
    parts += [part for title, table in summary.study.beside.tables for part in (title, as_terminal(table))]
    for kind in summary.kinds:
        parts += [title_of(kind), as_terminal(measure_table(summary, kind, "iou"))]
        parts += [as_terminal(pair_table(pair)) for pair in summary.pairs if pair.kind == kind]
    parts += [as_terminal(region_table(summary, measure)) for measure in REGIONS if summary.regions]
    parts.append(as_terminal([row[:2] for row in baseline_table(summary)]))
    if claims:
        parts.append(as_terminal([[claim.verdict, claim.claim] for claim in claims]))
    return "\n\n".join(parts)


def markdown(summary: Summary, claims: Sequence[Claim], command: str, pictures: list[tuple[str, str]]) -> str:
    """The report for a repository; pictures: path and caption of each plot."""
    parts = [f"Made by `{command}`.", heading(summary)]
    if claims:
        parts += ["## The paper's claims", as_markdown(claim_table(claims))]
    parts += ["## Plots", *(f"![{caption}]({path})\n{caption}" for path, caption in pictures), "## Tables"]
    for title, table in tables(summary):
        parts += [f"**{title}**", as_markdown(table)]
    return "\n\n".join(parts) + "\n"
