"""Every command of the project: help, bad flags, one way to end."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from utils.version import version

MAIN = 'if __name__ == "__main__":'
COMMANDS = [
    path.relative_to(ROOT)
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("*/*.py"), *ROOT.glob("*/*/*.py")])
    if path.relative_to(ROOT).parts[0] not in ("tests", "docs", ".venv", "runs")  # docs: parts of `make docs`
    and any(line.startswith(MAIN) for line in path.read_text().splitlines())
]


def ended(command: Path, monkeypatch: pytest.MonkeyPatch, *flags: str) -> object:
    """Run a command here, with what it imports already imported; its exit code."""
    monkeypatch.setattr(sys, "argv", [str(command), *flags])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / command), run_name="__main__")
    return end.value.code


def test_all_commands_are_found() -> None:
    assert {"train.py", "study.py", "data/check.py", "studies/reference.py"} <= {str(path) for path in COMMANDS}
    assert len(COMMANDS) > 25


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_help_and_bad_flags(
    command: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    assert ended(command, monkeypatch, "--help") == 0
    said = capsys.readouterr()
    assert said.out.startswith("usage: ")
    assert len(said.out.splitlines()) > 4
    assert not said.err
    assert ended(command, monkeypatch, "--no-such-flag") == 2
    said = capsys.readouterr()
    assert not said.out
    assert len(said.err.splitlines()) == 1
    assert re.fullmatch(r"error: \S+: .+ — .*--help lists the flags\n", said.err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_says_its_version(
    command: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    assert ended(command, monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"cascade-yolo {version()}\n"


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version()
    assert f"ARG VERSION={version()}\n" in (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_commands_end_in_one_way(command: Path) -> None:
    """By run_cli, which makes one line of what users can correct."""
    last = ast.parse((ROOT / command).read_text()).body[-1]
    assert isinstance(last, ast.If)
    assert ast.unparse(last.body[0]) == "run_cli(main)"
    assert len(last.body) == 1
