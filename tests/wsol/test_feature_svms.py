import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DIGITS, Script, Writer, write_yaml
from PIL import Image
from torch import nn

from models.heads import make_head
from utils.errors import UserError
from wsol import feature_svms
from wsol.features import FEATURES

SHAPE = (8, 5, 5)


def test_what_the_kinds_are() -> None:
    x, gap, marquez = torch.rand(2, *SHAPE), make_head("gap1024", SHAPE, 3), make_head("marquez", SHAPE, 3).eval()
    assert isinstance(gap, nn.Sequential)
    assert isinstance(marquez, nn.Sequential)
    torch.testing.assert_close(FEATURES["average"].take(gap, x), x.mean((2, 3)))
    own, fc7 = FEATURES["gap"], FEATURES["fc7"]
    torch.testing.assert_close(gap[-1](own.take(gap, x)), gap(x))
    torch.testing.assert_close(marquez[-1](fc7.take(marquez, x)), marquez(x))
    assert own.maps is not None
    torch.testing.assert_close(own.maps(gap, x).mean((2, 3)), own.take(gap, x))
    assert own.obstacle(marquez)
    assert fc7.obstacle(gap)
    assert own.obstacle(gap) is fc7.obstacle(marquez) is None


def test_command(
    script: Script, written: Writer, corners_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [written("e2e", data=corners_yaml, imgsz=32, k=1, head=head) for head in ("gap", "marquez")]
    more = ("--json", tmp_path / "a.json", "--plot", tmp_path / "cv.png", "--pictures", tmp_path / "a.jpg")
    kinds = ("--features", "gap", "fc7", "--folds", 2)
    script(feature_svms, "--weights", *files, "--data", corners_yaml, *kinds, *more)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["measure"] == "accuracy"
    assert [(row["feature"], row["line"]) for row in content["rows"]] == [
        ("gap", "e2e, gap head"),
        ("fc7", "e2e, marquez head"),
    ]
    for row in content["rows"]:
        assert row["validation"][str(row["penalty"])] == max(row["validation"].values())
    for name in ("cv.png", "a.jpg"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 0
    assert "accuracy" in capsys.readouterr().out


def test_several_tags_an_image(script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path) -> None:
    flags = ("--penalty", 1, "--json", tmp_path / "a.json")
    script(feature_svms, "--weights", written("e2e", head="gap"), "--data", scenes_yaml, *flags)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["measure"] == "mean average precision"
    assert 0 < content["rows"][0]["quality"] <= 1


def test_classes_that_no_training_image_has(
    script: Script, written: Writer, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(scenes, tmp_path / "set")
    picture = next((tmp_path / "set" / "Annotations").glob("test_*.xml"))
    picture.write_text(re.sub(r"<name>\d</name>", "<name>ten</name>", picture.read_text(), count=1))
    data = write_yaml(tmp_path / "d.yaml", path=str(tmp_path / "set"), names=[*DIGITS, "ten"])
    flags = ("--penalty", 1, "--training", 7, "--json", tmp_path / "a.json")
    script(feature_svms, "--weights", written("e2e", head="gap"), "--data", data, *flags)
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["not_learned"][-1] == "ten"
    said = capsys.readouterr().out
    assert "not learned, because no training image has it, or every one: " in said
    assert "ten; they do not count" in said
    assert "7 of 8 training images" in said


def test_held_out_images_without_a_class(script: Script, written: Writer, scenes: Path, tmp_path: Path) -> None:
    shutil.copytree(scenes, tmp_path / "set")
    for path in (tmp_path / "set" / "Annotations").glob("test_*.xml"):
        path.write_text(re.sub(r"<object>.*</object>", "", path.read_text(), flags=re.DOTALL))
    data = write_yaml(tmp_path / "d.yaml", path=str(tmp_path / "set"))
    with pytest.raises(UserError, match=r"d\.yaml: no image of `test` has a class"):
        script(feature_svms, "--weights", written("e2e", head="gap"), "--data", data, "--penalty", 1)


def test_features_that_no_file_has(script: Script, written: Writer, scenes_yaml: Path) -> None:
    with pytest.raises(UserError, match="--features: `fc7` wants fully connected layers"):
        script(feature_svms, "--weights", written("e2e", head="gap"), "--data", scenes_yaml, "--features", "fc7")
