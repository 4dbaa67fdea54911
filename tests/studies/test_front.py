"""The README's picture, and weights made ready for git."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from conftest import Once, Script
from PIL import Image

from models.trained import load_trained
from studies import front, ship
from utils import checkpoint, zoo
from utils.checkpoint import TRAINED_ON
from utils.errors import UserError
from utils.zoo import weight_file


@pytest.fixture
def scene(scenes: Path) -> Path:
    return scenes / "JPEGImages" / "test_00000.jpg"


def test_five_panels(script: Script, scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "front.png"
    script(front, "--weights", weight_file("zoo:darknet53_detector"), "--picture", scene, "--out", out)
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("L")).astype(int)
    assert pixels.shape[1] > 4 * pixels.shape[0]
    panels = np.array_split(pixels[40:], 5, axis=1)
    assert all(panel.std() > 10 for panel in panels), "none is blank"
    assert all(
        np.abs(panels[0] - other[:, : panels[0].shape[1]]).mean() > 1
        for other in panels[1:]
        if other.shape == panels[0].shape
    )


def test_maps_are_those_of_the_whole_network_behind_a_tap() -> None:
    """Each map is a weighted sum of positive parts: none is below zero, and one of another image differs."""
    detector = load_trained(weight_file("zoo:darknet53_detector"))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    first, other = (front.maps_of(detector, image) for image in images)
    assert [own.shape for own in first] == [(96, 96)] * 3
    assert all(own.min() >= 0 and own.max() > 0 for own in first)
    assert not np.allclose(first[2], other[2])


def test_what_has_no_picture(script: Script, scene: Path, tmp_path: Path) -> None:
    weights, wide, blank = weight_file("zoo:darknet53_detector"), tmp_path / "wide.png", tmp_path / "blank.png"
    Image.new("RGB", (96, 64)).save(wide)
    Image.new("RGB", (96, 96)).save(blank)
    for picture in (wide, blank):
        with pytest.raises(UserError, match="no square picture with a detection"):
            script(front, "--weights", weights, "--picture", picture, "--out", tmp_path / "front.png")
    assert not (tmp_path / "front.png").exists()


@pytest.fixture(scope="session")
def run(scenes_yaml: Path, once: Once) -> Path:
    """A finished run with a backbone, a baseline and a detector."""
    from training import train

    def fill(folder: Path) -> None:
        sizes = {"width": 0.0625, "cl_splits": 1, "imgsz": 64, "epochs": 1, "pretrain_epochs": 1, "workers": 0}
        train(data=scenes_yaml, project=folder, name="small", quiet=True, **sizes)

    return once("shipped", fill) / "train" / "small"


@pytest.fixture
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights' folder of a project without weights."""
    page = "# Weights\n\n<!-- table -->\nnone\n<!-- end -->\n\nText.\n"
    (tmp_path / "README.md").write_text(page)
    for module in (ship, zoo):
        monkeypatch.setattr(module, "FOLDER", tmp_path)
    monkeypatch.setattr(ship, "LIST", tmp_path / "zoo.yaml")
    monkeypatch.setattr(zoo, "LIST", tmp_path / "zoo.yaml")
    monkeypatch.setattr(ship, "detector_figures", lambda path: {"map": 0.1, "map50": 0.25})
    zoo.zoo.cache_clear()


@pytest.mark.usefixtures("_elsewhere")
def test_ships_in_half_precision(run: Path, script: Script, tmp_path: Path) -> None:
    script(ship, run)
    files = zoo.zoo()
    assert set(files) == {"small_cl1", "small_detector"}
    assert all(own.default for own in files.values())
    assert files["small_detector"].figures == {"map": 0.1, "map50": 0.25}
    assert 0 <= files["small_cl1"].figures["top-1"] <= 1
    whole = checkpoint.load_tensors(run / "weights" / "best.pt")
    for name, tensor in checkpoint.load_tensors(tmp_path / "small_detector.pt")["model"].items():
        assert tensor.dtype == (
            torch.float16 if whole["model"][name].is_floating_point() else whole["model"][name].dtype
        )
        torch.testing.assert_close(tensor.float(), whole["model"][name].float(), rtol=2e-3, atol=1e-4)
    detector = load_trained(tmp_path / "small_detector.pt")
    assert next(detector.model.parameters()).dtype == torch.float32
    assert TRAINED_ON in checkpoint.load_tensors(tmp_path / "small_cl1.pt")
    page = (tmp_path / "README.md").read_text()
    assert ship.table(files) in page
    assert page.endswith("Text.\n")
    assert "none" not in page
    zoo.zoo.cache_clear()


@pytest.mark.usefixtures("_elsewhere")
def test_a_run_without_weights(script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no weights to ship"):
        script(ship, tmp_path / "nothing")
    assert not (tmp_path / "zoo.yaml").exists()


def test_paths_of_the_project_are_from_its_root() -> None:
    found = ship.from_root(
        {"data": "/somewhere/project/data/scenes.yaml", "pretrain": {"data": "/my/own.yaml"}, "seed": 1}
    )
    assert found == {"data": "data/scenes.yaml", "pretrain": {"data": "/my/own.yaml"}, "seed": 1}


def test_list_of_weights_is_read_as_written() -> None:
    content = yaml.safe_load((Path(zoo.__file__).parents[1] / "weights" / "zoo.yaml").read_text())
    zoo.zoo.cache_clear()
    assert {name: own.sha256 for name, own in zoo.zoo().items()} == {
        name: own["sha256"] for name, own in content.items()
    }
