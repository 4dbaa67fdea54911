from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from data.loader import Batch
from data.records import Record, Split, make_record
from training.detector import balanced_weights, make_mix, resize, warnings
from utils.boxes import Truth
from utils.config import Recipe


def test_sizes_of_multi_scale_training() -> None:
    """As in darknet's random=1 at 416: 320 to 608 would be ±0.23 to 0.46; here the share is even."""

    def sides(imgsz: int, share: float) -> list[int]:
        return list(Recipe(imgsz=imgsz, multi_scale=share).sides)

    assert sides(416, 0.25) == [320, 352, 384, 416, 448, 480, 512]
    assert sides(64, 0.9) == [32, 64, 96]
    assert sides(96, 0.1) == [96]


def test_boxes_follow_their_image() -> None:
    images = torch.zeros(2, 3, 64, 64)
    images[1, :, 16:48, 8:24] = 1
    boxes = torch.tensor([[8.0, 16, 24, 48]])
    for side in (32, 96, 128):
        batch = Batch(images, Truth(boxes, torch.tensor([0]), torch.tensor([1])), torch.zeros(2, 1), torch.arange(2))
        resize(batch, side)
        assert batch.images.shape == (2, 3, side, side)
        x1, y1, x2, y2 = batch.truth.boxes_xyxy[0].round().int().tolist()
        inside = torch.zeros(side, side)
        inside[y1:y2, x1:x2] = 1
        assert (batch.images[1, 0] - inside).abs().mean() < 0.02


def test_mosaic_ends_before_the_last_epochs() -> None:
    recipe = Recipe.model_validate({"train": {"epochs": 5}, "augment": {"mosaic": 0.5, "closing": 0.2}})
    mix = make_mix(recipe)
    assert mix is not None
    assert mix.until == 4
    assert make_mix(Recipe()) is None


def test_rare_classes_weigh_more() -> None:
    records = [
        make_record(Path("x.jpg"), (9, 9), [(0, 0, 5, 5)] * 4, labels) for labels in ([0, 0, 0, 0], [0, 0, 1, 1])
    ]
    weights = balanced_weights(records, 3)
    torch.testing.assert_close(weights, torch.tensor([8 / (3 * 6), 8 / (3 * 2), 8 / (3 * 1)]))


def test_what_boxes_do_not_allow_is_said() -> None:
    def splits(train: list[Record], val: list[Record], imgsz: int) -> Any:
        parts = {name: Split(name, None, records) for name, records in (("train", train), ("val", val))}  # type: ignore[arg-type]
        return SimpleNamespace(recipe=Recipe(imgsz=imgsz), **parts)

    box = [10.0, 10, 13, 40]
    some = make_record(Path("a"), (100, 100), [box, [0, 0, 50, 50]], [0, 0])
    crowd = make_record(Path("b"), (100, 100), [[0, 0, 50, 50]], [0], crowd=[True])
    assert warnings(splits([some], [some], 96)) == []
    assert warnings(splits([some], [some], 32)) == [
        "1 of 2 boxes of `train` have a side below 2 pixels at --imgsz 32 and are not learnt",
        "1 of 2 boxes of `val` have a side below 2 pixels at --imgsz 32 and are demanded all the same",
    ]
    (line,) = warnings(splits([some], [crowd], 96))
    assert line.startswith("`val` has no boxes: no epoch is better than another, best.pt is the last one")
