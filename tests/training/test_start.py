"""train() and Run: what train.py and val.py do, from Python."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import CASCADE, Script, same_weights

import train as command
import val
from training import Run, start, train
from utils.config import SAMPLE_RECIPE, Phase, Recipe
from utils.console import console
from utils.errors import UserError
from utils.flags import keys_of, spelling
from utils.recipes import load_recipe, save_recipe


def keywords(flags: tuple[str, ...]) -> dict[str, Any]:
    """Flags with a value each as keywords."""
    pairs = zip(flags[::2], flags[1::2], strict=True)
    return {flag.removeprefix("--").replace("-", "_"): value for flag, value in pairs}


def test_a_thread_trains_what_the_command_trains(
    corners_yaml: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(command, "--data", corners_yaml, "--project", tmp_path, "--name", "command", *CASCADE)
    assert "CL_3 of cnn6" in capsys.readouterr().out
    runs: list[Run] = []
    thread = threading.Thread(
        target=lambda: runs.append(
            train(data=corners_yaml, project=tmp_path, name="thread", quiet=True, **keywords(CASCADE))
        )
    )
    thread.start()
    thread.join()
    assert not capsys.readouterr().out
    (run,) = runs
    console.print("heard again")
    assert capsys.readouterr().out == "heard again\n"
    assert run.folder == tmp_path / "train" / "thread"
    assert run.recipe == Run.open(tmp_path / "train" / "command").recipe
    assert run.metrics == json.loads((run.folder / "metrics.json").read_text())
    assert run.metrics["judged_by"] == "accuracy"
    assert (run.folder / "pretrain.csv").read_text().count("\n") == 7
    (backbone,) = run.backbones.values()
    assert (backbone.method, backbone.cuts, backbone.path.name) == ("cl3", [3, 4, 6], "backbone_cl3.pt")
    assert same_weights(backbone.path, tmp_path / "train" / "command" / "weights" / "backbone_cl3.pt")
    with pytest.raises(UserError, match="has no detector"):
        run.evaluate()
    with pytest.raises(UserError, match="this run is finished"):
        train(resume=run.folder)
    (run.folder / "metrics.json").unlink()
    with pytest.raises(UserError, match=r"train\.epochs is 100, not 3"):
        train(resume=True, project=tmp_path, epochs=3)
    again = train(resume=run.folder, quiet=True)
    assert again.folder == run.folder
    assert set(again.metrics) == set(run.metrics)


@pytest.mark.usefixtures("unpictured")
def test_evaluates_as_the_command_does(overfitted: Path, script: Script, tmp_path: Path) -> None:
    script(val, "--project", overfitted, "--json", tmp_path / "m.json", "--conf-thres", 0.1)
    wanted = json.loads((tmp_path / "m.json").read_text())
    run = Run.open(overfitted / "train" / "exp")
    got = run.evaluate(conf_thres=0.1, quiet=True)
    for timed in ("seconds", "speed_ms"):
        assert wanted.pop(timed)
        assert got.pop(timed)
    assert got == wanted
    assert run.evaluate("train", max_det=1, quiet=True)["map"] < got["map"]
    with pytest.raises(UserError, match="--conf-thres: 2"):
        run.evaluate(conf_thres=2)
    with pytest.raises(UserError, match="batch_size: 0 — give 1 or more"):
        run.evaluate(batch_size=0)
    with pytest.raises(UserError, match="--bootstrap: `-1` — give 0 or more"):
        run.evaluate(bootstrap=-1)
    with pytest.raises(UserError, match="`tests`"):
        run.evaluate("tests")


def test_recipes_of_all_kinds_are_one(corners_yaml: Path, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(f"data: {corners_yaml}\ntrain: {{epochs: 3}}\n")
    given = {"train.lr": 0.5, "baselines": ["e2e"]}
    made = Recipe(data=corners_yaml, train=Phase(epochs=3))
    all_given = {"data": str(corners_yaml), "train.epochs": 3}
    sources = ((file, given), (made, given), (None, given | all_given))
    one, other, third = (start.choose(source, own, project=tmp_path).recipe for source, own in sources)
    assert one == other == third
    assert (one.train.epochs, one.train.lr, one.baselines) == (3, 0.5, ("e2e",))
    preset = start.choose(made, given, preset="marquez", project=tmp_path).recipe
    assert preset.pretrain != one.pretrain
    assert preset.train.epochs == 3
    assert start.choose(None, {}, project=tmp_path).recipe == load_recipe(SAMPLE_RECIPE, {})


def test_every_flag_is_a_keyword() -> None:
    names = {flag.removeprefix("--").replace("-", "_") for flag in spelling().values()} - {"import"} | {"imports"}
    assert set(keys_of(dict.fromkeys(names, 1))) == set(spelling())


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"epoch": 1}, r"train: no keyword `epoch` — did you mean epochs"),
        ({"epochs": 0}, r"--epochs: `train\.epochs` is 0"),
        ({"preset": "autor"}, "no preset `autor` — did you mean author"),
        ({"backbone": "darknet"}, "no backbone `darknet` — did you mean darknet53"),
        ({"data": "none.yaml", "backbone": "cnn6"}, r"none\.yaml: cannot be read"),
        ({"recipe": "none.yaml"}, r"none\.yaml: cannot be read"),
        ({"resume": "nowhere"}, "nowhere: is not the folder of a training run"),
        ({"resume": "a" * 300}, "a: is not the folder of a training run"),
        ({"accept_changed_data": True}, "--accept-changed-data: is for --resume"),
        ({"recipe": "a" * 300 + ".yaml"}, "cannot be read: there is no such file"),
        ({"data": "a" * 300 + ".yaml", "backbone": "cnn6"}, "cannot be read: there is no such file"),
        ({"resume": True}, "no unfinished training run"),
        ({"resume": True, "preset": "author"}, "a resumed run keeps its recipe"),
    ],
)
def test_wrong_calls_are_told_in_one_line(wrong: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what) as error:
        train(**{"project": tmp_path, "quiet": True, **wrong})
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_no_processes_from_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # xdist has none
    with pytest.raises(UserError, match="2 processes cannot start from a notebook"):
        start.refuse_several(Recipe(devices=2))
    start.refuse_several(Recipe())


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not the folder of a training run"):
        Run.open(tmp_path)
    (tmp_path / "recipe.yaml").write_text("seed: 1\n")
    run = Run.open(tmp_path)
    assert (run.recipe.seed, run.backbones) == (1, {})
    with pytest.raises(UserError, match="not finished"):
        run.metrics  # noqa: B018


@pytest.mark.parametrize("key", ["init", "weights"])
def test_a_resumed_run_finds_its_weights_in_another_folder(key: str, tmp_path: Path) -> None:
    recipe = load_recipe(None, {"data": "data/sample.yaml", "cl_splits": 0, key: str(tmp_path / "before/best.pt")})
    save_recipe(recipe, tmp_path / "recipe.yaml")
    moved = start.choose(None, {key: str(tmp_path / "after/best.pt")}, resume=tmp_path, project=tmp_path)
    assert getattr(moved.recipe, key) == tmp_path / "after/best.pt"
    with pytest.raises(UserError, match=rf"{key} is .*best\.pt, not .*other\.pt"):
        start.choose(None, {key: str(tmp_path / "after/other.pt")}, resume=tmp_path, project=tmp_path)


def test_a_resumed_run_is_given_no_other_data_to_pretrain_on(tmp_path: Path) -> None:
    """Nor are they taken away; data that are in another folder now are the same."""
    other = {"pretrain_data": "data/sample.yaml"}
    save_recipe(load_recipe(None, {"data": "data/sample.yaml"}), tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match=r"pretrain\.data is "):
        start.choose(None, keys_of(other), resume=tmp_path, project=tmp_path)
    moved = {"data": "data/sample.yaml", **keys_of(other)}
    save_recipe(load_recipe(None, moved), tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match=r"pretrain\.data is "):
        start.choose(None, keys_of({"pretrain_data": None}), resume=tmp_path, project=tmp_path)
    elsewhere = keys_of({"pretrain_data": "data/scenes.yaml"})
    begun = start.choose(None, elsewhere, resume=tmp_path, project=tmp_path)
    assert begun.recipe.pretrain.data == Path("data/scenes.yaml").resolve()


def test_a_resumed_run_has_a_name(script: Script) -> None:
    with pytest.raises(UserError, match="--name: a resumed run keeps its folder"):
        script(command, "--resume", "--name", "other")
