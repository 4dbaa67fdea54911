from dataclasses import dataclass

import pytest

from utils.errors import UserError
from utils.tables import Entry, Option, Table, shown


@dataclass(frozen=True)
class Tool(Entry):
    weight: int = 1


OPTIONS = {"fit": Option("ridge", ("ridge", "sgd"), slow=("sgd",)), "steps": Option(3, low=1, high=9),
           "share": Option(None, low=0, high=1)}  # fmt: skip
SETS = {"long": {"fit": "sgd", "steps": 9}}
TOOLS = Table("tool", "--tool", (Tool("saw", "cuts", options=OPTIONS, sets=SETS), Tool("hammer", "hits", weight=2)))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("saw", {"fit": "ridge", "steps": 3, "share": None}),
        ("saw:sgd", {"fit": "sgd", "steps": 3, "share": None}),
        ("saw:steps=2:fit=sgd@0.2", {"fit": "sgd", "steps": 2, "share": 0.2}),
        ("hammer", {}),
        ("saw:long", {"fit": "sgd", "steps": 9, "share": None}),
        ("saw:steps=2:long", {"fit": "sgd", "steps": 2, "share": None}),
    ],
)
def test_names_with_options(text: str, options: dict[str, object]) -> None:
    found = TOOLS.choose(text)
    assert (found.text, found.options) == (text, options)
    assert found.slow == (options.get("fit") == "sgd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hamer", "no tool `hamer` — did you mean hammer?"),
        ("", "no tool ``"),
        ("saw:adam", "no option `adam` — saw has :long, :sgd, :steps=3, @0.2"),
        ("saw:steps=0", "give a whole number from 1 to 9"),
        ("saw:steps=1.5", "give a whole number from 1 to 9"),
        ("saw:steps=nan", "give a whole number"),
        ("saw@nan", "give a number from 0 to 1"),
        ("saw@", "give a number from 0 to 1"),
        ("saw:fit=adam", "give ridge or sgd"),
        ("hammer@0.5", "no option `share` — hammer has none"),
        ("hammer:", "no option ``"),
        ("saw:sgd:fit=ridge", "`saw:sgd:fit=ridge`: `fit` twice — say it once"),
    ],
)
def test_wrong_names_are_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        TOOLS.choose(text)
    assert message in str(error.value)
    assert str(error.value).startswith("--tool: ")
    assert "\n" not in str(error.value)


def test_help_spells_options() -> None:
    assert shown(TOOLS["saw"]) == "saw[:long][:sgd][:steps=3][@0.2]"


def test_a_name_is_had_once_and_can_be_a_file_name() -> None:
    with pytest.raises(ValueError, match="there is a tool 'saw' already"):
        TOOLS.add(Tool("saw", "again"))
    for name in ("", "../saw", "a b", "a/b", "x" * 101):
        with pytest.raises(ValueError, match="letters, digits"):
            TOOLS.add(Tool(name, "odd"))
