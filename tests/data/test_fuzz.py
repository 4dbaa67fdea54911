"""Damaged files of every kind: a clear error or a counted omission, never a traceback, never a wrong box or weight."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.fuzz import CASES, outcome

COUNT = {"ONNX": 3, "study": 10, "last.pt": 20}  # these take longest


@pytest.mark.usefixtures("older_exporter")
@pytest.mark.filterwarnings("ignore")  # of the older exporter, and of decoders
@pytest.mark.parametrize("kind", CASES)
def test_damaged_files(tmp_path: Path, kind: str) -> None:
    case, found = CASES[kind](tmp_path), Counter[str]()
    whole = case.path.read_bytes()
    for seed in range(COUNT.get(kind, 40)):
        said = outcome(case, whole, seed)
        assert said in ("read", "left out", "refused"), f"seed {seed}: {said}"
        found[said] += 1
    assert found["refused"] + found["left out"] > found["read"] / 4, found
