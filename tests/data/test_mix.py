from pathlib import Path

import numpy as np
import pytest
import torch

from data.loader import DetectionSet
from data.mix import LEAST_SHOWN, Labelled, Mix, make_mosaic, mix_up
from data.records import make_record
from data.transforms import ToSize, train_transform
from utils.config import Augment
from utils.letterbox import FILL, letterboxed

SIDE = 64


def plain(colour: int, height: int, width: int) -> Labelled:
    """One colour, with a box over all of it; the label is the colour."""
    image = torch.full((3, height, width), colour, dtype=torch.uint8)
    return Labelled(image, torch.tensor([[0.0, 0, width, height]]), torch.tensor([colour]))


def records(count: int = 6) -> list:  # type: ignore[type-arg]
    return [
        make_record(
            Path(f"{n}.png"), (40, 30), [(5, 5, 25, 35)], [n], pixels=np.full((40, 30, 3), 20 * (n + 1), np.uint8)
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_every_box_of_a_mosaic_holds_the_pixels_of_its_image(seed: int) -> None:
    torch.manual_seed(seed)
    parts = [plain(50, 40, 80), plain(100, 90, 30), plain(150, 64, 64), plain(200, 10, 20)]
    found = make_mosaic(parts, SIDE)
    assert found.image.shape == (3, SIDE, SIDE)
    for (x1, y1, x2, y2), label in zip(found.boxes_xyxy.round().int().tolist(), found.labels.tolist(), strict=True):
        assert 0 <= x1 < x2 <= SIDE
        assert 0 <= y1 < y2 <= SIDE
        assert (found.image[:, y1:y2, x1:x2] == label).all()
    rest = set(found.image.unique().tolist()) - {50, 100, 150, 200}
    assert rest <= {FILL}
    assert len(found.labels) >= 3, "at a point in the middle half, each image shows at least a quarter of most boxes"


def test_boxes_of_which_too_little_is_left_are_dropped() -> None:
    torch.manual_seed(0)
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    far = Labelled(image, torch.tensor([[0.0, 0, 4, 4], [90, 90, 100, 100]]), torch.tensor([0, 1]))
    kept = [make_mosaic([far] * 4, SIDE).labels.tolist() for _ in range(20)]
    # The corner at the point is always there; the one far from it often is not.
    assert all(labels.count(1) >= 1 for labels in kept)
    assert min(map(len, kept)) < 8
    assert LEAST_SHOWN == 0.25


def test_mix_up_is_a_mean_with_the_boxes_of_both() -> None:
    torch.manual_seed(0)
    shares = []
    for _ in range(200):
        found = mix_up(plain(0, 8, 8), plain(200, 8, 8))
        assert found.labels.tolist() == [0, 200]
        assert len(found.image.unique()) == 1
        shares.append(found.image[0, 0, 0].item() / 200)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.std(shares) == pytest.approx(0.1213, abs=0.02), "of Beta(8, 8)"


def test_joined_until_the_closing_epoch() -> None:
    own = records()
    dataset = DetectionSet(own, ToSize(letterboxed, SIDE), 0, mix=Mix(mosaic=1, mixup=1, imgsz=SIDE, until=3))
    assert all(len(dataset[(epoch, 2)][2]) > 3 for epoch in range(3))
    image, boxes, labels, _, index = dataset[(3, 2)]
    assert (labels.tolist(), index) == ([2], 2)
    assert torch.equal(image, DetectionSet(own, ToSize(letterboxed, SIDE), 0)[(3, 2)][0])
    assert len(boxes) == 1


def test_the_same_draw_gives_the_same_picture_and_epochs_differ() -> None:
    transform = train_transform(SIDE, Augment(zoom_out=0.5))
    one, two = (DetectionSet(records(), transform, 0, mix=Mix(0.5, 0.5, SIDE, 99)) for _ in range(2))
    before = torch.get_rng_state()
    pairs = [(one[(epoch, index)], two[(epoch, index)]) for epoch in range(4) for index in range(6)]
    assert all(torch.equal(a, b) for item, other in pairs for a, b in zip(item[:3], other[:3], strict=True))
    assert len({item[0].float().mean().item() for item, _ in pairs}) > 20
    assert torch.equal(torch.get_rng_state(), before)
