"""Differences between the same methods in several studies, side by side.

`python -m studies.across configs/table1.yaml`
"""

from pathlib import Path

from pydantic import Field

from evaluation.learnt import NOT_TESTED
from studies.ledger import add_places, untaught, values_of
from studies.recipe import RUNS, StudyYaml, run_rows
from studies.table import interval, paired
from utils.config import Section
from utils.errors import UserError, run_cli
from utils.names import PathName
from utils.parser import Parser
from utils.recipes import build, read_yaml
from utils.text import NOTHING, as_markdown


class AcrossYaml(Section):
    """Keys of the yaml.

    Attributes:
        measure: of the studies' tables.
        studies: name of a study → head of its column.
        pairs: label of a row → the first method and the second, which is subtracted.
    """

    measure: str
    studies: dict[PathName, str] = Field(min_length=1)
    pairs: dict[str, tuple[str, str]] = Field(min_length=1)


def table(content: AcrossYaml, results: Path, studies: Path) -> str:
    """A row for each pair, a column for each study.

    Raises:
        UserError: a study does not publish the measure, or no study has a method.
    """
    columns = {name: settings_of(studies / f"{name}.yaml", content.measure) for name in content.studies}
    known = {method for own in columns.values() for method in own.methods}
    for method in (method for pair in content.pairs.values() for method in pair if method not in known):
        raise UserError(f"no study has {method}", where=studies, hint="correct `pairs`")
    rows = [[f"difference in {content.measure}", *content.studies.values()]]
    for label, pair in content.pairs.items():
        cells = [
            difference(own, run_rows(results / name / RUNS), pair, content.measure) for name, own in columns.items()
        ]
        rows.append([label, *cells])
    return as_markdown(rows)


def settings_of(yaml: Path, measure: str) -> StudyYaml:
    """The yaml of a study that publishes a measure.

    Raises:
        UserError: it does not.
    """
    settings = build(StudyYaml, read_yaml(yaml), yaml)
    if settings.table is None or measure not in settings.table.measures:
        raise UserError(f"publishes no {measure}", where=yaml, hint="take a measure that all studies publish")
    return settings


def difference(settings: StudyYaml, rows: list[dict[str, str]], pair: tuple[str, str], measure: str) -> str:
    """`mean [low, high]` of one method minus another, seed by seed; bold where the interval of all seeds has no zero.

    A dash where there are fewer than two seeds with both.
    """
    first, second = (values_of(rows, method, measure) for method in pair)
    apart = [first[seed] - second[seed] for seed in map(str, settings.seeds) if seed in first and seed in second]
    if len(apart) < 2:
        return NOTHING
    if why := untaught(rows, pair, settings.table.least_auc if settings.table else None):
        return f"{NOT_TESTED}: {why}"
    low, high = interval(apart)
    text = paired(apart, len(settings.seeds))
    return f"**{text}**" if len(apart) == len(settings.seeds) and (low > 0 or high < 0) else text


def main() -> None:
    """Print the table."""
    parser = Parser(description="Differences between the same methods in several studies, as Markdown.")
    parser.add_argument("yaml", type=Path, help="names measure, studies and pairs")
    add_places(parser)
    arguments = parser.parse_args()
    content = build(AcrossYaml, read_yaml(arguments.yaml), arguments.yaml)
    print(table(content, arguments.results, arguments.studies))


if __name__ == "__main__":
    run_cli(main)
