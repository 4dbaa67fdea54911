"""The study as one page that opens offline, and its files in a folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from maps.figures import charts
from maps.gallery import galleries
from maps.kinds import title_of
from maps.lime_pictures import pipeline
from maps.lines import shown_name
from maps.localise import Study
from maps.measures import MEASURES
from maps.overlay import as_jpeg, as_uri
from maps.plotting import save
from maps.sheet import in_a_row, sheet
from maps.shown import Group
from maps.summary import Summary
from maps.tables import Claim, as_json, heading, markdown, tables, terminal
from maps.value_files import write_values
from utils.files import json_text, make_folder, write_bytes, write_text
from utils.pages import filled, svg_uri

TEMPLATE = Path(__file__).with_name("report.html.jinja")


@dataclass(frozen=True)
class Plot:
    """A plot on the page: a data URI and what is under it."""

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
    """Write localise.json, localise.md, values/, figures/, report.html and pictures; gives what is to be printed.

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
        drawn = [group for group in groups if group.exhibits[0].strips[0].kind != "lime"]
        write_bytes(folder / "drawn.jpg", sheet(drawn[-1]))
    if groups and summary.study.lime:
        write_bytes(folder / "lime_pipeline.jpg", as_jpeg(in_a_row(pipeline(summary.study.lime[0]))))
    if published:
        beside = make_folder(published.with_suffix(""))
        for plot in plots:
            write_bytes(beside / f"{plot.name}.png", (folder / "figures" / f"{plot.name}.png").read_bytes())
        write_text(beside / "localise.json", numbers)
        write_text(beside / "report.html", page(summary, claims, command, plots, []))
        write_text(published, markdown(summary, claims, command, links(plots, beside.name)))
    return terminal(summary, claims)


def draw(summary: Summary, folder: Path) -> list[Plot]:
    """Write every plot."""
    plots = []
    for chart in charts(summary):
        plots.append(Plot(chart.name, chart.caption, svg_uri(save(chart, folder))))
    return plots


def links(plots: list[Plot], folder: str) -> list[tuple[str, str]]:
    """Path and caption of each plot, as a Markdown file beside the folder links them."""
    return [(f"{folder}/{plot.name}.png", plot.caption) for plot in plots]


def page(summary: Summary, claims: Sequence[Claim], command: str, plots: list[Plot], groups: list[Group]) -> str:
    """The page as HTML; everything is in it."""
    trained, about = [line for line in summary.lines if line.trained], heading(summary).split("\n")
    content = {
        "title": f"Where features look: {summary.study.plan.split.description.yaml.stem}",
        "subtitle": subtitle(summary),
        "about": about[:2],
        "remarks": about[2:],
        "claims": claims,
        "command": command,
        "cuts": (deepest := max(trained, key=lambda line: len(line.cuts))).cuts,
        "start": deepest.ends[1],
        "groups": groups,
        "pipeline": lime_steps(summary.study) if groups else None,
        "plots": plots,
        "tables": tables(summary),
        "measures": [m for m in MEASURES.values() if m.about and any(m.name in line.values for line in trained)],
    }
    return filled(TEMPLATE, content, {"plain": without_marks, "titled": title_of})


def subtitle(summary: Summary) -> str:
    """Networks, split and date."""
    split = summary.study.plan.split
    names = dict.fromkeys(shown_name(line) for line in summary.lines if line.trained)
    return f"{', '.join(names)} on {len(summary.study.records)} images of {split.name}, {date.today():%-d %B %Y}"


def lime_steps(study: Study) -> dict[str, Any] | None:
    """How LIME explains the first case that is shown; None where nothing was explained by it."""
    if not study.lime:
        return None
    own = study.lime[0]
    steps = [(caption, as_uri(drawn)) for caption, drawn in pipeline(own)]
    return {"line": own.columns[0].line, "steps": steps}


def without_marks(text: str) -> str:
    """Text for where there is no markup."""
    return text.replace("`", "")
