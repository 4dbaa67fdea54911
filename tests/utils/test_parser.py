import argparse
import shlex

import pytest

from utils.errors import UserError
from utils.parser import Parser


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--epoch 3", "--epoch: there is no such flag — did you mean --epochs? --help lists the flags"),
        ("--dta=a.yaml", "--dta: there is no such flag — did you mean --data? --help lists the flags"),
        ("mine", "mine: belongs to no flag — --help lists the flags"),
        ("--epochs", "--epochs: expected one argument — --help lists the flags"),
        ("--epochs many", "--epochs: many is not a whole number — --help lists the flags"),
        ("--data ''", "--data: is empty — give a value, or leave the flag out"),
        ("--epochs 3 --data=", "--data: is empty — give a value, or leave the flag out"),
        ("''", "the command: is empty — give a value, or leave the flag out"),
    ],
)
def test_flags_that_are_wrong_are_one_line(line: str, said: str) -> None:
    def whole(text: str) -> int:
        if not text.isdigit():
            raise argparse.ArgumentTypeError(f"{text} is not a whole number")
        return int(text)

    parser = Parser(prog="train.py", allow_abbrev=False)
    parser.add_argument("--data")
    parser.add_argument("--epochs", "-e", type=whole)
    assert parser.parse_args(["-e", "3", "--data", "a.yaml"]).epochs == 3
    with pytest.raises(UserError) as error:
        parser.parse_args(shlex.split(line))
    assert str(error.value) == said
