"""What there is of each kind: `python -m studies.reference > docs/reference.md` makes the page from the tables."""

import json
from collections.abc import Callable

from data.formats import FORMATS
from evaluation.classification import METRICS
from evaluation.detection_figures import FIGURES
from maps.detector_kinds import DETECTOR_MAPS
from maps.kinds import MAPS
from maps.measures import MEASURES
from models.backbones import BACKBONES
from models.detectors import DETECTORS
from models.fcn import FCNS
from models.heads import HEADS
from training.loggers import LOGGERS
from utils.errors import run_cli
from utils.parser import Parser
from utils.tables import Table, shown
from utils.text import as_markdown
from wsol.features import FEATURES
from wsol.methods import METHODS

TABLES: dict[str, Table] = {
    "Backbones": BACKBONES,
    "Detectors": DETECTORS,
    "Classifiers of a stage": HEADS,
    "Classes of pixels from a backbone": FCNS,
    "Maps of evidence": MAPS,
    "Maps of a detector": DETECTOR_MAPS,
    "Measures of maps": MEASURES,
    "Metrics of classifiers": METRICS,
    "Figures of detectors": FIGURES,
    "Ways to find a box": METHODS,
    "Features for linear SVMs": FEATURES,
    "Data formats": FORMATS,
    "Where figures go": LOGGERS,
}
WHERE = {
    "measure": "`val.py --localise`",
    "map of a detector": "`val.py --localise --maps`, for detectors",
    "metric": "`val.py --accuracy`",
    "figure": "`metrics.json`, `measures:` of a study",
    "feature": "`python -m wsol.feature_svms --features`",
    "format": "`format:`",
}


def page() -> str:
    """The reference as Markdown."""
    parts = [
        "# What there is",
        "Made by `python -m studies.reference > docs/reference.md`. [To add more](extending.md).",
    ]
    for title, table in TABLES.items():
        rows = [["name", "what"], *([f"`{shown(own)}`", own.title] for own in table.values())]
        rows += [[f"`{name}/MODEL`", own.title] for name, own in table.families.items()]
        where = WHERE.get(table.kind, f"`{table.flag}`")
        parts += [f"## {title}", f"Given or found with {where}.", as_markdown(rows, "l")]
    return "\n\n".join(parts) + "\n"


def names() -> str:
    """What help lists of each kind, as JSON, for utils.tables.listed."""
    return json.dumps({table.kind: table.listed for table in TABLES.values()}, indent=1, sort_keys=True) + "\n"


PAGES: dict[str, Callable[[], str]] = {"page": page, "names": names}


def main() -> None:
    """Print the page, or the names."""
    parser = Parser(description="What there is of each kind, from the tables.")
    parser.add_argument(
        "what", nargs="?", choices=PAGES, default="page", help="docs/reference.md, or utils/names.json [page]"
    )
    print(PAGES[parser.parse_args().what](), end="")


if __name__ == "__main__":
    run_cli(main)
