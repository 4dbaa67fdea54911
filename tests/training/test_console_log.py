"""What a run folder holds beside its results: what was said, and a recipe that can be moved."""

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import CASCADE, Script

import train
from training.console_log import NAME, note_in, noted
from utils.config import ROOT, Recipe
from utils.console import console
from utils.errors import UserError
from utils.recipes import load_recipe, save_recipe
from utils.runs import FINISHED


def test_all_that_is_said_is_in_the_run_folder(
    corners_yaml: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE)
    run = tmp_path / "train" / "exp"
    first = (run / NAME).read_text()
    said = capsys.readouterr().out
    assert first.partition("\n$ ")[2].partition("\n")[2] == said
    assert "stage3 2/2" in first
    (run / FINISHED).unlink()
    script(train, "--resume", run, "--project", tmp_path)
    both = (run / NAME).read_text()
    assert both.startswith(first)
    assert both.removeprefix(first).partition("\n$ ")[2].partition("\n")[2] == capsys.readouterr().out
    assert console.copy is None


@noted()
def fail_with(error: Exception, folder: Path) -> None:
    console.print("[bold]before[/b] \x1b[31m")
    note_in(folder)
    console.print("after")
    raise error


def test_failures_are_in_the_log_without_escapes_and_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "--data", "https://me:word@host/x?token=abc"])
    for error in (UserError("wrong", where="--lr", hint="correct it"), ZeroDivisionError("division by zero")):
        with pytest.raises(type(error)):
            fail_with(error, tmp_path)
    text = (tmp_path / NAME).read_text()
    assert "\n[bold]before[/b] \\x1b[31m\nafter\nerror: --lr: wrong — correct it\n" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert "$ python train.py --data 'https://host/x?token=***'" in text
    assert "\x1b" not in text


def test_paths_in_a_project_are_relative_and_survive_a_move(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = home / "runs" / "train" / "exp"
    run.mkdir(parents=True)
    recipe = Recipe(data=home / "data.yaml", init=home / "runs" / "train" / "one" / "weights" / "best.pt", cl_splits=0)
    save_recipe(recipe, run / "recipe.yaml")
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (values["data"], values["init"]) == ("../../../data.yaml", "../one/weights/best.pt")
    assert load_recipe(run / "recipe.yaml", {}) == recipe
    shutil.move(home, tmp_path / "away")
    moved = load_recipe(tmp_path / "away" / "runs" / "train" / "exp" / "recipe.yaml", {})
    assert moved.data == tmp_path / "away" / "data.yaml"


def test_paths_to_other_places_stay_absolute(tmp_path: Path) -> None:
    run = tmp_path / "home" / "runs" / "train" / "exp"
    run.mkdir(parents=True)
    recipe = Recipe(data=ROOT / "data" / "sample.yaml", weights=tmp_path / "other" / "b.pt", init=None)
    save_recipe(recipe, run / "recipe.yaml")
    values = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (values["data"], values["weights"]) == (str(recipe.data), str(recipe.weights))
    assert load_recipe(run / "recipe.yaml", {}) == recipe
    save_recipe(Recipe(init="timm", cl_splits=0), run / "recipe.yaml")
    assert load_recipe(run / "recipe.yaml", {}).init == "timm"
