import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Script, Writer
from torch.nn.functional import interpolate

import val
from maps.cases import Cases
from maps.explained import Explained
from maps.overlap import box_mask
from models.cnn6 import CNN6
from models.heads import make_head
from models.plan import make_plan
from utils.boxes import box_iou
from utils.errors import UserError
from wsol.localiser import Subject, largest
from wsol.overfeat import class_loss, foreign, lesson, only, overfeat, overlaps, pooled
from wsol.windows import SCALES, classified, distances, merged, offsets, windows

SIDE, CLASSES = 32, 3


def squares(count: int, seed: int) -> Cases:
    """Grey noise with one coloured square each; the colour is the class."""
    draw = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.rand(count, 3, SIDE, SIDE, generator=draw)
    sides = torch.randint(8, 20, (count,), generator=draw)
    labels = torch.randint(0, CLASSES, (count,), generator=draw)
    boxes = []
    for image, label, side in zip(images, labels.tolist(), sides.tolist(), strict=True):
        x, y = torch.randint(0, SIDE - side + 1, (2,), generator=draw).tolist()
        image[label, y : y + side, x : x + side] = 1
        boxes.append(np.array([[x, y, x + side, y + side]], np.float32))
    truth = np.stack([box_mask(own, SIDE, SIDE) for own in boxes])
    return Cases(images, labels, truth, boxes, 1000 * seed + np.arange(count))


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    backbone = CNN6(0.0625)
    plan = make_plan(backbone, 3, SIDE)
    heads = [make_head("gap", part.shape, CLASSES) for part in plan]
    network = Explained(backbone, [part.stop for part in plan], heads)
    about: Any = SimpleNamespace(device="cpu", files=[SimpleNamespace(names=["a", "b", "c"])])
    return Subject(network, lambda *_: [squares(48, 1), squares(48, 2)], about, lambda: (backbone, heads))


def test_windows_reach_the_edge() -> None:
    assert offsets(8, 8) == [0]
    assert offsets(21, 8) == [0, 2, 4, 6, 8, 10, 12, 13]
    assert offsets(5, 3) == [0, 1, 2]


def test_windows_are_what_the_classifier_is_given(subject: Subject) -> None:
    images = torch.rand(2, 3, SIDE, SIDE)
    found = list(windows(subject.network, 1, images))
    assert len(found) == len(SCALES)
    own = subject.network.features(images)[1]
    assert torch.equal(found[0].features[:, 0], own)
    assert found[0].boxes.tolist() == [[0, 0, 1, 1]]
    for scale in found:
        assert scale.features.shape[2:] == own.shape[1:]
        assert scale.features.shape[1] == len(scale.boxes)
        assert scale.boxes[:, :2].min() == 0
        assert scale.boxes[:, 2:].max() == 1
    for k, scale in zip(SCALES, found, strict=True):
        size = round(SIDE * k)
        assert scale.boxes[0].tolist() == pytest.approx([0, 0, SIDE / size, SIDE / size]), "a k-th of the image"


def test_a_window_sees_what_its_box_holds(subject: Subject) -> None:
    """Its features are those of the crop, but for the cells that see the zeros around the crop."""
    side = 96
    images = torch.rand(1, 3, side, side)
    scale = list(windows(subject.network, 0, images))[-1]
    larger = interpolate(images, [3 * side] * 2, mode="bilinear", antialias=False)
    middle = len(scale.boxes) // 2
    x1, y1, x2, y2 = (round(3 * side * float(own)) for own in scale.boxes[middle])
    own = subject.network.features(larger[:, :, y1:y2, x1:x2])[0]
    same = torch.isclose(own, scale.features[:, middle], atol=1e-5).all(1)
    assert same.float().mean() > 0.2


def test_greedy_merging() -> None:
    boxes = np.array([[0, 0, 0.4, 0.4], [0.02, 0, 0.42, 0.4], [0, 0.02, 0.4, 0.42], [0.6, 0.6, 0.9, 0.9]])
    found, scores = merged(boxes, np.array([1.0, 1.0, 1.0, 2.0]))
    assert scores.tolist() == [3, 2], "three that agree go before one that is surer than each"
    np.testing.assert_allclose(found, [boxes[:3].mean(0), boxes[3]], atol=0.005)
    apart = distances(boxes)
    assert apart.diagonal() == pytest.approx(0)
    assert apart[0, 1] < apart[0, 3]
    assert apart[0, 1] == pytest.approx(0.02 / 0.4 + 1 - box_iou(boxes[0], boxes[1:2])[0])


def test_windows_are_scored_by_the_classifier(subject: Subject) -> None:
    cases = squares(2, 3)
    found = classified(subject, cut=3)(cases.images, cases.labels)
    assert found.shape == (2, 4)
    assert ((found >= 0) & (found <= 1) & np.isfinite(found)).all()


def test_what_windows_teach(subject: Subject) -> None:
    taught = lesson(subject, 1, np.random.default_rng(0))
    shown = ~taught.places.isnan().any(1)
    assert (taught.labels[shown] >= 0).all()
    assert (taught.labels[~shown] == -1).any()
    assert (taught.labels >= 0).any()
    assert taught.features.shape[1:] == (16, 3, 3)
    whole = np.array([[0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    iou, part = overlaps(whole, np.array([0, 0, 0.5, 1]))
    assert iou.tolist() == pytest.approx([0.5, 0.5, 0])
    assert part.tolist() == pytest.approx([1, 0.5, 0])


def test_background_shows_no_object() -> None:
    """A window around a small object overlaps it little, and holds all of it; another object is none either."""
    own = np.array([[0, 0, 1, 1], [0.7, 0.7, 1, 1], [0, 0, 0.3, 0.3], [0.4, 0.4, 0.6, 0.6]])
    boxes = np.array([[0.75, 0.75, 0.85, 0.85], [0, 0, 0.25, 0.25]])
    assert foreign(own, boxes).tolist() == [False, False, False, True]


def test_no_window_teaches_a_class_and_background(subject: Subject) -> None:
    """The best window fits, however little it overlaps."""
    small, every = squares(4, 5), []
    for box in small.boxes:
        box[:] = [1, 1, 3, 3]  # in a corner: every window of so few cells shows the middle
    few = Subject(subject.network, lambda: [small], subject.plan, subject.layers)
    taught = lesson(few, 1, np.random.default_rng(0))
    for features in (taught.features[taught.labels < 0], taught.features[taught.labels >= 0]):
        every.append({tuple(one.flatten().tolist()) for one in features})
    assert every[0]
    assert not every[0] & every[1]


def test_the_most_offending_negatives_count(subject: Subject) -> None:
    taught = lesson(subject, 1, np.random.default_rng(0))
    positive, negative = (taught.labels >= 0).nonzero()[:1, 0], (taught.labels < 0).nonzero()[:8, 0]
    own = only(taught, torch.cat([positive, negative]))
    logits = torch.zeros(9, CLASSES + 1)
    logits[6:, 0] = torch.tensor([1.0, 2, 3])  # these are held to be of the first class

    def network(_: torch.Tensor) -> torch.Tensor:
        return logits

    rows, each = torch.arange(9), torch.nn.functional.cross_entropy
    label = torch.where(own.labels >= 0, own.labels, CLASSES)
    wanted = each(logits, label, reduction="none")[[0, 6, 7, 8]].mean()
    assert class_loss(own, network, rows, negatives="hard") == pytest.approx(float(wanted))  # type: ignore[arg-type]
    assert class_loss(own, network, rows, negatives="random") < wanted  # type: ignore[arg-type]


@pytest.mark.parametrize("boxes", ["class", "shared"])
def test_finds_squares(subject: Subject, boxes: str) -> None:
    cases = squares(12, 4)
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    found = overfeat(subject, boxes, cut=2, negatives="hard")(cases.images, cases.labels)
    ious = [box_iou(own, true[None])[0] for own, true in zip(found, largest(cases), strict=True)]
    assert np.mean(ious) > 0.5
    after = subject.network.state_dict()
    assert all(torch.equal(own, after[name]) for name, own in before.items()), "the backbone is fixed"
    if boxes == "shared":
        again = overfeat(subject, boxes, cut=2, negatives="hard")(cases.images, cases.labels)
        np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize("images", [0, 9])
def test_it_draws_from_all_training_images(subject: Subject, images: int) -> None:
    """And not from those 4,000 that other methods learn from."""
    asked, few = list[int](), squares(9, 6)

    def training(count: int) -> list[Cases]:
        asked.append(count)
        return [few]

    overfeat(replace(subject, training=training), "shared", cut=1, negatives="none", images=images)
    assert set(asked) == {images}


def test_pooling_keeps_the_windows_apart() -> None:
    x = torch.rand(2, 5, 4, 6, 6)
    torch.testing.assert_close(pooled(x)[1, 3], x[1, 3].unflatten(1, (3, 2)).unflatten(3, (3, 2)).mean((2, 4)))


def test_in_the_comparison(script: Script, written: Writer, tmp_path: Path) -> None:
    flags = [
        "--weights",
        written("cl3", k=3),
        "--images",
        2,
        "--untrained",
        1,
        "--bootstrap",
        0,
        "--device",
        "cpu",
        "--project",
        tmp_path,
    ]
    script(val, "--localise", "--method", "windows", "overfeat:shared:cut=2", *flags)
    rows = json.loads((tmp_path / "val" / "exp" / "localisers.json").read_text())["rows"]
    named = {(row["method"], row["line"]) for row in rows}
    assert {("windows", "cl3"), ("overfeat:shared:cut=2", "cl3"), ("overfeat:shared:cut=2", "untrained")} <= named
    with pytest.raises(UserError, match="overfeat:cut=4 wants cut 4, and a network has 3"):
        script(val, "--localise", "--method", "overfeat:cut=4", *flags)
    assert [path.name for path in (tmp_path / "val").iterdir()] == ["exp"]
