import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DIGITS, Script, Writer
from PIL import Image

from evaluation.accuracy import read_backbones
from maps.kinds import cams
from maps.networks import load_explained
from utils.errors import UserError
from wsol import top_classes
from wsol.features import plan_of_pictures


def test_command(
    script: Script, written: Writer, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scenes / "JPEGImages" / "test_00000.jpg"
    flags = ("--top", 3, "--json", tmp_path / "a.json", "--pictures", tmp_path / "a.jpg")
    script(top_classes, "--weights", written("e2e", k=1, head="gap"), "--source", picture, *flags)
    (found,) = json.loads((tmp_path / "a.json").read_text()).values()
    assert len(found) == 3
    assert set(found) < set(DIGITS)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert np.asarray(Image.open(tmp_path / "a.jpg")).std() > 0
    assert "test_00000.jpg: " in capsys.readouterr().out


def test_each_class_has_its_own_map(written: Writer, scenes: Path) -> None:
    path = written("e2e", k=1, head="gap", single_label=True)
    (file,) = read_backbones([path])
    network = load_explained(file, plan_of_pictures(file, [], path))
    images = torch.rand(1, 3, 64, 64)
    (own,) = top_classes.likely(network, images, 10)
    assert own.values.sum() == pytest.approx(1)
    assert own.labels.tolist() == network(images)[-1][0].argsort(descending=True).tolist()
    maps = top_classes.maps_of(network, "cam", images[0], own.labels)
    for label, one in zip(own.labels, maps, strict=True):
        alone = cams(network, images, label[None])[-1].at(64, 64).maps[0]
        np.testing.assert_allclose(one, alone.numpy(), atol=1e-6)


def test_nothing_to_show(script: Script, written: Writer, tmp_path: Path) -> None:
    file, empty = written("e2e", k=1), tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no picture there"):
        script(top_classes, "--weights", file, "--source", empty)
    with pytest.raises(UserError, match="does not exist"):
        script(top_classes, "--weights", file, "--source", tmp_path / "a.jpg")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match="has `author` heads, which cam cannot explain"):
        script(top_classes, "--weights", file, "--source", tmp_path / "a.jpg", "--maps", "cam")
