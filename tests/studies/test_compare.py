"""Runs beside each other on one page."""

import json
import math
import re
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import CASCADE, Script
from PIL import Image

import train
from studies import compare
from studies.compare_page import LOSS, curve_of
from studies.compared import Compared, backbones, cells, recipe_table
from utils.config import Recipe
from utils.errors import UserError
from utils.recipes import build, differences, load_recipe, save_recipe
from utils.runs import FINISHED


@pytest.fixture
def pair(overfitted: Path, tmp_path: Path) -> list[Path]:
    """A run with a detector, and another one of the same weights under another recipe."""
    own, other = overfitted / "train" / "exp", tmp_path / "runs" / "train" / "other"
    (other / "weights").mkdir(parents=True)
    for name in ("weights/best.pt", "metrics.json", "pretrain.csv", "results.csv"):
        shutil.copyfile(own / name, other / name)
    recipe = load_recipe(own / "recipe.yaml", {})
    save_recipe(recipe.model_copy(update={"seed": 5, "train": recipe.train.model_copy(update={"lr": 0.5})}),
                other / "recipe.yaml")  # fmt: skip
    return [own, other]


def test_page_of_two_detectors(pair: list[Path], script: Script, tmp_path: Path) -> None:
    script(compare, *pair, "--project", tmp_path, "--bootstrap", 50, "--images", 2, "--device", "cpu")
    folder = tmp_path / "compare" / "exp"
    page = (folder / "compare.html").read_text()
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:image/)', page)
    assert page.count("<figure>") == 6  # two pictures: the truth and two detectors each
    for key, one, two in (("seed", "0", "5"), ("train.lr", "0.003", "0.5")):
        assert f"<tr><td>{key}</td><td>{one}</td><td>{two}</td></tr>" in page
    found = json.loads((folder / "comparison.json").read_text())
    assert found["lines"]["exp"]["map50"]["mean"] > 0.9
    same = found["differences"]["other"]["map50"]
    assert (same["mean"], same["low"], same["high"]) == (0, None, None) or same["low"] <= 0 <= same["high"]
    assert "| seed | 0 | 5 |" in (folder / "compare.md").read_text()
    for name in ("curves.png", "differences.png"):
        with Image.open(folder / name) as picture:
            assert picture.width > 300


def test_runs_without_detectors(
    corners_yaml: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script(train, "--data", corners_yaml, "--project", tmp_path, "--name", "a", *CASCADE)
    shutil.copytree(tmp_path / "train" / "a", tmp_path / "train" / "b")
    (tmp_path / "train" / "b" / FINISHED).unlink()
    capsys.readouterr()
    script(compare, tmp_path / "train" / "a", tmp_path / "train" / "b", "--project", tmp_path)
    assert "no detector in a, b: no figures on common pictures" in capsys.readouterr().out
    page = (tmp_path / "compare" / "exp" / "compare.html").read_text()
    assert "<p>Nothing.</p>" in page
    assert "not finished" in page
    assert "Fewer than two of the runs have a detector" in page


def test_a_classifier_is_shown_by_the_figure_that_its_interval_is_of() -> None:
    stage = {"accuracy": 0.1, "auc": 0.8, "low": 0.7, "high": 0.9, "learnt": 1}
    said = {name: backbones({"judged_by": name, "pretrain": {"cl3": [stage]}}) for name in ("auc", "accuracy")}
    assert said["auc"] == "cl3 AUC 0.800 [0.700, 0.900]"
    assert said["accuracy"].startswith("cl3 top-1 0.100")
    del stage["learnt"]
    assert backbones({"pretrain": {"cl3": [stage]}}).endswith(", never compared with chance")


def test_files_of_one_name_have_their_folders() -> None:
    assert cells(["/a/x.yaml", "/a/y.yaml", None]) == ["x.yaml", "y.yaml", "–"]
    assert cells(["/a/x.yaml", "/b/x.yaml"]) == ["/a/x.yaml", "/b/x.yaml"]


def test_a_key_that_one_recipe_has_alone() -> None:
    recipes = [build(Recipe, {"train": {"rates": rates}}, Path("r.yaml")) for rates in ({}, {"b1": 0.5})]
    assert differences(*recipes) == ["train.rates.b1 is –, not 0.5"]
    assert differences(*reversed(recipes)) == ["train.rates.b1 is 0.5, not –"]
    for own, shown in ((recipes, ["–", "0.5"]), (recipes[::-1], ["0.5", "–"])):
        runs = [Compared(name, Path(name), recipe, {}) for name, recipe in zip("ab", own, strict=True)]
        assert recipe_table(runs) == [["key", "a", "b"], ["train.rates.b1", *shown]]


def test_curves_begin_anew_with_each_stage(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "task,epoch,train/a,train/b,train/accuracy,val/x\n1,1,1,2,9,\n1,2,2,,9,5\n2,1,4,4,9,\n2,2,3,3,9,7\n"
    )
    losses, figures = curve_of(path, LOSS), curve_of(path, "val/x")
    assert losses
    assert figures
    assert losses.epochs == [1, 2, 3, 3, 4]
    assert [value for value in losses.values if not math.isnan(value)] == [3, 2, 8, 6]
    assert math.isnan(losses.values[2])
    assert (figures.epochs, figures.values[0], figures.values[-1]) == ([2, 3, 4], 5, 7)
    assert curve_of(path, "val/y") is None
    assert curve_of(tmp_path / "none.csv", LOSS) is None


def test_what_cannot_be_compared(pair: list[Path], script: Script, tmp_path: Path) -> None:
    own, other = pair
    with pytest.raises(UserError, match="exp: only one run was given — give two or more run folders"):
        script(compare, own, "--project", tmp_path / "new")
    with pytest.raises(UserError, match="2 runs are called exp"):
        script(compare, own, own, "--project", tmp_path / "new")
    with pytest.raises(UserError, match="is not the folder of a training run"):
        script(compare, own, tmp_path, "--project", tmp_path / "new")
    with pytest.raises(UserError, match="--images: `-1` — give 0 or more"):
        script(compare, own, other, "--images", -1, "--project", tmp_path / "new")
    data = tmp_path / "data.yaml"
    content = yaml.safe_load((own.parents[1] / "overfit.yaml").read_text())
    data.write_text(yaml.safe_dump(content | {"names": [*"0123456789x"]}))
    with pytest.raises(UserError, match="are not those of"):
        script(compare, own, other, "--data", data, "--project", tmp_path / "new")
    assert not (tmp_path / "new").exists()
