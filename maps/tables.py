"""The study in numbers: JSON, CSV by image, Markdown and terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.accuracy import BackboneFile, line_names
from evaluation.classification import METRICS
from evaluation.learnt import NOT_TESTED, judged_by
from maps.cells import FEWEST
from maps.figures import REGIONS
from maps.kinds import title_of
from maps.levels import Level, sentence
from maps.lines import Line, shown_name
from maps.localise import BASELINE, MEAN_BOX
from maps.measures import MEASURES, shown_in
from maps.networks import is_untrained
from maps.plotting import deviation
from maps.regions import CONSTANT, Region, judged_cuts
from maps.statistics import mean_known
from maps.summary import Pair, Summary, paired
from utils.text import NOTHING, as_markdown, as_number, as_terminal

SEEDS_BY = "Student's t"  # how intervals take seeds in; reports of before resampled them


@dataclass(frozen=True)
class Claim:
    """A claim of a paper, the figure there, the rule that it is judged by, what was found, and the verdict."""

    figure: str
    claim: str
    rule: str
    found: str
    verdict: str


@dataclass(frozen=True)
class Titled:
    """A table under its title, header first, and the sentence under it."""

    title: str
    rows: list[list[str]]
    note: str = ""


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
        "radii": list(study.plan.rule.radii),
        "box_share": float(study.shares.mean()),
        **summary.bounds,
        "lines": [line_json(line) for line in summary.lines],
        "pairs": [pair_json(pair) for pair in summary.pairs],
        "levels": [level_json(level) for level in summary.levels],
        "regions": [region_json(region) for region in summary.regions],
        "untaught": study.plan.untaught(),
        "notes": [*study.plan.notes, *summary.notes],
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
    about["coarse"] = sorted(line.coarse)
    return {**about, "cases": line.values["iou"].shape[1], "degenerate_maps": int(degenerate), "measures": measures}


def level_json(level: Level) -> dict[str, Any]:
    """A line against what costs no training, cut by cut."""
    low, high = level.bounds.tolist()
    about = {"line": level.line, "map": level.kind, "measure": level.measure, "against": level.rival}
    return {**about, "cuts": list(level.cuts), "low": low, "high": high, "not_above": level.not_above}


def region_json(region: Region) -> dict[str, Any]:
    """What was learned on frozen features, without the values by image."""
    return {name: value for name, value in vars(region).items() if not isinstance(value, np.ndarray)}


def pair_json(pair: Pair) -> dict[str, Any]:
    """One line against another, measure by measure and cut by cut; `overall`: the mean over all judged cuts."""
    rows = [
        {"measure": row.measure, "cut": row.cut, **vars(row.values), "holm_p": row.adjusted, "mcnemar_p": row.localised}
        for row in pair.rows
    ]
    seeds = [list(line.seeds) for line in paired(pair.first, pair.second)]
    overall = {name: dict(zip(("mean", "low", "high"), own, strict=True)) for name, own in pair.overall.items()}
    about = {"map": pair.kind, "first": pair.first.name, "second": pair.second.name, "seeds": seeds}
    return {**about, "rows": rows, "overall": overall}


def heading(summary: Summary) -> str:
    """What was measured on what, and what could be reached, in two lines; one more a doubtful classifier."""
    study, own = summary.study, summary.bounds
    split, rule = study.plan.split, study.plan.rule
    lines = ", ".join(f"{line.name} ({len(line.seeds)})" for line in first_kind(summary) if line.trained)
    said = (*study.plan.doubts(), *study.plan.notes, *coarse_notes(summary), *summary.notes, *study.beside.notes)
    warned = "".join(f"\n{line}." for line in said)
    return (
        f"{split.description.yaml.name} `{split.name}`: {len(study.cases)} cases {study.plan.about}; seeds: {lines}. "
        f"Regions are the highest {100 - rule.percentile} % of a map.\n"
        f"Boxes take {study.shares.mean():.1%} of an image; with regions of this size the mean IoU can reach "
        f"{own['iou_ceiling']:.3f}, chance gives about {own['iou_chance']:.3f}, and {own['localisable']:.1%} of the "
        f"cases can have an IoU above 0.2 at all.{warned}"
    )


def coarse_notes(summary: Summary) -> list[str]:
    """A line for each network and kind of map that has layers which are not judged."""
    found: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    blank = summary.study.plan.blank
    for line in summary.lines:
        if line.coarse - blank and not is_untrained(line.name):
            found.setdefault((line.kind, tuple(sorted(line.coarse - blank))), []).append(line.name)
    fate = "shown in brackets and grey, judged nowhere"
    few = f"fewer than {FEWEST} × {FEWEST} cells inside most pictures: {fate}"
    notes = [f"A classifier at {blocks(blank)} learnt nothing: all maps there are {fate}"] if blank else []
    return notes + [
        f"{title_of(kind)} of {', '.join(names)} after {blocks(cuts)} has {few}"
        for (kind, cuts), names in found.items()
    ]


def blocks(cuts: Iterable[int]) -> str:
    """`b1, b2`."""
    return ", ".join(f"b{cut}" for cut in sorted(cuts))


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
    found = mean if np.isnan(low) else f"{mean} [{low:.{digits}f}, {high:.{digits}f}]"
    return f"({found})" if line.cuts[place] in line.coarse else found


def measure_table(summary: Summary, kind: str, measure: str) -> list[list[str]]:
    """A row a cut, a column a line, untrained networks and the mean box among them; header first."""
    lines, level = summary.of(kind), mean_box(summary, kind, measure)
    table = [[MEASURES[measure].title, *map(shown_name, lines), *([MEAN_BOX] if level else [])]]
    for cut in sorted({cut for line in lines for cut in line.cuts}):
        row = [cell(line, measure, line.cuts.index(cut)) if cut in line.cuts else NOTHING for line in lines]
        table.append([f"b{cut}", *row, *([level] if level else [])])
    return table


def mean_box(summary: Summary, kind: str, measure: str) -> str:
    """What the mean box has of a measure on the cases of a kind of map; nothing where the measure has no better end."""
    own = next((line for line in summary.of(BASELINE) if line.name == MEAN_BOX and measure in line.values), None)
    if own is None or not MEASURES[measure].higher:
        return ""
    chosen = summary.of(kind)[0].chosen
    if chosen is None:
        return cell(own, measure, 0)
    return f"{mean_known(own.values[measure][:, chosen, 0], None):.{MEASURES[measure].digits}f}"


def note_of(summary: Summary, kind: str, measure: str) -> str:
    """The sentence under a table of maps: which rows do not beat what costs no training, or why that is not tested."""
    if MEASURES[measure].higher and (why := untested(summary)):
        return why
    return sentence([level for level in summary.levels if (level.kind, level.measure) == (kind, measure)])


def untested(summary: Summary) -> str:
    """`Not tested: why.` where a network learnt nothing, so that nothing is compared; else empty."""
    why = summary.study.plan.untaught()
    return f"{NOT_TESTED.capitalize()}: {why}." if why else ""


def baseline_table(summary: Summary) -> list[list[str]]:
    """What costs no training."""
    measures = shown_in("baselines")
    rows = [[line.name, *(cell(line, own.name, 0) for own in measures)] for line in summary.of(BASELINE)]
    return [["baseline", *(own.title for own in measures)], *rows]


def pair_table(pair: Pair, measure: str = "iou") -> list[list[str]]:
    """Difference with its interval, share above, and p values by cut; that of the mean over the cuts last."""
    table = [["cut", "difference", "95 % interval", "above", "ties", "sign p (Holm)", "Wilcoxon p", "McNemar p"]]
    digits = MEASURES[measure].digits + 1
    for row in pair.of(measure):
        table.append(
            [
                f"b{row.cut}",
                *difference(row.values.mean, *row.values.interval, digits),
                as_number(row.values.above, ".1%"),
                as_number(row.values.ties, ".1%"),
                shown(row.adjusted),
                shown(row.values.wilcoxon),
                NOTHING if row.localised is None else shown(row.localised),
            ]
        )
    if measure in pair.overall and len(pair.cuts) > 1:
        table.append(["all judged", *difference(*pair.overall[measure], digits), *5 * [NOTHING]])
    return table


def difference(mean: float, low: float, high: float, digits: int) -> list[str]:
    """A mean difference and its interval."""
    return [as_number(mean, f"+.{digits}f"), NOTHING if np.isnan(low) else f"[{low:+.{digits}f}, {high:+.{digits}f}]"]


def region_table(summary: Summary, measure: str) -> list[list[str]]:
    """Mean and deviation over runs on frozen features: a row a cut, a column a line; in brackets what is not judged."""
    runs = summary.runs(measure)
    cuts = sorted({region.cut for region in summary.regions} - {0})
    judged = {line: cuts if line == CONSTANT else judged_cuts(summary.regions, line) for line in runs}
    runs = {line: own if 0 not in own else dict.fromkeys(cuts, own[0]) for line, own in runs.items()}

    def entry(line: str, cut: int) -> str:
        if cut not in runs[line]:
            return NOTHING
        found = f"{np.mean(runs[line][cut]):.3f} ± {deviation(runs[line][cut]):.3f}"
        return found if cut in judged[line] else f"({found})"

    rows = [[f"b{cut}", *(entry(line, cut) for line in runs)] for cut in cuts]
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


def tables(summary: Summary) -> list[Titled]:
    """Every table, in the order of reading."""
    found = [Titled(title, rows) for title, rows in summary.study.beside.tables]
    if rows := known_table(summary.study.plan.files):
        found.append(Titled("What the classifiers know", rows, "On the validation images of their training."))
    for kind in summary.kinds:
        measures = [own.name for own in shown_in("table") if own.name in summary.of(kind)[0].values]
        found += [
            Titled(title_of(kind), measure_table(summary, kind, name), note_of(summary, kind, name))
            for name in measures
        ]
        for pair in (pair for pair in summary.pairs if pair.kind == kind):
            title = f"{title_of(kind)}: {pair.first.name} minus {pair.second.name}"
            found += [
                Titled(f"{title}, {own.title}", pair_table(pair, own.name), note_of(summary, kind, own.name))
                for own in shown_in("differences")
                if pair.of(own.name)
            ]
    regions = [
        Titled("Boxes from frozen features", region_table(summary, own), region_note(summary, own))
        for own in REGIONS
        if summary.regions
    ]
    return [*found, *regions, Titled("Without training", baseline_table(summary))]


def known_table(files: Sequence[BackboneFile]) -> list[list[str]]:
    """How well each classifier knew its validation images, beside chance and the majority class; [] if unsaid."""
    if not files or any("low" not in stage for file in files for stage in file.stages):
        return []
    name = judged_by(files[0].single_label)
    lines = [f"{line}, seed {file.seed}" for line, file in zip(line_names(files), files, strict=True)]
    table = [[METRICS[name].title, *lines, "majority class", "chance"]]
    for cut in sorted({cut for file in files for cut in file.cuts}):
        stages = [file.stages[file.cuts.index(cut)] if cut in file.cuts else None for file in files]
        first = next(own for own in stages if own)
        row = [f"{own.get(name, 0):.3f} [{own['low']:.3f}, {own['high']:.3f}]" if own else NOTHING for own in stages]
        table.append([f"b{cut}", *row, f"{first['majority']:.3f}", f"{first['chance']:.3f}"])
    return table


def region_note(summary: Summary, measure: str) -> str:
    """Which features give no better boxes than untrained ones and the constant box, or why that is not tested."""
    if why := untested(summary):
        return why
    if measure == "miou" or not summary.region_levels:
        return sentence(summary.region_levels)
    return "Features are compared with untrained ones and the constant box by their mean IoU alone."


def terminal(summary: Summary, claims: Sequence[Claim]) -> str:
    """What is printed: mean IoU of every kind, the pairs, the verdicts."""
    parts = [heading(summary)]
    parts += [part for title, table in summary.study.beside.tables for part in (title, as_terminal(table))]
    for kind in summary.kinds:
        parts += [title_of(kind), as_terminal(measure_table(summary, kind, "iou")), note_of(summary, kind, "iou")]
        parts += [as_terminal(pair_table(pair)) for pair in summary.pairs if pair.kind == kind]
    for measure in REGIONS if summary.regions else ():
        parts += [as_terminal(region_table(summary, measure)), region_note(summary, measure)]
    parts.append(as_terminal([row[:2] for row in baseline_table(summary)]))
    if claims:
        parts.append(as_terminal([[claim.verdict, claim.claim] for claim in claims]))
    return "\n\n".join(filter(None, parts))


def markdown(summary: Summary, claims: Sequence[Claim], command: str, pictures: list[tuple[str, str]]) -> str:
    """The report for a repository; pictures: path and caption of each plot."""
    parts = [f"Made by `{command}`.", heading(summary)]
    if claims:
        parts += ["## The paper's claims", as_markdown(claim_table(claims))]
    parts += ["## Plots", *(f"![{caption}]({path})\n{caption}" for path, caption in pictures), "## Tables"]
    for own in tables(summary):
        parts += [f"**{own.title}**", as_markdown(own.rows), own.note]
    return "\n\n".join(filter(None, parts)) + "\n"
