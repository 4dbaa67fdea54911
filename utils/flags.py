"""Command-line flags: one for every key of the recipe, and what the scripts without a recipe share."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from utils.config import ROOT, Recipe, Section
from utils.errors import UserError
from utils.names import checked_name
from utils.parser import Parser
from utils.paths import kind_of
from utils.plugins import FLAG, add_import_flag
from utils.tables import listed, near

NAMED = {
    "backbone": "backbone",
    "detector": "detector",
    "pretrain.head": "head",
    "fcn": "fully convolutional head",
    "logger": "logger",
}  # recipe key → kind of what it names
DRAWS, LEAST_DRAWS = 1000, 20  # resamples behind intervals; a twentieth of them is outside


def recipe_flags() -> Iterator[tuple[str, str | None, str, FieldInfo]]:
    """(flag, section, key, field) of every recipe key: --key, --epochs for train.epochs, --loss-box for loss.box."""
    for key, field in Recipe.model_fields.items():
        if key == "imports":
            continue  # it has a flag of every script's
        section = field.annotation
        if isinstance(section, type) and issubclass(section, Section):
            prefix = "" if key == "train" else f"{key}-"
            for inner, inner_field in section.model_fields.items():
                yield f"--{prefix}{inner}".replace("_", "-"), key, inner, inner_field
        else:
            yield f"--{key}".replace("_", "-"), None, key, field


def spelling() -> dict[str, str]:
    """The flag of each recipe key, which is `section.key` where it is in a section."""
    flags = {key if section is None else f"{section}.{key}": flag for flag, section, key, _ in recipe_flags()}
    return flags | {"imports": FLAG}


def keys_of(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Values by recipe key, of keywords that are called as the flags are: pretrain_epochs for --pretrain-epochs.

    Raises:
        UserError: there is no such flag.
    """
    keys = {flag.removeprefix("--").replace("-", "_"): key for key, flag in spelling().items()} | {"imports": "imports"}
    if unknown := next((keyword for keyword in keywords if keyword not in keys), None):
        hint = f"{near(unknown, keys)}`python train.py --help` lists them"
        raise UserError(f"no keyword `{unknown}`", where="train", hint=hint)
    return {keys[keyword]: value for keyword, value in keywords.items()}


def add_recipe_flags(parser: Parser) -> None:
    """One flag for each recipe key; values are checked by the recipe, from which an empty one takes."""
    parser.emptied |= {flag for flag, *_ in recipe_flags()}
    groups: dict[str | None, argparse._ArgumentGroup] = {}
    for flag, section, key, field in recipe_flags():
        if section not in groups:
            groups[section] = parser.add_argument_group(section or "recipe", describe(section))
        name = key if section is None else f"{section}.{key}"
        default = "" if field.default is None else f" [{shown(field.default)}]"
        options: dict[str, Any] = {"dest": name, "default": None}
        if field.annotation is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif name in NAMED:
            options["metavar"] = "{" + ",".join(listed(NAMED[name])) + "}"
        elif get_origin(field.annotation) is Literal:
            options["metavar"] = "{" + ",".join(get_args(field.annotation)) + "}"
        else:
            options["metavar"] = key.rpartition("_")[2].upper()
        groups[section].add_argument(flag, help=(field.description or "") + default.replace("%", "%%"), **options)
    add_import_flag(parser)


def describe(section: str | None) -> str | None:
    """First line of a section's docstring."""
    kind = Recipe.model_fields[section].annotation if section else None
    return (kind.__doc__ or "").partition("\n")[0] if kind else None


def shown(value: object) -> str:
    """A default as the help prints it: paths relative to the project."""
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        return str(value.relative_to(ROOT))
    return str(value)


def input_size(text: str) -> int:
    """--imgsz of the scripts that take no recipe.

    Raises:
        UserError: no multiple of 32 that is at least 64.
    """
    if not text.isdecimal() or int(text) < 64 or int(text) % 32:
        raise UserError(f"`{text}`", where="--imgsz", hint="give a multiple of 32, 64 or more")
    return int(text)


def add_precision(parser: argparse._ActionsContainer) -> None:
    """--precision of the scripts that run a trained detector."""
    help_text = "of weights and features; an ONNX file has its own [fp32]"
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help=help_text)


def positive(text: str) -> int:
    """A count for argparse."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return int(text)


THRESHOLDS = ("conf_thres", "iou_thres", "max_det")


def add_threshold_flags(
    parser: argparse._ActionsContainer, conf: float | None, iou: float, when: str = "", *, default: str = ""
) -> None:
    """--conf-thres, --iou-thres and --max-det of the scripts that run or write a detector: THRESHOLDS.

    Args:
        conf, iou: defaults; no `conf` where it depends on what is done.
        when: what the help begins with.
        default: what the help says of the default of --conf-thres, if it is not the number.
    """
    text = f"{when}score threshold: lowest score of a detection [{default or conf}]"
    parser.add_argument("--conf-thres", type=partial(share, "--conf-thres"), default=conf, help=text)
    text = f"{when}IoU above which NMS drops the weaker box [{iou:g}]"
    parser.add_argument("--iou-thres", type=partial(share, "--iou-thres"), default=iou, help=text)
    text = f"{when}most detections in an image [300]"
    parser.add_argument("--max-det", type=partial(count, "--max-det"), default=300, help=text)


def with_changed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """A command line as flags by name, and `changed`: the names of those that do not have their defaults."""
    arguments = parser.parse_args()
    arguments.changed = [key for key, value in vars(arguments).items() if value != parser.get_default(key)]
    return arguments


def refuse_flags(weights: Path, arguments: argparse.Namespace, names: Sequence[str], kind: str = "a segmenter") -> None:
    """Refuse flags that weights of some kind do not look at.

    Args:
        arguments: of with_changed.
        names: of these flags.

    Raises:
        UserError: names the first that does not have its default.
    """
    if name := next((name for name in names if name in arguments.changed), None):
        flag = f"--{name.replace('_', '-')}"
        raise UserError(f"{weights} is {kind}, which does not look at it", where=flag, hint="leave it out")


def share(flag: str, text: str) -> float:
    """What a flag says, a number in 0–1.

    Raises:
        UserError: it is none.
    """
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:  # nan is none either
        raise UserError(f"`{text}`", where=flag, hint="give a number in 0–1")
    return number


def count(flag: str, text: str) -> int:
    """What a flag says, a whole number from 1 on.

    Raises:
        UserError: it is none.
    """
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise UserError(f"`{text}`", where=flag, hint="give 1 or more") from None


def from_zero(flag: str, text: str) -> int:
    """What a flag says, a whole number from 0 on.

    Raises:
        UserError: it is none.
    """
    if not text.strip().isdecimal():
        raise UserError(f"`{text}`", where=flag, hint="give 0 or more")
    return int(text)


def add_name(parser: argparse.ArgumentParser) -> None:
    """The flag that names a run folder."""
    about = "name of the run folder; a number is added if taken [exp]"
    parser.add_argument("--name", type=partial(checked_name, where="--name"), default="exp", help=about)


def written_as(ending: str) -> Callable[[str], Path]:
    """The type of a flag that names a file to write: one that is there and of another kind stays.

    Args:
        ending: of the kind, as in `.json`.
    """

    def path_of(text: str) -> Path:
        refuse_other_kind(path := Path(text), ending)
        return path

    return path_of


def refuse_other_kind(path: Path, ending: str) -> None:
    """Refuse to write over a file of another kind.

    Raises:
        UserError: the file is there, and its name does not end so.
    """
    if path.suffix.lower() != ending and kind_of(path) is not None:
        raise UserError("is there already, and would be lost", where=path, hint=f"give a name that ends in {ending}")


def resamples(text: str) -> int:
    """What --bootstrap says: 0, or as many as a 95 % interval needs to have anything outside it.

    Raises:
        UserError: neither.
    """
    if 0 < (found := from_zero("--bootstrap", text)) < LEAST_DRAWS:
        what = f"{found} resamples have no 95 % interval"
        raise UserError(what, where="--bootstrap", hint=f"give {LEAST_DRAWS} or more [{DRAWS}], or 0 for none")
    return found


def parsed_for(
    parser: argparse.ArgumentParser,
    mode_of: Callable[[argparse.Namespace], str],
    only: Mapping[str, Sequence[argparse.Action]],
    shared: Mapping[str, Sequence[str]],
) -> argparse.Namespace:
    """A command line of a script with modes, without flags that its mode would not look at.

    Args:
        mode_of: which mode is asked for; it is called as its flag is.
        only: mode → flags that are its own.
        shared: mode → names of flags of others that it looks at too.

    Returns:
        Flags by name, and `given`: the names of those of `only` that were given, be it with their defaults.

    Raises:
        UserError: a flag of another mode is given.
    """
    own = [(mode, action) for mode, actions in only.items() for action in actions]
    absent = object()
    arguments = parser.parse_args(namespace=argparse.Namespace(**{action.dest: absent for _, action in own}))
    arguments.given = frozenset(action.dest for _, action in own if getattr(arguments, action.dest) is not absent)
    asked = mode_of(arguments)
    for mode, action in own:
        if action.dest not in arguments.given:
            setattr(arguments, action.dest, action.default)
        elif mode != asked and action.dest not in shared.get(asked, ()):
            modes = [mode, *(other for other, names in shared.items() if action.dest in names)]
            what = f"is for --{' and --'.join(modes)}, and this is --{asked}"
            raise UserError(what, where=action.option_strings[0], hint=f"leave it out, or say --{' or --'.join(modes)}")
    return arguments
