"""Recipes and other yaml files: read, laid over each other, checked, compared, written."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from utils.config import ROOT, SOURCES, Recipe
from utils.errors import UserError
from utils.faults import hint_for_key, hint_of, written
from utils.files import write_text
from utils.paths import is_file, is_folder, kind_of
from utils.plain_yaml import Unfit, in_short, plain_yaml
from utils.plugins import load
from utils.text import NOTHING
from utils.zoo import PREFIX, weight_file

LONGEST = 300  # letters of a key or of a hint that a message repeats
PATHS = ("data", "weights", "init", "pretrain.data", "imports")
# Keys that came after the first digests, and what they are where nothing is said: then they are as if not there.
LATER: dict[str, Any] = {
    "imports": [],
    "init": None,
    "init_freeze": False,
    "task": "detect",
    "fcn": "fcn8s",
    "detector": "yolov3",
    "train.freeze_epochs": 0.0,
    "train.rates": {},
    "pretrain.freeze_epochs": 0.0,
    "pretrain.rates": {},
    "pretrain.auxiliary": 0.0,
    "augment.pca": 0.0,
    "augment.noise": 0.0,
    "augment.erasing": 0.0,
}
M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict; numbers such as 1e-4 are numbers to pydantic.

    Raises:
        UserError: missing, not yaml, not a mapping, or one that unfolds to far more than it is.
    """
    try:
        if not is_file(path):  # a pipe would be waited for
            raise FileNotFoundError(path)
        content = plain_yaml(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(
            "cannot be read: there is no such file" if kind_of(path) is None else "cannot be read",
            where=in_short(str(path)).strip("'"),
            hint="give a yaml in this folder"
            if is_folder(path)
            else "check the path; those of this project are in data/ and configs/",
        ) from error
    except Unfit as error:
        where = path if error.line is None else f"{path}:{error.line}"
        raise UserError(error.what, where=where, hint=error.hint) from error
    if not isinstance(content, dict):
        raise UserError("holds no key: value pairs", where=path, hint="see data/sample.yaml or configs/sample.yaml")
    return content


def build(model: type[M], values: dict[str, Any], where: str | Path, spelt: Mapping[str, str] | None = None) -> M:
    """Validate values that come from a file, or, for the keys in `spelt`, from the flags named there.

    Raises:
        UserError: the first fault, in one line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        fault = faults[0]
        key = ".".join(str(part) for part in fault["loc"]) or "values"
        where = (spelt or {}).get(key, (spelt or {}).get(str(fault["loc"][0]) if fault["loc"] else "", where))
        if fault["type"] == "extra_forbidden":
            hint = hint_for_key(model, fault["loc"])
            raise UserError(f"unknown key `{key[:LONGEST]}`", where=where, hint=hint) from None
        if fault["type"] == "missing":
            raise UserError(f"key `{key}` is missing", where=where, hint=f"add `{key}:`") from None
        if not fault["loc"]:
            raise UserError(
                "keys are missing or contradict each other", where=where, hint=hint_of(fault)[:LONGEST]
            ) from None
        key = written(fault["loc"], values)
        hints = dict.fromkeys(hint_of(own) for own in faults if written(own["loc"], values) == key)
        what, hint = f"`{key[:LONGEST]}` is {in_short(fault['input'])}", ", or ".join(hints)
        raise UserError(what, where=where, hint=hint[:LONGEST]) from None


def load_recipe(
    source: Path | Recipe | None,
    given: Mapping[str, Any],
    spelt: Mapping[str, str] | None = None,
    preset: Path | None = None,
) -> Recipe:
    """Recipe, if any, laid over a preset, if any, and given values over both; what it imports is loaded.

    Args:
        source: a file, whose relative paths start at it, or what a program has put together.
        given: `key` or `section.key` to value.
        spelt: the same keys to the flags that they were given with, for error messages.

    Raises:
        UserError: a key or value is wrong, or a flag without a text takes nothing back.
    """
    path = source if isinstance(source, Path) else None
    values = read_yaml(path) if path else {}
    if isinstance(source, Recipe):
        values = source.model_dump(exclude_unset=True)
    anchor_paths(values, path.parent if path else Path())
    values = merged(read_yaml(preset), values) if preset else values
    refuse_empty(values, given, spelt or {})
    lay_over(values, given, path or "recipe")
    anchor_paths(values, Path())
    recipe = build(
        Recipe, values, path or "recipe", {name: flag for name, flag in (spelt or {}).items() if name in given}
    )
    load(recipe.imports)
    return recipe


def refuse_empty(values: Mapping[str, Any], given: Mapping[str, Any], spelt: Mapping[str, str]) -> None:
    """Refuse flags without a text that take nothing back: what an unset variable of the shell leaves.

    Raises:
        UserError: names the flag.
    """
    for name in (name for name, value in given.items() if value == ""):
        section, _, key = name.rpartition(".")
        below = values.get(section) if section else values
        if not (isinstance(below, Mapping) and below.get(key)):
            what = "is empty, and the recipe gives nothing that it could take back"
            raise UserError(what, where=spelt.get(name, name), hint="give a value, or leave the flag out")


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values of both, sections key by key; those above win."""
    found = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            found[key] = below[key] | above[key]
    return found


def lay_over(values: dict[str, Any], given: Mapping[str, Any], where: Path | str) -> None:
    """Put values from flags, `key` or `section.key`, into those of a file, in place.

    Raises:
        UserError: the file has something else where a section belongs.
    """
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            raise UserError(f"`{section}` is not a section", where=where, hint=f"write `{section}:` and its keys")
        target[key] = flag_yaml(value, where) if key == "anchors" and isinstance(value, str) else value


def flag_yaml(value: str, where: Path | str) -> object:
    """A value in the form of yaml.

    Raises:
        UserError: it is none.
    """
    try:
        return plain_yaml(value.encode(errors="surrogateescape"))
    except Unfit as error:
        raise UserError(f"`{value[:LONGEST]}` {error.what}", where=where, hint=error.hint) from error


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Values by `key` or `section.key`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """Keys in which two recipes disagree, with both values, as `train.epochs is 3, not 5`."""
    one, two = flat(recipe.model_dump(mode="json")), flat(other.model_dump(mode="json"))
    keys = [key for key in {**one, **two} if one.get(key) != two.get(key)]
    return [f"{key} is {one.get(key, NOTHING)}, not {two.get(key, NOTHING)}" for key in keys]


def refuse_differences(recipe: Recipe, other: Recipe, where: Path, hint: str) -> None:
    """Refuse to continue with a run under another recipe.

    Raises:
        UserError: they disagree; names each field and both values.
    """
    if fields := differences(recipe, other):
        raise UserError("; ".join(fields), where=where, hint=hint)


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the recipe's relative paths absolute, in place: a run must be found again from any folder."""
    change_paths(values, lambda path: (folder / path).resolve())


def relate_paths(values: dict[str, Any], folder: Path) -> None:
    """Make paths relative to the folder of the recipe, in place, where both are in one project.

    That is this repository, or the folder in which the folder of the runs is: PROJECT/runs/train/exp. Whoever moves or
    sends all of it sends what still fits together. Other paths stay absolute.
    """
    homes = [home for home in (ROOT, *folder.parents[2:3]) if folder.is_relative_to(home) and home.parent != home]

    def related(path: str | Path) -> str:
        near = any(Path(path).is_relative_to(home) for home in homes)
        return Path(os.path.relpath(path, folder)).as_posix() if near else str(path)

    change_paths(values, related)


def change_paths(values: dict[str, Any], change: Callable[[str | Path], str | Path]) -> None:
    """Put what a function makes of each path of a recipe in its place."""
    for name in PATHS:
        section, _, key = name.rpartition(".")
        own = values.get(section) if section else values
        if isinstance(own, dict) and isinstance(value := own.get(key), str | Path | list | tuple):
            if value == "" or (name == "init" and value in SOURCES):
                continue
            if isinstance(value, str) and value.startswith(PREFIX):
                own[key] = weight_file(value)
                continue
            given = [value] if isinstance(value, str | Path) else value
            paths = [change(each) if isinstance(each, str | Path) else each for each in given]
            own[key] = paths[0] if isinstance(value, str | Path) else paths


def without_later(values: dict[str, Any]) -> None:
    """Drop, in place, the keys of LATER of which a recipe says nothing."""
    for name, unused in LATER.items():
        section, _, key = name.rpartition(".")
        own = values.get(section, {}) if section else values
        if own.get(key) == unused:
            own.pop(key, None)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the merged recipe, ready for load_recipe; paths within one project are relative to the file."""
    values = recipe.model_dump(mode="json")
    relate_paths(values, path.parent.resolve())
    write_text(path, yaml.safe_dump(values, sort_keys=False))
