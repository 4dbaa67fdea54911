import json
from pathlib import Path

import pytest

from benchmarks.spread import KEYS, table
from utils.errors import UserError


def metrics(path: Path, value: float) -> Path:
    path.write_text(json.dumps({**dict.fromkeys(KEYS, value), "per_class": {"cat": {"map50": 1 - value}}}))
    return path


def test_mean_and_standard_deviation(tmp_path: Path) -> None:
    lines = table([metrics(tmp_path / f"seed{n}.json", value) for n, value in enumerate((0.2, 0.4))]).splitlines()
    assert lines[2].startswith("| seed0 | 0.200 |")
    assert lines[4].startswith("| **mean** | 0.300 |")
    assert lines[5].startswith("| **sd** | 0.141 |")


def test_a_file_that_is_no_metrics_file(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match=r"a\.json: no metrics file"):
        table([tmp_path / "a.json"])


def test_a_row_for_each_kind(tmp_path: Path) -> None:
    files = [metrics(tmp_path / f"e2e_seed{n}.json", value) for n, value in enumerate((0.2, 0.4))]
    header, _, first, second = table([*files, metrics(tmp_path / "peer.json", 0.1)]).splitlines()
    assert header.endswith("| cat map50 |")
    assert first.startswith("| e2e, 2 seeds | 0.300 ± 0.141 |")
    assert first.endswith("| 0.700 ± 0.141 |")
    assert second.startswith("| peer | 0.100 |")
    assert second.endswith("| 0.900 |")
