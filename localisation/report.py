"""The study as one page that opens offline, and its files in a folder."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from localisation.claims import Claim, judged
from localisation.figures import charts, save
from localisation.gallery import Group, galleries
from localisation.summary import Summary
from localisation.tables import as_json, heading, markdown, tables, terminal, write_values
from utils.files import make_folder, write_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Plot:
    """A plot on the page: a data URI and what stands under it."""

    name: str
    caption: str
    source: str


def write_report(summary: Summary, command: str, folder: Path, *, pictures: bool) -> str:
    """Write localise.json, localise.md, values/, figures/ and report.html; gives what is to be printed.

    Args:
        pictures: whether the page shows images of the data.
    """
    claims = judged(summary)
    write_values(summary.study, folder / "values")
    write_text(folder / "localise.json", json.dumps(as_json(summary, claims, command), indent=1) + "\n")
    figures = make_folder(folder / "figures")
    plots = []
    for chart in charts(summary):
        svg = base64.b64encode(save(chart, figures).encode()).decode()
        plots.append(Plot(chart.name, chart.caption, f"data:image/svg+xml;base64,{svg}"))
    links = [(f"figures/{plot.name}.png", plot.caption) for plot in plots]
    write_text(folder / "localise.md", markdown(summary, claims, command, links))
    groups = galleries(summary) if pictures else []
    write_text(folder / "report.html", page(summary, claims, command, plots, groups))
    return terminal(summary, claims)


def page(summary: Summary, claims: list[Claim], command: str, plots: list[Plot], groups: list[Group]) -> str:
    """The page as HTML; everything is in it."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    cuts = max((line.cuts for line in summary.lines if line.trained), key=len)
    return template.render(
        about=heading(summary),
        claims=claims,
        command=command,
        cuts=cuts,
        groups=groups,
        plots=plots,
        tables=tables(summary),
    )
