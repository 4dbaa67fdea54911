"""Tables 1, 2 and 3 on attention mining (Cai et al., arXiv 1807.03215), from figures of `val.py --localise`.

`python -m wsol.mining_tables 512/localisers.json 1024/localisers.json --report tables.md`
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evaluation.accuracy_report import shown_command
from utils.errors import UserError, run_cli
from utils.files import write_text
from utils.flags import written_as
from utils.parser import Parser
from utils.text import as_markdown, as_terminal
from wsol.judge import ACCURACY, taken_apart
from wsol.methods import METHODS
from wsol.ranked import DENOMINATORS, REFERENCE, Ranked, ranked_table
from wsol.report import NOTHING

TABLE_1, TABLE_3 = "0.3", ("0.1", "0.3")  # IoU
SETUPS = {"off": "baseline", "bilinear": "bilinear", "deconv": "deconv."}
KEPT = {"none": "w/o KP", "vanilla": "KP-Vanilla", "features": "KP"}


@dataclass(frozen=True)
class Line:
    """A row of some figures.

    Attributes:
        imgsz: side of the images.
        line: of the network.
        options: of mining; of CAM, which is its first step, those of one step.
        accuracy: (class, IoU) → accuracy of all boxes.
    """

    imgsz: int
    line: str
    options: dict[str, Any]
    accuracy: dict[tuple[str, str], float]

    @property
    def setup(self) -> str:
        """As in table 1."""
        return f"{self.imgsz}-{SETUPS[self.options['aggregate']]}"


def read_lines(path: Path) -> tuple[list[Line], list[Ranked], str]:
    """The rows of mining and CAM of a file, its ranked lists, and what their false positives are over.

    Raises:
        UserError: it has none.
    """
    hint = "give a localisers.json of `val.py --localise --method mining …`"
    try:
        content = json.loads(path.read_text())
        lines = [line for row in content["rows"] if (line := line_of(row, int(content["imgsz"])))]
        lists = [of_size(Ranked(**row), int(content["imgsz"])) for row in content["ranked"]]
        over = DENOMINATORS[content.get("ranked_over", "class")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"holds no figures of `val.py --localise` ({error})", where=path, hint=hint) from error
    if not lines:
        raise UserError("has no row of mining or CAM with accuracies by class", where=path, hint=hint)
    return lines, lists, over


def of_size(own: Ranked, imgsz: int) -> Ranked:
    """With the size beside its features; the reference has none."""
    return own if own.line == REFERENCE else replace(own, line=f"{own.line}, {imgsz} px")


def line_of(row: dict[str, Any], imgsz: int) -> Line | None:
    """A row, if it is of mining or CAM."""
    chosen = METHODS.choose(row["method"])
    mined = METHODS.choose("mining:steps=1").options
    if chosen.entry.name not in ("mining", "cam"):
        return None
    keys = (taken_apart(name) for name in row["values"] if name.startswith(f"{ACCURACY}/"))
    found = {(label, iou): row["values"][f"{key}/{label}/{iou}"]["mean"] for key, label, iou in keys}
    return Line(imgsz, row["line"], mined | chosen.options, found) if found else None


def table_1(lines: Sequence[Line]) -> list[list[str]]:
    """A row for each size and way of aggregation, before mining; all boxes at an IoU of 0.3."""
    first = [line for line in lines if line.options["steps"] == 1]
    labels = labels_of(lines)
    return [["", "features", *labels], *([own.setup, own.line, *shown(own, TABLE_1, labels)] for own in first)]


def table_3(lines: Sequence[Line]) -> list[list[str]]:
    """A row for each IoU and step, and for each IoU and way of preservation at the last step."""
    labels = labels_of(lines)
    table = [["", "T(IoU)", "method", "setup", "features", *labels]]
    for part, named in (("AM", by_step(lines)), ("KP", by_preservation(lines))):
        own = list(named)
        for iou in TABLE_3:
            table += [[part, iou, name, line.setup, line.line, *shown(line, iou, labels)] for name, line in own]
    return table


def by_step(lines: Sequence[Line]) -> Iterator[tuple[str, Line]]:
    """`t=1` and so on, of mining with erasure and preserved features."""
    for line in sorted(lines, key=lambda line: int(line.options["steps"])):
        if line.options["erase"] == "on" and line.options["keep"] == "features":
            yield f"t={line.options['steps']}", line


def by_preservation(lines: Sequence[Line]) -> Iterator[tuple[str, Line]]:
    """Each way of preservation, at the most steps that there are."""
    last = max(int(line.options["steps"]) for line in lines)
    for keep, name in KEPT.items():
        for line in lines:
            if (line.options["keep"], line.options["steps"], line.options["erase"]) == (keep, last, "on"):
                yield name, line


def labels_of(lines: Sequence[Line]) -> list[str]:
    """Classes in the order of the figures."""
    return list(dict.fromkeys(label for line in lines for label, _ in line.accuracy))


def shown(line: Line, iou: str, labels: Sequence[str]) -> list[str]:
    """Cells of a row."""
    return [f"{line.accuracy[label, iou]:.2f}" if (label, iou) in line.accuracy else NOTHING for label in labels]


def main() -> None:
    """Print the tables."""
    parser = Parser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="localisers.json of one size each")
    parser.add_argument("--report", type=written_as(".md"), help="write the tables to this Markdown file too")
    arguments = parser.parse_args()
    read = [read_lines(path) for path in arguments.files]
    lines, lists = once(line for own, *_ in read for line in own), [one for _, own, _ in read for one in own]
    over = "Table 2: " + " ".join(dict.fromkeys(said for *_, said in read))
    ranked = "Table 2: accuracy-false positives of ranked lists, up to the reference's false positives"
    tables = {
        f"Table 1: accuracy at IoU {TABLE_1} of all boxes, before mining": table_1(lines),
        **({ranked: ranked_table(lists)} if lists else {}),
        "Table 3: accuracy of all boxes, by step and by preservation": table_3(lines),
    }
    for title, table in tables.items():
        print(f"{title}\n\n{as_terminal(table)}\n")
    said = [over if lists else "There is no table 2: ranked lists are made with `val.py --localise --reference`."]
    print(*said)
    if arguments.report:
        made = f"Made by `{shown_command(sys.argv[1:], ('-m', 'wsol.mining_tables'))}`."
        parts = [f"{title}\n\n{as_markdown(table)}" for title, table in tables.items()]
        write_text(arguments.report, "\n\n".join([made, *parts, *said]) + "\n")


def once(lines: Iterable[Line]) -> list[Line]:
    """Lines without those that an earlier one equals: files may share the rows of CAM."""
    found: list[Line] = []
    for line in lines:
        if line not in found:
            found.append(line)
    return found


if __name__ == "__main__":
    run_cli(main)
