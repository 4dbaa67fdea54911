"""The plots of the study; each is kept as PNG and SVG, with its numbers as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from maps.binary import PERCENTILES
from maps.kinds import title_of
from maps.lines import Line, shown_name
from maps.localise import BASELINE, Row
from maps.measures import MEASURES, shown_in
from maps.overlap import chance_iou, furthest_above_chance
from maps.plotting import DASHES, MARKERS, Chart, deviation, line_chart, ticks
from maps.regions import CONSTANT, judged_cuts
from maps.statistics import mean_known
from maps.summary import IOU_THRESHOLDS, Pair, Summary, paired
from utils.plots import canvas
from utils.text import as_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REGIONS = {"miou": "mIoU", "map50": "mAP50"}


def charts(summary: Summary) -> Iterator[Chart]:
    """Every plot that the measured lines allow, one after another: a figure is drawn when it is asked for."""
    for kind in summary.kinds:
        pairs = [pair for pair in summary.pairs if pair.kind == kind]
        for number, pair in enumerate(pairs, start=1):
            suffix = f"_{number}" if len(pairs) > 1 else ""
            yield scatter(pair, f"scatter_{kind}{suffix}")
            yield scatter_by_layer(pair, f"scatter_layers_{kind}{suffix}")
            yield differences(pair, f"difference_{kind}{suffix}")
        regions = kind == "lime"
        yield from (curve(summary, kind, own.name) for own in shown_in("region chart" if regions else "chart"))
        if not regions:
            yield spectra(summary, kind)
            yield thresholds(summary, kind)
            yield percentiles(summary, kind)
            yield curve(summary, kind, "iou", small=True)
    if summary.regions:
        yield from (region_curve(summary, measure) for measure in REGIONS)


def region_curve(summary: Summary, measure: str) -> Chart:
    """What one convolution on frozen features reaches, by depth (figure 6)."""

    def draw(axis: Axes) -> list[Row]:
        rows: list[Row] = []
        for number, (line, cuts) in enumerate(summary.runs(measure).items()):
            if line == CONSTANT:
                axis.axhline(cuts[0][0], color="0.5", linewidth=1, linestyle="--", label=line)
                rows.append({"line": line, "mean": cuts[0][0]})
                continue
            means, spreads = ([float(f(runs)) for runs in cuts.values()] for f in (np.mean, deviation))
            colour, judged = f"C{number % 10}", judged_cuts(summary.regions, line)
            label = f"{line} ({len(next(iter(cuts.values())))} runs)"
            known = plot_judged(axis, list(cuts), means, judged, number, label)
            low, high = np.subtract(known, spreads), np.add(known, spreads)
            axis.fill_between(list(cuts), low, high, color=colour, alpha=0.18, linewidth=0)
            rows += [
                {"line": line, "cut": f"b{cut}", "mean": mean, "sd": spread}
                for cut, mean, spread in zip(cuts, means, spreads, strict=True)
            ]
        ticks(axis, sorted({region.cut for region in summary.regions} - {0}))
        axis.set_ylabel(REGIONS[measure])
        return rows

    caption = (
        f"Boxes from frozen features, one convolution trained on each: {REGIONS[measure]}, mean ± deviation of runs."
    )
    return line_chart(f"regions_{measure}", caption, draw)


def points(axis: Axes, pair: Pair, cut: int) -> list[Row]:
    """IoU of one line over that of the other, a point a case, with the diagonal."""
    one, other = pair.ious(cut)
    row = next(row for row in pair.of("iou") if row.cut == cut)
    axis.plot([0, 1], [0, 1], color="0.4", linewidth=1)
    axis.scatter(other, one, s=9, alpha=max(0.08, min(0.6, 150 / len(one))), linewidths=0, rasterized=True)
    most = max(0.1, float(np.nanmax([one, other, np.zeros_like(one)])) * 1.03)
    title = f"b{cut}: {as_number(row.values.above, '.0%')} above the diagonal"
    axis.set(xlim=(0, most), ylim=(0, most), title=title, aspect="equal")
    return [
        {"case": number, "cut": f"b{cut}", pair.second.name: float(b), pair.first.name: float(a)}
        for number, (a, b) in enumerate(zip(one, other, strict=True))
    ]


def scatter(pair: Pair, name: str) -> Chart:
    """IoU of the two lines at the last cut that both have (figures 4a, 4b and 9a, 9b of the paper)."""
    figure, axes = canvas(size=(4.8, 4.8))
    rows = points(axes[0, 0], pair, pair.cuts[-1])
    axes[0, 0].set(xlabel=f"IoU, {pair.second.name}", ylabel=f"IoU, {pair.first.name}")
    last = next(row for row in pair.of("iou") if row.cut == pair.cuts[-1]).values
    several = len(paired(pair.first, pair.second)[0].seeds) > 1
    each, counted = ("mean IoU of each case", "of all seeds and cases ") if several else ("IoU of each case", "")
    caption = (
        f"{title_of(pair.kind)} after b{pair.cuts[-1]}: {each}, {pair.first.name} against "
        f"{pair.second.name}. {as_number(last.above, '.1%')} {counted}are above the diagonal, "
        f"{as_number(last.ties, '.1%')} are ties and not counted."
    )
    return Chart(name, caption, figure, rows)


def scatter_by_layer(pair: Pair, name: str) -> Chart:
    """The same at every cut."""
    across = min(3, len(pair.cuts))
    down = -(-len(pair.cuts) // across)
    figure, axes = canvas(down, across, (3.1 * across, 3.2 * down))
    rows: list[Row] = []
    for axis in axes.flat[len(pair.cuts) :]:
        axis.axis("off")
    for axis, cut in zip(axes.flat, pair.cuts, strict=False):
        rows += points(axis, pair, cut)
    figure.supxlabel(f"IoU, {pair.second.name}", fontsize=10)
    figure.supylabel(f"IoU, {pair.first.name}", fontsize=10)
    return Chart(name, f"{title_of(pair.kind)}: the same after every block.", figure, rows)


def differences(pair: Pair, name: str) -> Chart:
    """Mean difference of the IoU by cut, with its interval."""

    def draw(axis: Axes) -> list[Row]:
        rows = pair.of("iou")
        low, high = zip(*(row.values.interval for row in rows), strict=True)
        cuts = [row.cut for row in rows]
        axis.axhline(0, color="0.4", linewidth=1)
        axis.fill_between(cuts, low, high, alpha=0.2, linewidth=0)
        axis.plot(cuts, [row.values.mean for row in rows], marker="o", label=f"{pair.first.name} − {pair.second.name}")
        ticks(axis, cuts)
        axis.set(ylabel="difference of the IoU")
        return [
            {"cut": f"b{row.cut}", "difference": row.values.mean, "low": own[0], "high": own[1], "holm_p": row.adjusted}
            for row in rows
            for own in [row.values.interval]
        ]

    caption = (
        f"{title_of(pair.kind)}: {pair.first.name} minus {pair.second.name}, mean difference with its 95 % interval."
    )
    return line_chart(name, caption, draw)


def curve(summary: Summary, kind: str, measure: str, *, small: bool = False) -> Chart:
    """A measure by depth, a line each, with 95 % intervals; baselines as dashed levels (4c, 4d, 5, 7, 9c, 9d)."""

    def draw(axis: Axes) -> list[Row]:
        rows: list[Row] = []
        for number, line in enumerate(line for line in summary.of(kind) if line.trained):
            rows += draw_line(axis, line, measure, number, summary.small if small else None)
        cuts = sorted({cut for line in summary.of(kind) for cut in line.cuts})
        rows += draw_levels(axis, summary, kind, measure, summary.small if small else None)
        ticks(axis, cuts)
        axis.set_ylabel(MEASURES[measure].title)
        return rows

    what = f"{title_of(kind)}: {MEASURES[measure].title} by depth"
    if small:
        return line_chart(f"small_{kind}", f"{what}, only the third of the cases with the smallest boxes.", draw)
    name = f"{measure}_{kind}"
    return line_chart(name, f"{what}; bands are 95 % intervals, dashed lines are baselines without training.", draw)


def draw_line(axis: Axes, line: Line, measure: str, number: int, only: np.ndarray | None) -> list[Row]:
    """A line with its interval; of some cases, without."""
    means = line.mean(measure) if only is None else mean_known(line.values[measure][:, only], (0, 1))
    plot_judged(axis, line.cuts, means, line.judged, number, shown_name(line))
    rows = by_cut(line, means)
    if only is None:
        low, high = line.intervals[measure]
        places = [line.cuts.index(cut) for cut in line.judged]
        axis.fill_between(line.judged, low[places], high[places], color=f"C{number % 10}", alpha=0.18, linewidth=0)
        for row, a, b in zip(rows, low, high, strict=True):
            row |= {"low": float(a), "high": float(b)}
    return rows


def plot_judged(
    axis: Axes,
    cuts: Sequence[int],
    means: Sequence[float] | np.ndarray,
    judged: Sequence[int],
    number: int,
    label: str,
) -> list[float]:
    """A line in its colour at the cuts that are judged, grey where it is only shown; the means, NaN at those."""
    marker = MARKERS[number % len(MARKERS)]
    if set(cuts) - set(judged):
        axis.plot(cuts, means, color="0.8", marker=marker, markerfacecolor="white", zorder=1)
    known = [float(own) if cut in judged else np.nan for cut, own in zip(cuts, means, strict=True)]
    axis.plot(cuts, known, color=f"C{number % 10}", marker=marker, label=label)
    return known


def by_cut(line: Line, means: np.ndarray) -> list[Row]:
    """A row for each cut."""
    return [
        {"line": line.name, "cut": f"b{cut}", "mean": float(own)} for cut, own in zip(line.cuts, means, strict=True)
    ]


def draw_levels(axis: Axes, summary: Summary, kind: str, measure: str, only: np.ndarray | None) -> list[Row]:
    """What an untrained network and the baselines reach."""
    rows: list[Row] = []
    for line in summary.of(kind):
        if not line.trained:
            means = mean_known(line.values[measure][:, slice(None) if only is None else only], (0, 1))
            axis.plot(line.cuts, means, color="0.3", linewidth=1, linestyle=":", marker=".", label=shown_name(line))
            if only is None:
                axis.fill_between(line.cuts, *line.intervals[measure], color="0.5", alpha=0.12, linewidth=0)
            rows += [
                {"line": line.name, "cut": f"b{c}", "mean": float(m)} for c, m in zip(line.cuts, means, strict=True)
            ]
    for dashes, line in zip(DASHES, summary.of(BASELINE), strict=False):
        chosen = summary.of(kind)[0].chosen if only is None else only
        if MEASURES[measure].higher is None or measure not in line.values:
            continue
        level = float(mean_known(line.values[measure][:, slice(None) if chosen is None else chosen], None))
        axis.axhline(level, color="0.5", linewidth=1, linestyle=dashes, label=line.name)
        rows.append({"line": line.name, "mean": level})
    return rows


def last_cut(line: Line, values: np.ndarray) -> np.ndarray:
    """Mean over seeds and cases at the last cut that is judged, of values [seeds, cases, cuts, …]."""
    return mean_known(values[:, :, line.ends[1]], (0, 1))


def swept(
    summary: Summary, kind: str, name: str, caption: str, xs: Sequence[float], of: Callable[[Line], Sequence[float]],
    labels: tuple[str, str], beside: Mapping[str, Sequence[float]] | None = None,
) -> Chart:  # fmt: skip
    """A curve over something that is chosen, at the last cut, for each line, and what is beside the lines."""

    def draw(axis: Axes) -> list[Row]:
        rows: list[Row] = []

        def plot(name: str, values: Sequence[float], label: str, **style: str) -> None:
            axis.plot(xs, values, marker=".", label=label, **style)  # type: ignore[arg-type]
            rows.extend({"line": name, labels[0]: float(x), labels[1]: y} for x, y in zip(xs, values, strict=True))

        for number, line in enumerate(summary.of(kind)):
            style = {"color": f"C{number % 10}"} if line.trained else {"color": "0.4", "linestyle": ":"}
            plot(line.name, [float(value) for value in of(line)], f"{line.name}, b{line.cuts[line.ends[1]]}", **style)
        for name, values in (beside or {}).items():
            plot(name, values, name, color="0.4", linestyle="--")
        axis.set(xlabel=labels[0], ylabel=labels[1])
        return rows

    return line_chart(name, caption, draw)


def thresholds(summary: Summary, kind: str) -> Chart:
    """Localisation accuracy over the IoU that it asks for."""
    caption = f"{title_of(kind)} after the last judged block: fraction of the cases with an IoU above a threshold."
    labels = ("IoU threshold", "localisation accuracy")
    values = [(lambda line, t=t: line.localised_at(t)[line.ends[1]]) for t in IOU_THRESHOLDS]
    return swept(
        summary, kind, f"thresholds_{kind}", caption, IOU_THRESHOLDS, lambda line: [own(line) for own in values], labels
    )


def percentiles(summary: Summary, kind: str) -> Chart:
    """Mean IoU over the percentile above which pixels count."""
    what = f"{title_of(kind)} after the last judged block: mean IoU if another percentile had been chosen."
    caption = f"{what} {at_best(summary, kind)}"

    chance = [float(chance_iou(summary.study.shares, 1 - p / 100).mean()) for p in PERCENTILES]
    return swept(
        summary, kind, f"percentiles_{kind}", caption, PERCENTILES, lambda line: list(by_percentile(line).values()),
        ("percentile", "mean IoU"), {"chance": chance},
    )  # fmt: skip


def by_percentile(line: Line) -> dict[int, float]:
    """Mean IoU at the last cut that is judged, at each percentile."""
    return {p: float(last_cut(line, line.values[f"iou_{p}"])) for p in PERCENTILES}


def at_best(summary: Summary, kind: str) -> str:
    """Which percentile would be best for each trained line, and whether it is at the edge of what was tried."""
    words = []
    for line in summary.of(kind):
        if line.trained:
            best = furthest_above_chance(by_percentile(line), summary.study.shares)
            edge = " (at the edge: a better one may be beyond it)" if best in (PERCENTILES[0], PERCENTILES[-1]) else ""
            words.append(f"{best} for {line.name}{edge}")
    return f"Furthest above chance on these cases: {', '.join(words)}."


def spectra(summary: Summary, kind: str) -> Chart:
    """Fraction of pixels that survive an opening, over the radius of its disk, after the first and the last block."""

    def draw(axis: Axes) -> list[Row]:
        rows: list[Row] = []
        for number, line in enumerate(line for line in summary.of(kind) if line.trained):
            radii = summary.study.plan.rule.radii or range(line.values["survivors"].shape[-1])
            for place, style in zip(line.ends, ("--", "-"), strict=True):
                left = mean_known(line.values["survivors"][:, :, place], (0, 1))
                share, cut = left / left[0], f"b{line.cuts[place]}"
                axis.plot(radii, share, color=f"C{number % 10}", linestyle=style, label=f"{line.name}, {cut}")
                rows += [
                    {"line": line.name, "cut": cut, "radius": radius, "share": float(own)}
                    for radius, own in zip(radii, share, strict=True)
                ]
        axis.set(xlabel="radius of the disk, pixels", ylabel="fraction of pixels that survive", ylim=(0, 1.02))
        return rows

    caption = f"{title_of(kind)}: granulometric spectrum after the first (dashed) and the last judged block (solid)."
    return line_chart(f"spectrum_{kind}", caption, draw)
