"""Every claim and number of the paper beside what the published studies found.

`python -m studies.ledger configs/ledger.yaml --results results > results/ledger.md`
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from evaluation.learnt import NOT_TESTED
from studies.claims import BLIND, DIRECTION, NOT_SEEN, REPRODUCED, UNDECIDED, compared_seeds, counted
from studies.gate import Lesson, reason
from studies.recipe import AGAIN, RUNS, StudyYaml, make_cell, run_rows
from studies.table import interval, mean_and_spread, seeds_of
from utils.config import ROOT, Section
from utils.errors import UserError, run_cli
from utils.files import read_json
from utils.names import PathName
from utils.parser import Parser
from utils.recipes import build, read_yaml
from utils.text import NOTHING, as_markdown

NOT_RUN, UNFINISHED = "not run", "not finished"
UNCOMPARED = "its classifiers were never compared with chance"
RULES = f"""Verdicts. Of maps: by the rules that each study's report states, and *{UNDECIDED}* of one seed. Of a
difference between methods: *{REPRODUCED}*, if its 95 % interval over the seeds (Student's t) is above 0; *{NOT_SEEN}*,
if it is below 0; *{UNDECIDED}*, if it contains 0 or if there is one seed. Of an order of several: the same of the
first minus the last, and *{DIRECTION}*, if that is above 0 but not every mean is above the next. *{NOT_TESTED}*: the
classifiers of a backbone were not above chance and the majority class by their interval, so that its detector shows
nothing about pre-training. *{BLIND}*: maps that are nowhere above the untrained networks and the mean box in IoU
show nothing of where a network looks. *{UNFINISHED}*: not every seed of the study is done; means and difference are
over those that are.
Where the paper's own data could not be had, its numbers are *data not available*, whatever other data say."""


class Evidence(Section):
    """Where a study is evidence for a claim: a figure of a report on maps, or a measure of methods in a table.

    Attributes:
        study: name of its yaml and of its folder under results.
        methods: each is to be above the next; a single one is only shown.
    """

    study: PathName
    report: PathName | None = None
    figure: str | None = None
    measure: str | None = None
    methods: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        maps, table = self.report and self.figure, self.measure and self.methods
        if bool(maps) == bool(table):
            raise ValueError("give `report` and `figure`, or `measure` and `methods`")
        return self


class Entry(Section):
    """A claim or a number.

    Attributes:
        where: in the paper.
        verdict, why: where no study can judge; with evidence, ours is given beside it.
    """

    where: str
    says: str
    evidence: tuple[Evidence, ...] = ()
    verdict: Literal["data not available", "contradictory in the paper"] | None = None
    why: str = ""

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if not self.evidence and not (self.verdict and self.why):
            raise ValueError("give `evidence`, or `verdict` and `why`")
        return self


class LedgerYaml(Section):
    """Keys of the ledger's yaml."""

    title: str
    claims: tuple[Entry, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Finding:
    """What a study says of a claim."""

    ours: str
    data: str
    verdict: str


def find(evidence: Evidence, results: Path, studies: Path) -> Finding:
    """What the published files of a study say."""
    if evidence.report:
        path = results / evidence.study / evidence.report / "localise.json"
        return of_maps(evidence, path, studies / f"{evidence.study}.yaml")
    return of_table(evidence, results, studies / f"{evidence.study}.yaml")


def of_maps(evidence: Evidence, path: Path, yaml: Path) -> Finding:
    """The verdict of a report on maps, if all seeds of the study that it belongs to are in it.

    Raises:
        UserError: the report has no such figure.
    """
    if not path.exists():
        return Finding(NOTHING, NOTHING, NOT_RUN)
    content = read_json(path, AGAIN)
    claim = next((own for own in content.get("claims", []) if own["figure"] == evidence.figure), None)
    if claim is None:
        raise UserError(f"judges no figure {evidence.figure}", where=path, hint="correct the ledger's yaml")
    seeds = compared_seeds(content)
    wanted = len(build(StudyYaml, read_yaml(yaml), yaml).seeds)
    done = seeds_of(seeds, wanted)
    data = f"{content['data']} `{content['split']}`, {content['images']} images, {done}"
    if "untaught" not in content:
        return Finding(NOTHING, data, f"{NOT_TESTED}: {UNCOMPARED}")
    if seeds < wanted:
        return Finding(claim["found"], data, f"{UNFINISHED} ({done})")
    return Finding(claim["found"], data, counted(content, claim["verdict"]))


def of_table(evidence: Evidence, results: Path, yaml: Path) -> Finding:
    """Methods of a table, each against the next, on the seeds that all have; their data, where they differ.

    Raises:
        UserError: the study has no such method or measure.
    """
    settings = build(StudyYaml, read_yaml(yaml), yaml)
    unknown = [name for name in evidence.methods if name not in settings.methods]
    if unknown or settings.table is None or evidence.measure not in settings.table.measures:
        what = f"has no {evidence.measure} for {', '.join(unknown or evidence.methods)}"
        raise UserError(what, where=yaml, hint="correct the ledger's yaml")
    rows = run_rows(results / evidence.study / RUNS)
    values = {method: values_of(rows, method, evidence.measure) for method in evidence.methods}
    seeds = [seed for seed in map(str, settings.seeds) if all(seed in own for own in values.values())]
    shared = [[own[seed] for seed in seeds] for own in values.values()]
    ours = ", ".join(f"{method} {mean_and_spread(own)}" for method, own in zip(values, shared, strict=True))
    data = (make_cell(settings, yaml, results, method, settings.seeds[0]).recipe.data for method in evidence.methods)
    done = seeds_of(len(seeds), len(settings.seeds))
    about = f"{', '.join(dict.fromkeys(path.name for path in data))} `{settings.table.split}`, {done}"
    if not any(values.values()):
        return Finding(ours, about, NOT_RUN)
    if len(values) == 1:
        return Finding(ours, about, NOTHING)
    if why := untaught(rows, evidence.methods, settings.table.least_auc):
        return Finding(ours, about, f"{NOT_TESTED}: {why}")
    verdict, difference = ordered(shared) if seeds else (UNDECIDED, NOTHING)
    if len(seeds) < len(settings.seeds):
        verdict = f"{UNFINISHED} ({done})"
    return Finding(f"{ours}; difference {difference}", about, verdict)


def untaught(rows: list[dict[str, str]], methods: Sequence[str], least_auc: float | None) -> str | None:
    """Why the rows of these methods prove nothing of pre-training, or None."""
    own = [row for row in rows if row["method"] in methods]
    if any("learnt" not in row for row in own):
        return UNCOMPARED
    return reason([Lesson.of(row) for row in own], least_auc)


def values_of(rows: list[dict[str, str]], method: str, measure: str) -> dict[str, float]:
    """Seed → measure of the runs of a method that have it."""
    return {row["seed"]: float(row[measure]) for row in rows if row["method"] == method and row.get(measure)}


def ordered(values: list[list[float]]) -> tuple[str, str]:
    """Whether each is above the next: verdict, and the difference between first and last as text.

    Args:
        values: of each method, on the same seeds in the same order, one at least.
    """
    apart = [first - last for first, last in zip(values[0], values[-1], strict=True)]
    means = [float(np.mean(own)) for own in values]
    if len(apart) < 2:
        return UNDECIDED, f"{means[0] - means[-1]:+.3f}"
    low, high = interval(apart)
    text = f"{np.mean(apart):+.3f} [{low:+.3f}, {high:+.3f}]"
    if low > 0:
        return (REPRODUCED if all(a > b for a, b in pairwise(means)) else DIRECTION), text
    return (NOT_SEEN if high < 0 else UNDECIDED), text


def ledger_page(ledger: LedgerYaml, command: str, results: Path, studies: Path) -> str:
    """The ledger as a table; a row for each claim and study."""
    rows = [["where", "the paper", "ours", "data", "verdict", "study"]]
    verdicts: dict[str, int] = {}
    for entry in ledger.claims:
        found: list[tuple[str, Finding]] = [(own.study, find(own, results, studies)) for own in entry.evidence]
        for study, finding in found or [("", Finding(NOTHING, NOTHING, ""))]:
            verdict = entry.verdict or finding.verdict
            verdicts[verdict] = verdicts.get(verdict, 0) + 1
            doubted = entry.verdict is not None and finding.verdict.startswith(NOT_TESTED)
            ours = f"{finding.verdict}: {finding.ours}" if doubted else finding.ours
            link = f"[{study}]({study}/README.md)" if (results / study / "README.md").exists() else study
            why = f": {entry.why}" if entry.why else ""
            rows.append([entry.where, entry.says, ours, finding.data, f"**{verdict}**{why}", link or NOTHING])
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items() if verdict != NOTHING)
    head = [f"# {ledger.title}", f"Made by `{command}`.", RULES, f"In all: {counts}."]
    return "\n\n".join([*head, as_markdown(rows, "l")])


def add_places(parser: Parser) -> None:
    """The flags --results and --studies."""
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="where studies are published [results]")
    parser.add_argument("--studies", type=Path, default=ROOT / "configs" / "studies", help="their yamls")


def main() -> None:
    """Print the ledger."""
    parser = Parser(description="The paper's claims beside what the studies found, as Markdown.")
    parser.add_argument("ledger", type=Path, help="ledger yaml")
    add_places(parser)
    arguments = parser.parse_args()
    content: dict[str, Any] = read_yaml(arguments.ledger)
    ledger = build(LedgerYaml, content, arguments.ledger)
    command = f"python -m studies.ledger {arguments.ledger} > results/ledger.md"
    print(ledger_page(ledger, command, arguments.results, arguments.studies))


if __name__ == "__main__":
    run_cli(main)
