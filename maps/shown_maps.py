"""How many maps show nothing, and what is left of a difference on the cases where both sides show something.

A Grad-CAM without anything positive counts as wrong in a report. `python -m maps.shown_maps FOLDER cl6 e2e`
reads the values by image that a report has left beside it.
"""

import csv
from pathlib import Path

import numpy as np

from maps.statistics import DRAWS, Resamples
from utils.errors import UserError, run_cli
from utils.parser import Parser
from utils.text import NOTHING, as_markdown, as_number

Columns = dict[tuple[str, str], np.ndarray]  # line, cut → [cases, seeds]


def shown_table(folder: Path, kind: str, first: str, second: str, draws: int = DRAWS) -> list[list[str]]:
    """A row a cut: shares of empty maps, and the IoU of the others with 95 % intervals of the difference by case.

    A case's difference is the mean over the seeds in which both sides have a map of it.

    Raises:
        UserError: no values there, or none of these lines.
    """
    empty, iou = (read_values(folder / f"{name}.csv", kind) for name in ("degenerate", "iou"))
    cuts = [cut for line, cut in empty if line == first and (second, cut) in empty]
    if not cuts:
        lines = ", ".join(sorted({line for line, _ in empty}))
        raise UserError(f"no {kind} of {first} and {second}", where=folder, hint=f"give two of {lines or 'none'}")
    head = ["cut", f"{first} empty", f"{second} empty", "cases left", first, second, "difference", "above", "ties"]
    a, b = first, second
    return [head, *(row(cut, empty[a, cut], empty[b, cut], iou[a, cut], iou[b, cut], draws) for cut in cuts)]


def row(
    cut: str, empty: np.ndarray, other_empty: np.ndarray, iou: np.ndarray, other_iou: np.ndarray, draws: int
) -> list[str]:
    """Of one cut; all arrays are [cases, seeds]."""
    both = (empty == 0) & (other_empty == 0)
    left = both.any(1)
    own, other = (
        np.nanmean(np.where(both, side, np.nan)[left], 1) if left.any() else np.zeros(0) for side in (iou, other_iou)
    )
    told = [cut, f"{empty.mean():.1%}", f"{other_empty.mean():.1%}", f"{left.mean():.1%}"]
    if len(own) < 2:
        return [*told, *[NOTHING] * 5]
    apart = own - other
    low, high = Resamples(len(apart), draws=draws).interval(apart[None, :, None])[:, 0]
    ties = np.isclose(apart, 0)
    above = as_number((apart[~ties] > 0).mean() if (~ties).any() else None, ".1%")
    difference = f"{apart.mean():+.4f}" + ("" if np.isnan(low) else f" [{low:+.4f}, {high:+.4f}]")
    return [*told, f"{own.mean():.3f}", f"{other.mean():.3f}", difference, above, f"{ties.mean():.1%}"]


def read_values(path: Path, kind: str) -> Columns:
    """The columns of one kind of map.

    Raises:
        UserError: no such file, or not one that a report has left.
    """
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    try:
        with path.open(newline="") as file:
            header, *rows = csv.reader(file)
        for place, name in enumerate(header):
            if name.startswith(f"{kind}/"):
                line, _, cut = name.removeprefix(f"{kind}/").rsplit("/", 2)  # lines may have / in their names
                found.setdefault((line, cut), []).append(np.array([float(own[place]) for own in rows]))
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise UserError("no values by image", where=path, hint="give `values` of a report's folder") from error
    return {key: np.stack(own, 1) for key, own in found.items()}


def main() -> None:
    """Print the table."""
    parser = Parser(description="Empty maps, and differences without them, as Markdown.")
    parser.add_argument("folder", type=Path, help="values/ of a report")
    parser.add_argument("first", help="a line of the report, such as cl6")
    parser.add_argument("second", help="another, such as e2e")
    parser.add_argument("--map", default="gradcam", help="kind of map [gradcam]")
    parser.add_argument("--bootstrap", type=int, default=DRAWS, help=f"resamples [{DRAWS}]")
    arguments = parser.parse_args()
    found = shown_table(arguments.folder, arguments.map, arguments.first, arguments.second, arguments.bootstrap)
    print(as_markdown(found))


if __name__ == "__main__":
    run_cli(main)
