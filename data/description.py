"""The data yaml: where a data set lies, in which format, and what its classes are called."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, field_validator

from data import sample
from data.archives import unpack
from data.formats import FORMATS
from data.records import Description
from utils.config import ROOT, build, read_yaml
from utils.errors import UserError

SAMPLE_YAML = ROOT / "data" / "sample.yaml"
SPLITS = ("train", "val", "test")


class DataYaml(BaseModel):
    """Keys of a data yaml; the file is read, never executed.

    Attributes:
        path: root folder, relative to the yaml.
        format: one of FORMATS.
        train, val, test: what the format calls its splits: a list (voc, chestxray), a json file (coco), a folder
            (folder) or a published part (cifar, tiny_imagenet). Without val a part of train serves as such.
        names: classes in the order of their indices; needed where the format does not tell them.
        images: folder of the images relative to path, where the format leaves it open (coco).
        archives: tar and zip files relative to the yaml, unpacked into path on first use. Where all of them share one
            top folder of path's own name (sets/tiny-imagenet-200), that folder becomes path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    format: str
    train: str
    val: str | None = None
    test: str | None = None
    names: list[str] | None = None
    images: Path | None = None
    archives: tuple[Path, ...] = ()

    @field_validator("format")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FORMATS:
            raise ValueError(f"use one of {', '.join(FORMATS)}")
        return name

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and (not names or len(set(names)) != len(names)):
            raise ValueError("give every class once, in the order of the class indices")
        return names


def load_description(path: Path) -> Description:
    """Read a data yaml; archives are unpacked and the built-in data set is made on first use.

    Raises:
        UserError: unreadable, an unknown or missing key, no such folder, no class names.
    """
    content = build(DataYaml, read_yaml(path), path)
    root = (path.parent / content.path).resolve()
    if not root.is_dir() and path.resolve() == SAMPLE_YAML:
        print(f"making the built-in data set in {root}")
        sample.write(root)
    if not root.is_dir() and content.archives:
        unpack([(path.parent / archive).resolve() for archive in content.archives], root, yaml=path)
    if not root.is_dir():
        raise UserError(
            f"the data folder {root} does not exist", where=path, mend="correct `path:` (relative to the yaml)"
        )
    splits = {name: value for name in SPLITS if (value := getattr(content, name)) is not None}
    images = root / content.images if content.images else None
    return Description(path, root, FORMATS[content.format], splits, class_names(content, root, path), images)


def class_names(content: DataYaml, root: Path, yaml: Path) -> list[str]:
    """Classes that the yaml gives, else those that the format tells.

    Raises:
        UserError: neither does, or the format's are not distinct.
    """
    if content.names is not None:
        return content.names
    tell = FORMATS[content.format].names
    if tell is None:
        what, mend = "key `names` is missing", f"add `names:`; the format `{content.format}` does not tell them"
        raise UserError(what, where=yaml, mend=mend)
    names = tell(root, content.train)
    if not names or len(set(names)) != len(names):
        what = f"the data set tells no distinct class names: {', '.join(names) or 'none at all'}"
        raise UserError(what, where=yaml, mend="give `names:`")
    return names
