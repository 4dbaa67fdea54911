"""What is wrong with values that a user wrote, in words that say what to write instead of pydantic's."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel

from utils.tables import near

WHOLE, TEXT = "give a whole number", "give a text, in quotes where it looks like something else"
LIST, PAIRS = "give a list, as in [a, b]", "give key: value pairs"
# Fault → hint; in braces what pydantic says of the limit.
HINTS = {
    "path_type": "give a path, in quotes where it looks like something else",
    "string_type": TEXT,
    "int_type": WHOLE,
    "int_parsing": WHOLE,
    "int_parsing_size": "give a smaller number",
    "int_from_float": WHOLE,
    "float_type": "give a number",
    "float_parsing": "give a number",
    "finite_number": "give a finite number",
    "bool_type": "give true or false",
    "bool_parsing": "give true or false",
    "greater_than": "give a number above {gt:g}",
    "greater_than_equal": "give {ge:g} or more",
    "less_than": "give a number below {lt:g}",
    "less_than_equal": "give {le:g} or less",
    "literal_error": "give {expected}",
    "list_type": LIST,
    "tuple_type": LIST,
    "set_type": LIST,
    "dict_type": PAIRS,
    "mapping_type": PAIRS,
    "model_type": PAIRS,
    "model_attributes_type": PAIRS,
    "multiple_of": "give a multiple of {multiple_of:g}",
    "too_short": "give {min_length} values or more",
    "too_long": "give {max_length} values or fewer",
}


def hint_of(fault: Mapping[str, Any]) -> str:
    """What to write instead, of one of pydantic's errors."""
    known = HINTS.get(fault["type"])
    return known.format(**fault.get("ctx", {})) if known else fault["msg"].removeprefix("Value error, ")


def written(place: Sequence[int | str], values: Any) -> str:
    """The key of a fault as the user wrote it: without the names that pydantic adds for the kinds of a value."""
    found = []
    for part in place:
        with contextlib.suppress(KeyError, IndexError, TypeError):
            values = values[part]
            found.append(str(part))
    return ".".join(found) or ".".join(map(str, place))


def hint_for_key(model: type[BaseModel], place: Sequence[int | str]) -> str:
    """The keys that there are where an unknown one was written, the likeliest first."""
    models = [model]
    for part in place[:-1]:  # keys of a dict and places in a list are no fields
        models = [own for one in models for own in below(one, part)] or models
    keys = list(dict.fromkeys(key for one in models for key in one.model_fields))
    return f"{near(str(place[-1]), keys)}leave it out, or write one of the known keys: {', '.join(keys)}"


def below(model: type[BaseModel], part: int | str) -> list[type[BaseModel]]:
    """The models that a field of this name may hold."""
    return models_in(model.model_fields[part].annotation) if part in model.model_fields else []


def models_in(wanted: Any) -> list[type[BaseModel]]:
    """The models that an annotation names."""
    if isinstance(wanted, type) and issubclass(wanted, BaseModel):
        return [wanted]
    return [own for part in get_args(wanted) for own in models_in(part)]
