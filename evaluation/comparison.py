"""Several detectors on the same images: figures and paired differences with intervals over images and seeds."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from data.records import Split
from data.seen import count_learnt, too_good
from evaluation.average_precision import Finding, check_weak_boxes, judged, share
from evaluation.held_out import check_levels
from evaluation.learnt import LEAST_GROUPS, NOT_TESTED, enough, groups_of, nothing_learnt
from evaluation.resampled import Sampled, over_seeds
from models.detector import Detector
from utils.console import console
from utils.errors import UserError
from utils.files import json_text, write_text
from utils.plots import canvas, write_figure
from utils.text import as_markdown, as_terminal

SEEDED = re.compile(r"(.+)_seed(\d+)")  # how studies call their runs
SHOWN = ("map", "map50", "map75")


@dataclass(frozen=True)
class Line:
    """Detectors that differ in the seed alone.

    Attributes:
        runs: seed, or the run's own name, → its figures.
        lessons: the same → what its backbone had learnt, as evaluation/learnt.py has it.
        learnt: the same → numbers of the pictures that it learnt from (data/seen.py); None: its file does not say.
    """

    name: str
    runs: dict[str, Sampled]
    lessons: dict[str, Mapping[str, Any]]
    learnt: dict[str, frozenset[int] | None] = field(default_factory=dict)

    def why_not(self, first: "Line") -> str | None:
        """Why no difference from another line is given, or None: a backbone of one of them had learnt nothing."""
        only = next(iter(first.lessons.values()))  # lines of one seed each may have different ones
        found = (nothing_learnt(own, first.lessons.get(seed, only)) for seed, own in self.lessons.items())
        return next((why for why in found if why), None)


@dataclass(frozen=True)
class Entry:
    """A figure with its interval; NaN where no box allows one, or where there is no interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.mean):
            return "–"
        bounds = "" if np.isnan(self.low) else f" [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{self.mean:+.3f}{bounds}"


def name_of(path: Path) -> str:
    """What a detector is called: its run, of a checkpoint in a run folder; else its file."""
    return path.parent.parent.name if path.parent.name == "weights" else path.stem


def lines_of(paths: Sequence[Path]) -> dict[Path, tuple[str, str]]:
    """Line and seed of each file.

    Raises:
        UserError: two would have the same, or a run without a seed is called as the line of others with seeds; lines
            have several seeds, and not the same ones.
    """
    found: dict[Path, tuple[str, str]] = {}
    for path in paths:
        match = SEEDED.fullmatch(name_of(path))
        own = (match[1], match[2]) if match else (name_of(path), "")
        if own in found.values():
            raise UserError(f"{' seed '.join(filter(None, own))} twice", where=path, hint="give each detector once")
        found[path] = own
    alone = {line for line, seed in found.values() if not seed}
    for path, (line, seed) in found.items():
        if seed and line in alone:
            what = f"{name_of(path)} and {line} would be one row, but {line} names no seed"
            raise UserError(what, where=path, hint="rename one of the run folders")
    check_seeds(found)
    return found


def check_seeds(found: Mapping[Path, tuple[str, str]]) -> None:
    """Refuse lines of several seeds that cannot be paired.

    Raises:
        UserError: one has other seeds than the first line.
    """
    seeds: dict[str, dict[str, Path]] = {}
    for path, (line, seed) in found.items():
        seeds.setdefault(line, {})[seed] = path
    first, wanted = next(iter(seeds.items()))
    for line, own in seeds.items():
        if own.keys() != wanted.keys() and not len(own) == len(wanted) == 1:
            what = f"{line} has the seeds {', '.join(own)}, {first} {', '.join(wanted)}"
            raise UserError(what, where=next(iter(own.values())), hint="give the same seeds of each")


def check_comparable(detectors: Sequence[Detector]) -> None:
    """Refuse detectors of other classes, with other levels, or without their weak boxes: these have no such figures.

    Raises:
        UserError: one is.
    """
    first = detectors[0]
    for own in detectors:
        check_weak_boxes(own)
    for own in detectors[1:]:
        if own.names != first.names:
            what = f"classes {own.names} are not those of {first.path}: {first.names}"
            raise UserError(what, where=own.path, hint="compare detectors of the same classes")
        check_levels(own.path, own.levels, first.path, first.levels)


def compare(
    detectors: Sequence[tuple[str, str, Detector]], split: Split, finding: Finding, draws: int, *, resize: bool
) -> tuple[list[Line], list[dict[str, Any]]]:
    """Find with each detector; its line and figures, and what `val.py --map` reports of each.

    Args:
        detectors: line, seed, detector.
        resize: each looks at images of the size that it was trained at.
    """
    lines: dict[str, Line] = {}
    groups, runs = groups_of(split.records), []
    for name, seed, detector in detectors:
        own = judged(detector, split, replace(finding, imgsz=detector.imgsz) if resize else finding)
        console.print(f"{name} {seed}".strip() + f": mAP50 {share(own.metrics['map50']).strip()}")
        sampled = Sampled.of(own.evaluation, detector.names, groups, draws)
        line = lines.setdefault(name, Line(name, {}, {}))
        line.runs[seed], line.lessons[seed], line.learnt[seed] = sampled, detector.lesson, detector.learnt
        runs.append({"line": name, "seed": seed, "file": str(detector.path.name), **own.metrics})
    return list(lines.values()), runs


def entries(runs: Sequence[Sampled]) -> dict[str, Entry]:
    """Every figure of some runs together."""
    mean, (low, high) = over_seeds(runs)
    names = runs[0].names
    return {name: Entry(*map(float, own)) for name, *own in zip(names, mean, low, high, strict=True)}


def difference(line: Line, first: Line) -> dict[str, Entry]:
    """How far a line is above the first one, on the same images; several seeds in pairs of equal ones."""
    alone = len(line.runs) == 1
    pairs = [(own, *first.runs.values()) if alone else (own, first.runs[seed]) for seed, own in line.runs.items()]
    return entries([one.minus(other) for one, other in pairs])


def table(lines: Sequence[Line], names: Sequence[str]) -> list[list[str]]:
    """A row a line, header first: figures, then differences from the first line."""
    first = lines[0]
    header = ["detector", "seeds", *names, *(f"{name}, minus {first.name}" for name in names)]
    rows = []
    for line in lines:
        own = entries(list(line.runs.values()))
        figures = [str(own[name]).replace("+", "") for name in names]
        rows.append([line.name, str(len(line.runs)), *figures, *differences(line, first, names)])
    return [header, *rows]


def differences(line: Line, first: Line, names: Sequence[str]) -> list[str]:
    """The cells of a line on how far it is above the first one, or why none is given."""
    if line is first:
        return ["–"] * len(names)
    if why := line.why_not(first):
        return [f"{NOT_TESTED}: {why}", *[""] * (len(names) - 1)]
    apart = difference(line, first)
    return [str(apart[name]) for name in names]


def write_comparison(
    lines: Sequence[Line], runs: list[dict[str, Any]], split: Split, draws: int, folder: Path, figures: Path | None
) -> str:
    """Write comparison.json, comparison.md and comparison.png; gives the table for the terminal.

    Args:
        figures: a further place for the JSON.
    """
    content = summed_up(lines, runs, split, draws)
    for path in filter(None, (folder / "comparison.json", figures)):
        write_text(path, json_text(content, 1))
    rows = table(lines, SHOWN)
    on = about(lines, split, draws)
    write_text(folder / "comparison.md", f"{as_markdown(rows)}\n\n{on}\n")
    save_plot(lines, folder / "comparison.png")
    return f"{on}\n\n{as_terminal(rows)}"


def about(lines: Sequence[Line], split: Split, draws: int) -> str:
    """On what the lines were judged, what their intervals are over, and how many images a detector has learnt from."""
    note = "95 % intervals over images" + (" and seeds" if any(len(line.runs) > 1 for line in lines) else "")
    if not draws:
        note = "no intervals: nothing was resampled"
    elif not enough(groups_of(split.records)):
        note = f"no intervals: they need {LEAST_GROUPS} images, or patients, at least"
    known = count_learnt(split, *(own for line in lines for own in line.learnt.values()))
    on = f"{split.description.yaml.name} `{split.name}`, {len(split.records)} images; {note}"
    return "\n".join([on, *too_good(known, len(split.records))])


def summed_up(lines: Sequence[Line], runs: list[dict[str, Any]], split: Split, draws: int) -> dict[str, Any]:
    """What comparison.json holds: figures of each line, differences from the first, and the figures of each run."""
    first = lines[0]
    untested = {line.name: why for line in lines[1:] if (why := line.why_not(first))}
    return {
        "data": split.description.yaml.name,
        "split": split.name,
        "images": len(split.records),
        "draws": draws,
        "lines": {line.name: plain(entries(list(line.runs.values()))) for line in lines},
        "minus": first.name,
        "differences": {line.name: plain(difference(line, first)) for line in lines[1:] if line.name not in untested},
        "untested": untested,
        "runs": runs,
    }


def plain(own: dict[str, Entry]) -> dict[str, dict[str, float]]:
    """Entries as JSON has them."""
    return {name: vars(entry) for name, entry in own.items()}


def save_plot(lines: Sequence[Line], path: Path) -> None:
    """Differences of mAP50 from the first line with their intervals; where none is given, its own mAP50."""
    first = lines[0]
    others = [line for line in lines[1:] if not line.why_not(first)] or lines[:1]
    found = [entries(list(line.runs.values())) if line is first else difference(line, first) for line in others]
    own = [every["map50"] for every in found]
    figure, [[axis]] = canvas(size=(7, 1.4 + 0.4 * len(own)))
    for place, entry in enumerate(own):
        reach = np.nan_to_num([[entry.mean - entry.low], [entry.high - entry.mean]])
        axis.errorbar(entry.mean, place, xerr=reach, fmt="o", capsize=3, color=f"C{place % 10}")
    if others[0] is not first:
        axis.axvline(0, color="0.4", linewidth=1)
    axis.set_yticks(range(len(own)), [line.name for line in others])
    axis.invert_yaxis()
    axis.set_xlabel(f"mAP50, difference from {first.name}" if others[0] is not first else "mAP50")
    axis.grid(alpha=0.3)
    write_figure(figure, path, dpi=120)
