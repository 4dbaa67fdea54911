"""The values of each image as CSV."""

from pathlib import Path

import numpy as np

from maps.localise import Row, Study
from maps.measures import shown_in
from maps.plotting import as_csv
from utils.files import make_folder, write_text

GROUP = "group"  # the column with whose image each case is


def write_values(study: Study, folder: Path) -> None:
    """A CSV for each measure: a row a case, a column for each map, line, seed and cut."""
    names = study.plan.split.description.names
    make_folder(folder)
    for name, rows in study.beside.sheets.items():
        write_text(folder / f"{name}.csv", as_csv(rows))
    for measure in (own.name for own in shown_in("values")):
        columns = {
            f"{column.kind}/{column.line}/seed{column.seed}/b{cut}": column.values[measure][:, place]
            for column in study.columns
            if column.chosen is None and measure in column.values
            for place, cut in enumerate(column.cuts)
        }
        if columns:
            write_text(folder / f"{measure}.csv", as_csv(case_rows(study, names, columns)))
    for measure in (own.name for own in shown_in("values") if own.regions):
        own = [column for column in study.columns if column.chosen is not None]
        if own:
            columns = {
                f"{column.line}/seed{column.seed}/b{cut}": column.values[measure][:, place]
                for column in own
                for place, cut in enumerate(column.cuts)
            }
            write_text(folder / f"lime_{measure}.csv", as_csv(case_rows(study, names, columns, own[0].chosen)))


def case_rows(
    study: Study, names: list[str], columns: dict[str, np.ndarray], chosen: np.ndarray | None = None
) -> list[Row]:
    """What each case is, and its values."""
    rows: list[Row] = []
    indices = range(len(study.cases)) if chosen is None else chosen.tolist()
    explained, groups = study.plan.explain is None, study.groups
    for place, index in enumerate(indices):
        image, label = study.cases[index]
        row: Row = {
            "image": study.records[image].image.name,
            "class": names[label] if explained else "",
            "box_share": float(study.shares[index]),
            GROUP: groups[index],
        }
        rows.append(row | {name: float(values[place]) for name, values in columns.items()})
    return rows
