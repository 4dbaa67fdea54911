"""What a run writes down while it trains: a CSV, lines, and whatever loggers it has."""

import csv
from pathlib import Path

from training.loggers import Services
from utils.console import console
from utils.files import csv_text, write_text

Row = dict[str, str | int | float]


class Table:
    """A CSV that is rewritten whole for each new row; numbers that a row lacks stay blank."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows += csv.DictReader(path.read_text().splitlines())

    def forget(self, task: str, epoch: int) -> None:
        """Drop the task's rows after an epoch: those are about to run again."""
        self.rows = [row for row in self.rows if row["task"] != task or int(row["epoch"]) <= epoch]

    def add(self, row: Row) -> None:
        """Append and write."""
        self.rows.append(row)
        self.write()

    def write(self) -> None:
        """All rows, under the columns that any of them has."""
        write_text(self.path, csv_text(self.rows))


class Logs:
    """One row an epoch, to the CSV, the loggers and the terminal; nothing on ranks other than the first."""

    def __init__(self, folder: Path, table: str, services: Services = ()) -> None:
        self.services = services
        if not console.quiet:
            self.table = Table(folder / table)

    def forget(self, task: str, epoch: int) -> None:
        """Drop what is noted of a task's epochs after this one: those are about to run again."""
        if not console.quiet:
            self.table.forget(task, epoch)

    def epoch(self, task: str, epoch: int, epochs: int, values: dict[str, float]) -> None:
        """Note an epoch, counted from 1; values keyed train/…, val/…, lr, seconds."""
        if console.quiet:
            return
        self.table.add({"task": task, "epoch": epoch, **{key: f"{value:.6g}" for key, value in values.items()}})
        named = {f"{task}/{key.replace('@', '_at_')}": value for key, value in values.items()}  # MLflow takes no @
        for service in self.services:
            service.do("log_metrics", named, epoch)
            service.do("save")
        shown = "  ".join(f"{key.removeprefix('train/')} {value:.4g}" for key, value in values.items() if key != "lr")
        console.print(f"{task} {epoch}/{epochs}  {shown}")

    def amend(self, task: str, values: dict[str, float]) -> None:
        """Add figures of the task as it ended to its last row, under val/…."""
        if console.quiet:
            return
        last = [row for row in self.table.rows if row["task"] == task][-1]
        last |= {f"val/{key}": f"{value:.6g}" for key, value in values.items()}
        self.table.write()
