"""The notebook on maps of other people's networks, cell by cell."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure

from maps import Maps

NOTEBOOK = json.loads((ROOT / "docs" / "explain.ipynb").read_text())


def shown(source: str, names: dict[str, Any]) -> object:
    """Run a cell; what a notebook would show of it: its last expression."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, "explain.ipynb", "exec"), names)
        return None
    exec(compile(ast.Module(body, []), "explain.ipynb", "exec"), names)
    return eval(compile(ast.Expression(last.value), "explain.ipynb", "eval"), names)


def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setattr("sys.path", [*sys.path])
    names: dict[str, Any] = {}
    found = [shown("".join(cell["source"]), names) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    maps = names["maps"]
    assert isinstance(maps, Maps)
    assert tuple(found[3]) == (8, 64, 64)  # type: ignore[call-overload, arg-type]
    frames = found[5]
    assert isinstance(frames, dict)
    assert [own.stride for own in frames.values()] == [8, 16, 32]
    assert isinstance(found[6], Figure)
    found[6].savefig(tmp_path / "maps.png")
    assert names["loss"].item() < np.log(10)
    assert "saliency  pixels" in capsys.readouterr().out


def test_nothing_of_a_run_is_kept() -> None:
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
