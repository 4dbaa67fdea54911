"""The page of a study: README.md in its folder, with all that it links, and a copy to publish."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from studies.figure import save_figure
from studies.gallery import save_gallery
from studies.recipe import RUNS, Study
from studies.runs import State, commands, in_report, page_file, report_command, reported
from studies.sections import shown
from studies.table import Result, as_csv, difference_tables, main_table, results
from studies.tasks import tasks_table
from utils.config import ROOT
from utils.files import make_folder, write_text

PAGE, FIGURE, GALLERY, COMMANDS = "README.md", "figure.png", "gallery.jpg", "commands.txt"
LESSON = "what the last classifier on the blocks that were taken over reached on images kept from it, mean"
TEXTS = {".md", ".csv", ".txt", ".json", ".html"}


def write_page(study: Study) -> str:
    """Write README.md, figure.png, gallery.jpg, runs.csv and commands.txt into the study's folder; gives the page."""
    make_folder(study.folder)
    found, table = results(study), study.settings.table
    if table:
        save_figure(study, table, found, study.folder / FIGURE)
        if table.gallery:
            save_gallery(study, table, table.gallery, study.folder / GALLERY)
    write_text(study.folder / RUNS, as_csv(study, found))
    write_text(study.folder / COMMANDS, all_commands(study))
    text = as_markdown(study, found)
    write_text(study.folder / PAGE, text)
    return text


def as_markdown(study: Study, found: list[Result]) -> str:
    """Tables, the figure, links to the reports and to what made them."""
    settings, table = study.settings, study.settings.table
    path = study.yaml.resolve()
    yaml = shown(path) if path.is_relative_to(ROOT) else path.name
    done = sum(result.state is State.DONE for result in found)
    seeds = ", ".join(map(str, settings.seeds))
    text = [
        f"# {settings.title}",
        f"Made by `python study.py {yaml}`: {done} of {len(found)} runs done, seeds {seeds}.",
    ]
    if settings.tasks:
        about = f"All tasks, mean ± standard deviation over the seeds that are done ({seeds_done(study, found)})"
        text += [f"{about}; differences with 95 % intervals (Student's t):", tasks_table(study, settings.tasks, found)]
    if table:
        about = f"Figures of `{table.split}`, mean ± standard deviation (n − 1) over the runs; pre-training: {LESSON}."
        if table.least_auc:
            about += f" No difference is given for a backbone below an AUC of {table.least_auc:g} there."
        text += [about, main_table(study, table, found)]
        if differences := difference_tables(study, table, found):
            text += ["Differences, seed by seed, with 95 % intervals (Student's t):", *differences]
        text.append(f"![{settings.title}]({FIGURE})")
        if (study.folder / GALLERY).exists() and table.gallery and table.gallery.published:
            text.append(f"![{', '.join(table.gallery.methods)} on the same images]({GALLERY})")
    text += [report_line(study, name) for name in settings.reports]
    text.append(f"[Every run]({RUNS}), [every command]({COMMANDS}), [logs](logs), [recipe](/{yaml}).")
    return "\n\n".join(text) + "\n"


def seeds_done(study: Study, found: list[Result]) -> str:
    """`2 of 3 with every run`: the mean of a cell may be over more of them."""
    open_ones = {result.cell.seed for result in found if result.state is not State.DONE}
    return f"{len(set(study.settings.seeds) - open_ones)} of {len(study.settings.seeds)} with every run"


def report_line(study: Study, name: str) -> str:
    """A link to a report, and on how many runs it is where some are lacking; or that it is not there."""
    if not page_file(study, name).exists():
        return f"{name}: not written"
    own, wanted = len(reported(study, name)), len(in_report(study, name))
    return f"[{name}]({name}.md)" + (f", {own} of {wanted} runs" if own < wanted else "")


def all_commands(study: Study) -> str:
    """What trains and judges every cell, in the order of running, and what writes the reports."""
    lines = []
    for cell in study.cells:
        words = commands(study, cell)
        lines += [f"# {cell.name}", *(" ".join(words[step]) for step in ("train", "judge") if step in words)]
    for name in study.settings.reports:
        lines += [f"# {name}", " ".join(report_command(study, name))]
    return "\n".join(lines) + "\n"


def publish(study: Study, folder: Path) -> Path:
    """Copy the page and all that it links into a folder of the study's name; paths of this machine become relative.

    No pictures of the data, unless the study says that they may be shown.
    """
    target = make_folder(folder / study.yaml.stem)
    for path in published(study):
        copy = target / path.relative_to(study.folder)
        make_folder(copy.parent)
        if path.suffix in TEXTS:
            write_text(copy, path.read_text().replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../"))
        else:
            shutil.copyfile(path, copy)
    return target / PAGE


def published(study: Study) -> Iterator[Path]:
    """Files of the study's folder that its page links."""
    table = study.settings.table
    wanted = [PAGE, RUNS, COMMANDS, FIGURE, *([GALLERY] if table and table.gallery and table.gallery.published else [])]
    patterns = [*wanted, "logs/*.txt"]
    for name in study.settings.reports:
        patterns += [f"{name}.*", f"{name}/*"]
    for pattern in patterns:
        yield from (path for path in sorted(study.folder.glob(pattern)) if path.is_file())
