import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Script, Writer
from PIL import Image

from data.description import load_description
from data.formats import read_split
from evaluation.accuracy import read_backbones
from maps.cases import Cases
from maps.networks import load_explained
from maps.plan import Plan
from maps.prepare import prepare
from wsol import deep_features
from wsol.deep_features import GUESSED, KINDS, KNOWN, Crops, cropped, svm_maps
from wsol.features import feature_maps
from wsol.svm import PENALTIES, Validated, fit_svm


@pytest.fixture
def plan(written: Writer, scenes_yaml: Path) -> Plan:
    return prepare(read_backbones([written("cl6", head="gap")]), read_split(load_description(scenes_yaml), "test"))


def test_maps_add_up_to_the_score(plan: Plan) -> None:
    """The mean of a map is the score before the features are brought to unit length."""
    network = load_explained(plan.files[0], plan)
    draw = np.random.default_rng(0)
    images, labels = torch.rand(4, 3, 64, 64), torch.tensor([3, 4, 5, 9])
    features = feature_maps(network, images)
    own = fit_svm(draw.normal(size=(30, features.shape[1])), np.arange(30) % 3 + 3)
    maps = svm_maps(network, own, images, labels)
    assert maps.shape == (4, 64, 64)
    assert not maps[3].any()  # no such class
    pooled = features.mean((2, 3)).numpy()
    raw = np.einsum("bd,bdhw->bhw", own.weights[:3], features[:3].numpy())
    np.testing.assert_allclose(raw.mean((1, 2)), (pooled[:3] * own.weights[:3]).sum(1), rtol=1e-4, atol=1e-5)


def test_crops() -> None:
    image = torch.zeros(3, 8, 8)
    image[:, 2:4, 4:8] = 1
    cases = Cases(torch.stack([image, image]), torch.tensor([0, 0]), np.zeros((2, 8, 8), bool), [], np.array([0, 1]))
    found = cropped(cases, [np.array([4, 2, 8, 4.0]), None]).images
    assert torch.equal(found[0], torch.ones(3, 8, 8))
    assert torch.equal(found[1], image)


def test_pictures_of_an_image_are_in_one_fold(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image has a case for each of its classes, and patients have several images."""
    records = [replace(record, group=f"patient {index // 2}") for index, record in enumerate(plan.training)]
    plan, given = replace(plan, training=records), list[np.ndarray]()

    def validation(*_: object, groups: np.ndarray, **more: object) -> Validated:
        given.append(groups)
        return Validated({1.0: 1.0}, 0)

    monkeypatch.setattr("wsol.deep_features.validated", validation)
    Crops(plan, load_explained(plan.files[0], plan)).learn(plan.cases(plan.training, "training"))
    owner = np.concatenate([cases.record for cases in plan.cases(plan.training, "training")]) // 2
    assert len(np.unique(owner)) == len(np.unique(given[0])) == 4
    assert ((owner[:, None] == owner) == (given[0][:, None] == given[0])).all()


def test_command(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [written("cl6", head="gap"), written("e2e", head="gap")]
    more = (
        "--penalty",
        1,
        "--imgsz",
        32,
        "--training",
        5,
        "--json",
        tmp_path / "crops.json",
        "--pictures",
        tmp_path / "page.jpg",
    )
    script(deep_features, "--weights", *files, "--data", scenes_yaml, *more)
    content = json.loads((tmp_path / "crops.json").read_text())
    rows = content["rows"]
    assert content["training"] == 5
    assert [row["line"] for row in rows] == ["cl6", "e2e"]
    assert all(0 <= row[kind] <= 1 for row in rows for kind in (*KINDS, KNOWN, GUESSED))
    assert np.asarray(Image.open(tmp_path / "page.jpg")).std() > 0
    said = capsys.readouterr().out
    assert "5 of 8 training images" in said
    assert "crop by map" in said
    if content["not_learned"]:
        assert f"has it: {', '.join(content['not_learned'])}; their images count as wrong" in said


def test_class_folders_have_no_boxes_to_crop_to(
    script: Script, written: Writer, corners_yaml: Path, tmp_path: Path
) -> None:
    file = written("cl6", data=corners_yaml, head="gap")
    script(deep_features, "--weights", file, "--data", corners_yaml, "--json", tmp_path / "crops.json")
    row = json.loads((tmp_path / "crops.json").read_text())["rows"][0]
    assert {"whole image", "crop by map"} == set(row) - {"line", "seed", "penalties"}
    assert set(row["penalties"].values()) <= set(PENALTIES)
