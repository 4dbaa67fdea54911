"""The page on Python, run word by word."""

import json
import re
from pathlib import Path

import pytest
from conftest import ROOT

from training import Run

PAGE = (ROOT / "docs" / "python.md").read_text()


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_python_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (data,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "scenes.yaml").write_text(data)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    shown = capsys.readouterr().out
    assert len(blocks) == 6
    assert shown.startswith("runs/train/exp\n0\n")
    assert isinstance(names["run"], Run)
    assert json.loads((tmp_path / "judged" / "metrics.json").read_text()) == names["figures"]
    assert (tmp_path / "judged" / "predictions.jpg").exists()
    assert (tmp_path / "boxes.png").exists()
    assert shown.count("scenes/JPEGImages/val_0") == 4
    assert "largest difference" in shown
    assert shown.endswith("did you mean epochs? `python train.py --help` lists them\n")


def test_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) < 120
