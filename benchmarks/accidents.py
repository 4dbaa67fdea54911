"""What becomes of files: bytes changed, lost, doubled, inserted, cut off; values of another type."""

import re
from typing import Any

import numpy as np

ODD = (b"nan", b"inf", b"-1", b"1e999", b"", b"99999999999999999999", b"0x10", b"\xff\xfe", b"null", b"<", b"{", b"[]")
OTHER: tuple[Any, ...] = (None, "x", -1, 1e30, [], {}, [1, 2], True, float("nan"), "1", "../x", 2**70)


def mutated(content: bytes, draw: np.random.Generator) -> bytes:
    """One to three accidents: a number replaced, bytes changed, lost, doubled or inserted, the end cut off."""
    for _ in range(draw.integers(1, 4)):
        kind, at = draw.integers(6), int(draw.integers(len(content) + 1))
        end = min(len(content), at + int(draw.integers(1, 30)))
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?", content)) if kind == 0 else []
        if numbers:
            match = numbers[draw.integers(len(numbers))]
            content = content[: match.start()] + ODD[draw.integers(len(ODD))] + content[match.end() :]
        elif kind == 1:
            content = content[:at] + draw.bytes(end - at) + content[end:]
        elif kind == 2:
            content = content[:at] + content[end:]
        elif kind == 3:
            content = content[:end] + content[at:]
        elif kind == 4:
            content = content[:at] + ODD[draw.integers(len(ODD))] + content[at:]
        else:
            content = content[:at]
    return content


def structured(value: object, draw: np.random.Generator) -> object:
    """Lists and dicts with one value replaced by another of any type."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = list(value)[draw.integers(len(value))]
        return {**value, key: structured(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.9:
        at = draw.integers(len(value))
        return [*value[:at], structured(value[at], draw), *value[at + 1 :]]
    return OTHER[draw.integers(len(OTHER))]
