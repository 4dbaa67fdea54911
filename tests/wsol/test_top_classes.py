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
from wsol.features import files_of, plan_of_pictures


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
    labels = torch.tensor([7, 2, 0])
    maps = top_classes.maps_of(network, "cam", images[0], labels)
    for label, one in zip(labels, maps, strict=True):
        alone = cams(network, images, label[None])[-1].at(64, 64).maps[0]
        np.testing.assert_allclose(one, alone.numpy(), atol=1e-6)


def test_classes_are_those_of_what_the_maps_look_at(written: Writer, scenes: Path) -> None:
    """At the size that is asked for, of each picture's own probabilities."""
    (file,) = files_of([written("e2e", k=1, head="gap", single_label=True)], 96)
    plan = plan_of_pictures(file, top_classes.read_pictures([scenes / "JPEGImages"])[:3], scenes)
    network, parts = load_explained(file, plan), plan.images(plan.split.records, "pictures")
    logits = torch.cat([network(cases.images)[-1] for cases in parts]).detach()
    for own, wanted in zip(top_classes.classified(plan, 10), logits, strict=True):
        assert sum(own.scores) == pytest.approx(1)
        assert list(own.labels) == wanted.argsort(descending=True).tolist()
        np.testing.assert_allclose(own.logits, wanted.sort(descending=True).values, atol=1e-5)


def test_damaged_pictures_are_left_out(
    script: Script, written: Writer, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = scenes / "JPEGImages" / "test_00000.jpg"
    (tmp_path / "a.jpg").write_bytes(picture.read_bytes()[:100])
    sources = tmp_path / "a.jpg", picture
    script(top_classes, "--weights", written("e2e", k=1), "--source", *sources, "--json", tmp_path / "found.json")
    assert f"left out {tmp_path / 'a.jpg'}: " in capsys.readouterr().out
    assert list(json.loads((tmp_path / "found.json").read_text())) == [str(picture)]


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
