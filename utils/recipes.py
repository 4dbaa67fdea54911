"""Recipes and other yaml files: read, laid over each other, checked, compared, written."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from utils.config import SOURCES, Recipe
from utils.errors import UserError
from utils.files import write_text
from utils.plugins import load

PATHS = ("data", "weights", "init", "pretrain.data", "imports")
M = TypeVar("M", bound=BaseModel)


def read_yaml(path: Path) -> dict[str, Any]:
    """A yaml file as a dict; numbers such as 1e-4 are numbers to pydantic.

    Raises:
        UserError: missing, not yaml, not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("cannot be read", where=path, mend="check the path; `ls data/*.yaml configs/*.yaml`") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise UserError("is not valid yaml", where=where, mend="mend the syntax there") from error
    if not isinstance(content, dict):
        raise UserError("holds no key: value pairs", where=path, mend="see data/sample.yaml or configs/sample.yaml")
    return content


def build(model: type[M], values: dict[str, Any], where: str | Path, spelt: Mapping[str, str] | None = None) -> M:
    """Validate values that come from a file, or, for the keys in `spelt`, from the flags named there.

    Raises:
        UserError: the first fault, in one line.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in fault["loc"]) or "values"
        where = (spelt or {}).get(key, (spelt or {}).get(str(fault["loc"][0]) if fault["loc"] else "", where))
        if fault["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise UserError(f"unknown key `{key}`", where=where, mend=f"known keys: {known}") from None
        if fault["type"] == "missing":
            raise UserError(f"key `{key}` is missing", where=where, mend=f"add `{key}:`") from None
        message = fault["msg"].removeprefix("Value error, ")
        raise UserError(f"`{key}` is {fault['input']!r}", where=where, mend=message) from None


def load_recipe(
    path: Path | None,
    given: Mapping[str, str],
    spelt: Mapping[str, str] | None = None,
    preset: Path | None = None,
) -> Recipe:
    """Recipe file, if any, laid over a preset, if any, and given values over both; what it imports is loaded.

    Args:
        path: relative paths in it start at the file.
        given: `key` or `section.key` to value.
        spelt: the same keys to the flags that they were given with, for error messages.
    """
    values = read_yaml(path) if path else {}
    anchor_paths(values, path.parent if path else Path())
    values = merged(read_yaml(preset), values) if preset else values
    lay_over(values, given, path or "recipe")
    anchor_paths(values, Path())
    recipe = build(
        Recipe, values, path or "recipe", {name: flag for name, flag in (spelt or {}).items() if name in given}
    )
    load(recipe.imports)
    return recipe


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Values of both, sections key by key; those above win."""
    found = below | above
    for key in below.keys() & above.keys():
        if isinstance(below[key], dict) and isinstance(above[key], dict):
            found[key] = below[key] | above[key]
    return found


def lay_over(values: dict[str, Any], given: Mapping[str, str], where: Path | str) -> None:
    """Put values from flags, `key` or `section.key`, into those of a file, in place.

    Raises:
        UserError: the file has something else where a section belongs.
    """
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        target = values.setdefault(section, {}) if section else values
        if not isinstance(target, dict):
            raise UserError(f"`{section}` is not a section", where=where, mend=f"write `{section}:` and its keys")
        target[key] = yaml.safe_load(value) if key == "anchors" else value


def differences(recipe: Recipe, other: Recipe) -> list[str]:
    """Keys in which two recipes disagree, with both values, as `train.epochs is 3, not 5`."""

    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return found

    one, two = flat(recipe.model_dump(mode="json")), flat(other.model_dump(mode="json"))
    return [f"{key} is {one[key]}, not {two[key]}" for key in one if one[key] != two[key]]


def refuse_differences(recipe: Recipe, other: Recipe, where: Path, mend: str) -> None:
    """Refuse to go on with a run under another recipe.

    Raises:
        UserError: they disagree; names each field and both values.
    """
    if fields := differences(recipe, other):
        raise UserError("; ".join(fields), where=where, mend=mend)


def anchor_paths(values: dict[str, Any], folder: Path) -> None:
    """Make the recipe's relative paths absolute, in place: a run must be found again from any folder."""
    for name in PATHS:
        section, _, key = name.rpartition(".")
        own = values.get(section) if section else values
        if isinstance(own, dict) and isinstance(value := own.get(key), str | list):
            if name == "init" and value in SOURCES:
                continue
            given = [value] if isinstance(value, str) else value
            paths = [(folder / each).resolve() for each in given]
            own[key] = paths[0] if isinstance(value, str) else paths


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write the merged recipe, ready for load_recipe."""
    write_text(path, yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False))
