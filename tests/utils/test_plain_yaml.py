"""Yaml of any kind is read, or refused in one short line."""

import time
from pathlib import Path

import pytest

from data.description import load_description
from utils.errors import UserError
from utils.files import json_text
from utils.plain_yaml import Unfit, in_short, plain_yaml
from utils.recipes import load_recipe, read_yaml

LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n}\n  <<: [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
REFUSED = {
    "laughs": (LAUGHS, "unfolds to more than 100,000 values"),
    "merges": (MERGES, "deep|unfolds"),
    "itself": ("path: &a [*a]\n", "`path`: refers to itself"),
    "deep": (f"path: {'[' * 40_000}\n", "deep"),
    "less deep": (
        f"path: {'- ' * 300}x\n".replace("path: ", "path:\n "),
        "`path`: has lists in lists, more than 20 deep",
    ),
    "whole number": (f"path: {'1' * 5000}\n", "`path`: `1{60}` is not a valid int"),
    "tag": ("train: {lr: !!float x}\n", r"`train\.lr`: `x` is not a valid float"),
    "bool": ("path: !!bool x\n", "`path`: `x` is not a valid bool"),
    "time": ("path: !!timestamp x\n", "`path`: `x` is not a valid timestamp"),
    "day": ("path: 2001-99-99\n", "`path`: `2001-99-99` is not a valid timestamp"),
    "binary": ('path: !!binary "\\xff*"\n', "`path`: failed"),
    "merge": ("path: {<<: 3}\n", "`path`: expected a mapping"),
    "python": ("path: !!python/object/apply:os.getcwd []\n", "`path`: could not determine a constructor"),
    "zero": ('path: "a\\0b"\n', "`path`: has the letter"),
    "half a letter": ('path: "\\ud800"\n', "`path`: has the letter"),
    "no text": (b"path: \xff\xfe\xfd\n", "no text in UTF-8"),
    "long": (b"a: " + b"x" * 2**20, "more than 1,048,576 bytes"),
    "twice": ("names: [cat, dog]\nnames: [a, b]\n", ":2: `names` is there twice — keep one of them"),
    "twice below": ("train: {lr: 1, epochs: 3, lr: 2}\n", r"`train\.lr` is there twice"),
    "no pairs": ("[1, 2]\n", "holds no key: value pairs"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path) -> None:
    text, what = REFUSED[case]
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began = time.process_time()
    with pytest.raises(UserError, match=what) as fault:
        read_yaml(path)
    assert time.process_time() - began < 20
    assert len(str(fault.value)) < 500
    assert "\n" not in str(fault.value)


VALUES = (
    "",
    "~",
    "-1",
    ".inf",
    "{a: 1}",
    "[a]",
    "!!omap [a: 1]",
    "!!set {a: 1}",
    "1:1:1:1",
    "2001-01-01",
    "x" * 5000,
    "no",
)


@pytest.mark.parametrize("value", VALUES)
def test_a_path_of_any_value(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"path: {value}\ntrain: images\nnames: [a]\n")
    with pytest.raises(UserError) as fault:
        load_description(tmp_path / "a.yaml")
    assert len(str(fault.value)) < 1000
    (tmp_path / "b.yaml").write_text(f"data: {value}\nweights: {value}\nimports: {value}\n")
    with pytest.raises(UserError):
        load_recipe(tmp_path / "b.yaml", {})


def test_a_flag_of_any_value(tmp_path: Path) -> None:
    for value in ("[", "!!int x", "*a", "[[1,2],"):
        with pytest.raises(UserError):
            load_recipe(None, {"anchors": value})


def test_aliases_that_people_write() -> None:
    text = "base: &base {lr: 0.1, epochs: 3}\ntrain:\n  <<: *base\n  epochs: 5\n"
    assert plain_yaml(text.encode("utf-8-sig"))["train"] == {"lr": 0.1, "epochs": 5}
    assert plain_yaml(text.encode("utf-16"))["base"] == {"lr": 0.1, "epochs": 3}
    assert plain_yaml(b"") is None
    with pytest.raises(Unfit):
        plain_yaml(b"a: *b\n")


def test_values_in_short() -> None:
    assert in_short("a") == "'a'"
    assert in_short([10**5000]) == "a number of thousands of digits"
    assert len(in_short([["x" * 100] * 100] * 100)) < 600


def test_json_knows_no_nan() -> None:
    assert (
        json_text({"a": [1.5, float("nan"), (float("inf"), None)], 2: "x"})
        == '{"a": [1.5, null, [null, null]], "2": "x"}\n'
    )
