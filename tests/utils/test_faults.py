"""Hints in plain words for every limit that a recipe or another yaml file can break."""

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from utils.config import Recipe
from utils.faults import HINTS, hint_for_key, hint_of


class Inner(BaseModel):
    colour: Literal["red", "green"] = "red"


class Outer(BaseModel):
    count: int = Field(1, ge=1, le=9)
    share: float = Field(0.5, gt=0, lt=1, allow_inf_nan=False)
    sides: tuple[int, int] = (1, 2)
    side: int = Field(32, multiple_of=32)
    inner: dict[str, list[Inner]] = {}


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"count": 0}, "give 1 or more"),
        ({"count": 10}, "give 9 or less"),
        ({"count": "many"}, "give a whole number"),
        ({"share": 0}, "give a number above 0"),
        ({"share": 1.0}, "give a number below 1"),
        ({"share": float("nan")}, "give a finite number"),
        ({"side": 100}, "give a multiple of 32"),
        ({"sides": 3}, "give a list, as in [a, b]"),
        ({"inner": {"a": [{"colour": "blue"}]}}, "give 'red' or 'green'"),
        ({"inner": 3}, "give key: value pairs"),
    ],
)
def test_hints(values: dict[str, Any], hint: str) -> None:
    with pytest.raises(ValidationError) as error:
        Outer.model_validate(values)
    assert hint_of(error.value.errors()[0]) == hint


def test_every_hint_is_of_a_fault_that_pydantic_has() -> None:
    from pydantic_core import core_schema

    assert set(HINTS) - {"path_type"} <= set(core_schema.ErrorType.__args__)  # that one is not of its core


def test_a_fault_without_a_hint_keeps_its_message() -> None:
    with pytest.raises(ValidationError) as error:
        TypeAdapter(complex).validate_python("x")
    assert hint_of(error.value.errors()[0]) == error.value.errors()[0]["msg"]


def test_keys_are_those_of_the_place() -> None:
    hint = "did you mean colour? leave it out, or write one of the known keys: colour"
    assert hint_for_key(Outer, ("inner", "a", 0, "color")) == hint
    assert hint_for_key(Recipe, ("train", "epcohs")).startswith("did you mean epochs? ")
    assert "cl_splits" in hint_for_key(Recipe, ("zzz",))
