"""The page of a study: README.md in its folder, with all that it links, and a copy to publish."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studies.figure import save_figure
from studies.gallery import save_gallery
from studies.recipe import RUNS, Study, done_rows
from studies.runs import (
    State,
    commands,
    here_or_published,
    in_report,
    is_published,
    page_file,
    report_command,
    reported,
    state,
)
from studies.sections import shown
from studies.table import Result, as_csv, difference_tables, main_table, results, unlike
from studies.tasks import tasks_table
from utils.claim import claimed
from utils.config import ROOT
from utils.errors import UserError
from utils.files import make_folder, write_text

LOCK, PATIENCE = ".lock", 60  # of who publishes, and the seconds for which others wait for it
PAGE, FIGURE, GALLERY, COMMANDS = "README.md", "figure.png", "gallery.jpg", "commands.txt"
LESSON = (
    "what the last classifier on the blocks that were taken over reached on images kept from it, mean, "
    "and in brackets, where it is known, the highest of chance, majority class and grey border"
)
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
    text = study_page(study, found)
    write_text(study.folder / PAGE, text)
    return text


def study_page(study: Study, found: list[Result]) -> str:
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
        if here_or_published(study, study.folder / GALLERY).exists() and table.gallery and table.gallery.published:
            text.append(f"![{', '.join(table.gallery.methods)} on the same images]({GALLERY})")
    text += [*unlike(found), *(report_line(study, name) for name in settings.reports)]
    text.append(f"[Every run]({RUNS}), [every command]({COMMANDS}), [logs](logs), [recipe](/{yaml}).")
    return "\n\n".join(text) + "\n"


def seeds_done(study: Study, found: list[Result]) -> str:
    """`2 of 3 with every run`: the mean of a cell may be over more of them."""
    open_ones = {result.cell.seed for result in found if result.state is not State.DONE}
    return f"{len(set(study.settings.seeds) - open_ones)} of {len(study.settings.seeds)} with every run"


def report_line(study: Study, name: str) -> str:
    """A link to a report, and on how many runs it is where some are lacking; or that it is not there."""
    if is_published(study, name):
        return next(
            (line for line in published_lines(study, PAGE) if line.startswith(f"[{name}](")), f"[{name}]({name}.md)"
        )
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
        own, there = " ".join(report_command(study, name)), [*published_lines(study, COMMANDS), ""]
        kept = is_published(study, name) and f"# {name}" in there
        lines += [f"# {name}", there[there.index(f"# {name}") + 1] if kept else own]
    return "\n".join(lines) + "\n"


def published_lines(study: Study, name: str) -> list[str]:
    """Of a text that is published with the study; none where it is not."""
    if study.results is None or not (study.results / name).exists():
        return []
    return (study.results / name).read_text().splitlines()


def publish(study: Study) -> str:
    """Write the page and copy it and all that it links into the folder of the study's results; gives the page.

    Paths of this machine become relative. There are no pictures of the data, unless the study says that they may be
    shown. What other machines have published meanwhile is part of the page; they wait until it is written.

    Raises:
        UserError: finished runs are published there that this page would not have.
    """
    assert study.results
    with alone(make_folder(study.results)):
        now = study.as_published()
        check_kept(now)
        text = write_page(now)
        for path in published(now):
            copy_published(path, study.results / path.relative_to(study.folder))
    return text


class BusyError(UserError):
    """Another process publishes, and takes long."""


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time publishes in a folder.

    Raises:
        BusyError: another one takes long.
    """
    for _ in range(PATIENCE):
        with claimed(folder / LOCK) as holder:
            if not holder:
                yield
                return
        time.sleep(1)
    raise BusyError(f"{holder} publishes there", where=folder, hint="start the study again when it is done")


def check_kept(study: Study) -> None:
    """Refuse to publish a page without runs that are finished in what is published.

    Raises:
        UserError: there are some, of another recipe or of methods that the study does not have any more.
    """
    if study.results is None:
        return
    here = {cell.name for cell in study.cells if state(study, cell) is State.DONE}
    if lost := [name for name in done_rows(study.results / RUNS) if name not in here]:
        names = ", ".join(lost[:3]) + ", …" * (len(lost) > 3)
        what = f"{len(lost)} finished runs are there that this page would not have: {names}"
        hint = "they are of another recipe or method; restore it, move them away, or publish into another folder"
        raise UserError(what, where=study.results / RUNS, hint=hint)


def copy_published(path: Path, copy: Path) -> None:
    """Copy a file; in texts, paths of this machine become relative."""
    make_folder(copy.parent)
    if path.suffix in TEXTS:
        write_text(copy, path.read_text().replace(f"{ROOT}/", "").replace(f"{ROOT.parent}/", "../"))
    else:
        shutil.copyfile(path, copy)


def published(study: Study) -> Iterator[Path]:
    """Files of the study's folder that its page links."""
    table = study.settings.table
    wanted = [PAGE, RUNS, COMMANDS, FIGURE, *([GALLERY] if table and table.gallery and table.gallery.published else [])]
    patterns = [*wanted, "logs/*.txt"]
    for name in study.settings.reports:
        patterns += [f"{name}.*", f"{name}/*"]
    for pattern in patterns:
        yield from (path for path in sorted(study.folder.glob(pattern)) if path.is_file())
