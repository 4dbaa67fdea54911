"""The notebook on maps of other people's networks, cell by cell."""

import ast
import json
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
    ends = isinstance(last, ast.Expr)
    exec(compile(ast.Module(body if ends else [*body, last], []), "explain.ipynb", "exec"), names)
    return (
        eval(compile(ast.Expression(last.value), "explain.ipynb", "eval"), names)
        if isinstance(last, ast.Expr)
        else None
    )


def test_every_cell_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    names: dict[str, Any] = {}
    found = [shown("".join(cell["source"]), names) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    maps = names["maps"]
    assert isinstance(maps, Maps)
    assert tuple(found[2]) == (8, 64, 64)  # type: ignore[call-overload, arg-type]
    frames = found[4]
    assert isinstance(frames, dict)
    assert [own.stride for own in frames.values()] == [8, 16, 32]
    assert isinstance(found[5], Figure)
    found[5].savefig(tmp_path / "maps.png")
    assert names["loss"].item() < np.log(10)
    assert "saliency  pixels" in capsys.readouterr().out


def test_nothing_of_a_run_is_kept() -> None:
    code = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert len(code) > 5
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
