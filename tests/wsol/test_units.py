import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Script, Writer
from PIL import Image

from evaluation.accuracy import read_backbones
from maps.networks import load_explained
from maps.plan import Plan
from utils.errors import UserError
from wsol import units
from wsol.features import planned


def test_units_of_classes(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("e2e", k=1, head="gap")
    files = ("--json", tmp_path / "units.json", "--pictures", tmp_path / "units.jpg")
    script(units, "--weights", file, "--data", scenes_yaml, "--classes", "7", *files)
    found = json.loads((tmp_path / "units.json").read_text())["units"]
    assert [own["of"] for own in found] == ["7"] * 3
    weights = [own["weight"] for own in found]
    assert weights == sorted(weights, reverse=True)
    assert all(sorted(own["images"]) == [0, 1, 2, 3] and sum(own["fires_on"].values()) == 4 for own in found)
    assert np.asarray(Image.open(tmp_path / "units.jpg")).std() > 0
    assert "unit" in capsys.readouterr().out


def test_images_are_those_that_a_unit_fires_on(written: Writer, scenes_yaml: Path) -> None:
    file = written("e2e", k=1, head="gap")
    plan: Plan = planned([file], scenes_yaml, None)
    network = load_explained(read_backbones([file])[0], plan)
    fires = units.firing(network, plan)
    (own, *_) = units.units_of(network, plan, [0])
    values = fires[own.images, own.unit]
    assert (np.diff(values) <= 0).all()
    image, one = units.seen_by(network, plan, own.images[0], own.unit)
    assert one.shape == image.shape[1:]
    assert one.max() <= values[0] + 1e-5


def test_no_units(script: Script, written: Writer, scenes_yaml: Path) -> None:
    with pytest.raises(UserError, match="its classifier pools no units"):
        script(units, "--weights", written("e2e"), "--data", scenes_yaml)
