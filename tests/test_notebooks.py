"""The notebooks of the documentation, cell by cell."""

import ast
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.figure import Figure
from packaging.requirements import Requirement
from PIL import Image

from maps import Maps

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


def code_of(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def shown(source: str, names: dict[str, Any], file: str) -> object:
    """Run a cell; what a notebook would show of it: its last expression."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        exec(compile(source, file, "exec"), names)
        return None
    exec(compile(ast.Module(body, []), file, "exec"), names)
    return eval(compile(ast.Expression(last.value), file, "eval"), names)


def run(name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[list[object], dict[str, Any]]:
    """All cells of a notebook; what they show, and the names that they leave."""
    monkeypatch.chdir(ROOT / "docs")
    monkeypatch.setattr("sys.path", [*sys.path])
    names: dict[str, Any] = {}
    path = ROOT / "docs" / f"{name}.ipynb"
    return [shown("".join(cell["source"]), names, path.name) for cell in code_of(path)], names


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_colab_lacks_is_asked_of_pip(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    monkeypatch.setattr("subprocess.run", lambda command, **_: asked.append(command))
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.chdir(ROOT / "docs")
    exec("".join(code_of(path)[0]["source"]), {})
    wanted = [Requirement(line).name for line in asked[0][asked[0].index("--quiet") + 1 :]]
    assert {"ultralytics", "numpy"} <= set(wanted)
    assert "torch" not in wanted


def test_explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, names = run("explain", monkeypatch)
    assert isinstance(names["maps"], Maps)
    assert tuple(found[3]) == (8, 64, 64)  # type: ignore[call-overload, arg-type]
    frames = found[5]
    assert isinstance(frames, dict)
    assert [own.stride for own in frames.values()] == [8, 16, 32]
    assert isinstance(found[6], Figure)
    found[6].savefig(tmp_path / "maps.png")
    assert names["loss"].item() < np.log(10)
    assert "saliency  pixels" in capsys.readouterr().out


def test_quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    found, names = run("quick_start", monkeypatch)
    assert isinstance(found[2], Image.Image)
    assert len(names["found"]) > 0
    assert found[-1]["map50"] > 0.5  # type: ignore[index]


def test_cascade(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    found, names = run("cascade", monkeypatch)
    assert set(names["run"].backbones) == {"cl2", "e2e_compute"}
    assert isinstance(found[-1], Image.Image)
    assert "stem, b1" in capsys.readouterr().out


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_of_a_run_is_kept(path: Path) -> None:
    assert len(code_of(path)) > 4
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code_of(path))
