"""The data yaml: where a data set lies, in which format, and what its classes are called."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator

from data import sample
from utils.config import ROOT, build, read_yaml
from utils.errors import UserError

SAMPLE_YAML = ROOT / "data" / "sample.yaml"
SPLITS = ("train", "val", "test")


class DataYaml(BaseModel):
    """Keys of a data yaml; the file is read, never executed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    format: Literal["voc"]
    train: str
    val: str
    test: str | None = None
    names: list[str]

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: list[str]) -> list[str]:
        if not names or len(set(names)) != len(names):
            raise ValueError("give every class once, in the order of the class indices")
        return names


@dataclass(frozen=True)
class Description:
    """A data set: its yaml, its root folder, its splits and its classes."""

    yaml: Path
    root: Path
    format: str
    splits: dict[str, str]
    names: list[str]

    def split(self, name: str) -> str:
        """What the yaml calls a split.

        Raises:
            UserError: the yaml names no such split.
        """
        if name not in self.splits:
            raise UserError(f"has no `{name}` split", where=self.yaml, mend=f"use one of {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def held_out(self) -> str:
        """The split for figures to report: test where there is one, else val."""
        return "test" if "test" in self.splits else "val"


def load_description(path: Path) -> Description:
    """Read a data yaml; the built-in data set is made on its first use.

    Raises:
        UserError: unreadable, an unknown or missing key, no such folder.
    """
    content = build(DataYaml, read_yaml(path), path)
    root = (path.parent / content.path).resolve()
    if not root.is_dir() and path.resolve() == SAMPLE_YAML:
        print(f"making the built-in data set in {root}")
        sample.write(root)
    if not root.is_dir():
        raise UserError(
            f"the data folder {root} does not exist", where=path, mend="correct `path:` (relative to the yaml)"
        )
    splits = {name: value for name in SPLITS if (value := getattr(content, name)) is not None}
    return Description(path, root, content.format, splits, content.names)
