"""The study as one page that opens offline, and its files in a folder."""

import base64
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maps.figures import charts, save
from maps.gallery import Group, galleries
from maps.sheet import sheet
from maps.summary import Summary
from maps.tables import Claim, as_json, heading, markdown, tables, terminal, write_values
from utils.files import json_text, make_folder, write_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Plot:
    """A plot on the page: a data URI and what stands under it."""

    name: str
    caption: str
    source: str


def write_report(
    summary: Summary,
    command: str,
    folder: Path,
    *,
    claims: Sequence[Claim] = (),
    pictures: bool = True,
    published: Path | None = None,
    figures: Path | None = None,
) -> str:
    """Write localise.json, localise.md, values/, figures/, report.html, drawn.jpg; gives what is to be printed.

    Args:
        claims: of a paper, judged on these maps.
        pictures: whether the page shows images of the data.
        published: a Markdown file to write too; the plots, the numbers and a page without images of the data go into a
            folder beside it, of the same name.
        figures: a further place for the JSON.
    """
    numbers = json_text(as_json(summary, claims, command), 1)
    write_values(summary.study, folder / "values")
    for path in filter(None, (folder / "localise.json", figures)):
        write_text(path, numbers)
    plots = draw(summary, make_folder(folder / "figures"))
    write_text(folder / "localise.md", markdown(summary, claims, command, links(plots, "figures")))
    groups = galleries(summary) if pictures else []
    write_text(folder / "report.html", page(summary, claims, command, plots, groups))
    if groups:
        (folder / "drawn.jpg").write_bytes(sheet(groups[-1]))
    if published:
        beside = make_folder(published.with_suffix(""))
        for plot in plots:
            shutil.copyfile(folder / "figures" / f"{plot.name}.png", beside / f"{plot.name}.png")
        write_text(beside / "localise.json", numbers)
        write_text(beside / "report.html", page(summary, claims, command, plots, []))
        write_text(published, markdown(summary, claims, command, links(plots, beside.name)))
    return terminal(summary, claims)


def draw(summary: Summary, folder: Path) -> list[Plot]:
    """Write every plot."""
    plots = []
    for chart in charts(summary):
        svg = base64.b64encode(save(chart, folder).encode()).decode()
        plots.append(Plot(chart.name, chart.caption, f"data:image/svg+xml;base64,{svg}"))
    return plots


def links(plots: list[Plot], folder: str) -> list[tuple[str, str]]:
    """Path and caption of each plot, as a Markdown file beside the folder links them."""
    return [(f"{folder}/{plot.name}.png", plot.caption) for plot in plots]


def page(summary: Summary, claims: Sequence[Claim], command: str, plots: list[Plot], groups: list[Group]) -> str:
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
