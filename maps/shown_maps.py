"""How many maps show nothing, and what is left of a difference on the cases where both sides show something.

A Grad-CAM without anything positive counts as wrong in a report. `python -m maps.shown_maps FOLDER cl6 e2e`
reads the values by image that a report has left beside it.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maps.statistics import DRAWS, Resamples, compare, mean_known
from maps.value_files import GROUP
from utils.errors import UserError, run_cli
from utils.flags import resamples
from utils.parser import Parser
from utils.text import NOTHING, as_markdown, as_number


@dataclass(frozen=True)
class Values:
    """One measure of one kind of map, by case.

    Attributes:
        columns: line, cut → seed → [cases].
        groups: [cases] whose image each is, as in Study.groups; None where the file is older than that column.
    """

    columns: dict[tuple[str, str], dict[str, np.ndarray]]
    groups: list[str] | None

    def of(self, line: str, cut: str, seeds: Sequence[str]) -> np.ndarray:
        """[seeds, cases]."""
        return np.stack([self.columns[line, cut][seed] for seed in seeds])


def shown_table(folder: Path, kind: str, first: str, second: str, draws: int = DRAWS) -> tuple[list[list[str]], str]:
    """A row a cut, and what its intervals are over.

    A row has shares of empty maps, and the IoU of the others with 95 % intervals of the difference, over seeds and
    cases. A case counts in the seeds in which both sides have a map of it.

    Raises:
        UserError: no values there, none of these lines, or no seed that both have.
    """
    empty, iou = (read_values(folder / f"{name}.csv", kind) for name in ("degenerate", "iou"))
    cuts = [cut for line, cut in empty.columns if line == first and (second, cut) in empty.columns]
    if not cuts:
        lines = ", ".join(sorted({line for line, _ in empty.columns}))
        raise UserError(f"no {kind} of {first} and {second}", where=folder, hint=f"give two of {lines or 'none'}")
    own, other = (empty.columns[line, cuts[0]] for line in (first, second))
    seeds = [seed for seed in own if seed in other]
    if not seeds:
        what = f"{first} has {', '.join(own)}, {second} {', '.join(other)}"
        raise UserError(what, where=folder, hint="give lines that have a seed in common")
    resamples = Resamples(len(own[seeds[0]]), empty.groups, draws=draws)
    rows = [
        row(cut, resamples, *(part.of(line, cut, seeds) for part in (empty, iou) for line in (first, second)))
        for cut in cuts
    ]
    head = ["cut", f"{first} empty", f"{second} empty", "cases left", first, second, "difference", "above", "ties"]
    return [head, *rows], about(seeds, empty.groups)


def about(seeds: Sequence[str], groups: Sequence[str] | None) -> str:
    """What the intervals are over."""
    drawn = "those of one patient, or image, are drawn together"
    if groups is None:
        drawn = f"each is drawn by itself, since these values are older than their column `{GROUP}`"
    return f"95 % intervals over {', '.join(seeds)} and the cases; {drawn}."


def row(
    cut: str, resamples: Resamples, empty: np.ndarray, other_empty: np.ndarray, iou: np.ndarray, other_iou: np.ndarray
) -> list[str]:
    """Of one cut; all arrays are [seeds, cases]."""
    both = (empty == 0) & (other_empty == 0)
    cells = [
        cut,
        *(f"{own:.1%}" for own in (mean_known(empty, None), mean_known(other_empty, None), both.any(0).mean())),
    ]
    if not both.any():
        return [*cells, *[NOTHING] * 5]
    sides = [np.where(both, side, np.nan) for side in (iou, other_iou)]
    apart = sides[0] - sides[1]
    interval = resamples.interval(apart[:, :, None], differences=True)[:, 0]
    found = compare(apart, interval, resamples.cluster.tolist())
    low, high = found.interval
    difference = f"{found.mean:+.4f}" + ("" if np.isnan(low) else f" [{low:+.4f}, {high:+.4f}]")
    means = [f"{mean_known(side, None):.3f}" for side in sides]
    return [*cells, *means, difference, as_number(found.above, ".1%"), f"{found.ties:.1%}"]


def read_values(path: Path, kind: str) -> Values:
    """The columns of one kind of map.

    Raises:
        UserError: no such file, or not one that a report has left.
    """
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        for place, name in enumerate(header):
            if name.startswith(f"{kind}/"):
                line, seed, cut = name.removeprefix(f"{kind}/").rsplit("/", 2)  # lines may have / in their names
                found.setdefault((line, cut), {})[seed] = np.array([float(own[place]) for own in rows])
        groups = [own[header.index(GROUP)] for own in rows] if GROUP in header else None
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UserError("no values by image", where=path, hint="give `values` of a report's folder") from error
    return Values(found, groups)


def main() -> None:
    """Print the table."""
    parser = Parser(description="Empty maps, and differences without them, as Markdown.")
    parser.add_argument("folder", type=Path, help="values/ of a report")
    parser.add_argument("first", help="a line of the report, such as cl6")
    parser.add_argument("second", help="another, such as e2e")
    parser.add_argument("--map", default="gradcam", help="kind of map [gradcam]")
    parser.add_argument("--bootstrap", type=resamples, default=DRAWS, help=f"resamples [{DRAWS}]")
    arguments = parser.parse_args()
    rows, note = shown_table(arguments.folder, arguments.map, arguments.first, arguments.second, arguments.bootstrap)
    print(f"{as_markdown(rows)}\n\n{note}")


if __name__ == "__main__":
    run_cli(main)
