import json
from pathlib import Path

import pytest

from benchmarks.spread import KEYS, table
from utils.errors import UserError


def test_mean_and_standard_deviation(tmp_path: Path) -> None:
    files = []
    for number, value in enumerate((0.2, 0.4)):
        files.append(tmp_path / f"seed{number}.json")
        files[-1].write_text(json.dumps(dict.fromkeys(KEYS, value)))
    lines = table(files).splitlines()
    assert lines[2].startswith("| seed0 | 0.200 |")
    assert lines[4].startswith("| **mean** | 0.300 |")
    assert lines[5].startswith("| **sd** | 0.141 |")


def test_a_file_that_is_no_metrics_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"a\.json: no metrics file"):
        table([tmp_path / "a.json"])
