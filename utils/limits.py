"""How large an input may be: each limit has a flag that raises it, and reaches worker processes too."""

import argparse
import math
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """The most of something that is read without being asked.

    Attributes:
        flag: raises it.
        most: without the flag.
        unit, about: for help and messages.
    """

    flag: str
    most: float
    unit: str
    about: str

    @property
    def now(self) -> float:
        """What is allowed in this process and in those that it starts."""
        return float(os.environ.get(self._variable, self.most))

    @property
    def _variable(self) -> str:
        return "CASCADE_" + self.flag.strip("-").replace("-", "_").upper()

    def too_much(self, amount: float) -> str | None:
        """What to say of an amount that is above the limit; None if it is not."""
        if amount <= self.now:
            return None
        return f"{amount:,.4g} {self.unit}, more than {self.now:,.4g}; read it with {self.flag} {math.ceil(amount)}"

    def set(self, most: float) -> None:
        """Allow so much."""
        os.environ[self._variable] = str(most)


PICTURE = Limit("--max-megapixels", 100, "megapixels", "largest picture that is read")
UNPACKED = Limit("--max-unpacked", 4, "GiB", "largest size, unpacked, of an archive that is much smaller")
MODEL = Limit("--max-model", 2, "GiB", "largest ONNX file that is read")
CHECKPOINT = Limit("--max-checkpoint", 1, "GiB", "largest size in memory of a checkpoint whose file is smaller")
LIMITS = (PICTURE, UNPACKED, MODEL, CHECKPOINT)


class Raise(argparse.Action):
    """Sets the limit whose flag was given."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, value: Any, flag: str | None = None) -> None:
        next(own for own in LIMITS if own.flag == flag).set(value)


def above_zero(text: str) -> float:
    """A number for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number above 0")
    return number


def add_limit_flags(parser: argparse._ActionsContainer, *limits: Limit) -> None:
    """The flags that raise some limits."""
    for own in limits:
        text = f"{own.about}, {own.unit} [{own.most:g}]"
        options: dict[str, Any] = {"type": above_zero, "metavar": "N", "default": argparse.SUPPRESS}
        parser.add_argument(own.flag, action=Raise, help=text, **options)
