import json
from pathlib import Path

import numpy as np
import pytest
from conftest import DIGITS, Script, Writer
from PIL import Image

from utils.errors import UserError
from wsol import concepts


def test_tags_of_boxes(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--json", tmp_path / "concepts.json", "--pictures", tmp_path / "page.jpg")
    script(concepts, "--weights", written("cl6", head="gap"), "--data", scenes_yaml, "--tags", "3", "5", *files)
    content = json.loads((tmp_path / "concepts.json").read_text())
    assert [own["tag"] for own in content["concepts"]] == ["3", "5"]
    assert all(0 < own["precision"] <= 1 and own["training"] for own in content["concepts"])
    assert set(content["units"]) == set(DIGITS)
    assert all(0 <= share <= 1 for own in content["objects"].values() for share in own.values())
    assert np.asarray(Image.open(tmp_path / "page.jpg")).std() > 0
    assert "under the map of the class" in capsys.readouterr().out


def test_tags_of_images(script: Script, written: Writer, corners_yaml: Path, tmp_path: Path) -> None:
    """A bright corner is found in features of random weights; without boxes nothing lies under a map."""
    file = written("cl6", data=corners_yaml, imgsz=32, head="gap")
    script(concepts, "--weights", file, "--data", corners_yaml, "--json", tmp_path / "concepts.json")
    content = json.loads((tmp_path / "concepts.json").read_text())
    assert [own["tag"] for own in content["concepts"]] == ["nw", "ne", "sw", "se"]
    assert "objects" not in content
    assert np.mean([own["precision"] - own["chance"] for own in content["concepts"]]) > 0


def test_wrong_tags(script: Script, written: Writer, scenes_yaml: Path) -> None:
    with pytest.raises(UserError, match="--tags"):
        script(concepts, "--weights", written("cl6"), "--data", scenes_yaml, "--tags", "cat")
