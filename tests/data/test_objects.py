import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from data.description import load_description
from data.formats import read_split
from data.holdout import hold_out
from data.loader import DetectionSet
from data.objects import (
    BACKGROUND,
    LEAST_PIXELS,
    CutOut,
    Window,
    all_alike,
    border_level,
    cut_ahead,
    objects_of,
    said_by_border,
    say_more,
)
from data.records import Record, Split, make_record
from data.views import View, settled, training_view
from utils.config import Augment, Pretrain, Recipe
from utils.errors import UserError
from utils.letterbox import FILL


@pytest.fixture
def split(scenes_yaml: Path) -> Split:
    return read_split(load_description(scenes_yaml), "train")


def marked(height: int, width: int) -> np.ndarray:
    """[H, W, 3] whose first two channels tell row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, np.zeros_like(rows)], -1)


def one_class(split: Split, records: list[Record]) -> Split:
    return replace(split, description=replace(split.description, names=["thing"]), records=records)


def test_every_box_is_a_picture_of_its_class(split: Split) -> None:
    found, said = objects_of(split)
    assert len(found.records) == sum(len(record.labels) for record in split.records)
    assert found.description.single_label
    assert found.description.names == split.description.names
    for own in found.records:
        whole = next(record for record in split.records if record.image == own.image)
        assert own.group == str(own.image)
        assert own.classes is not None
        assert own.classes.tolist() == own.labels.tolist()
        assert any((own.boxes_xyxy[0] == box).all() for box in whole.boxes_xyxy)
    assert said.startswith(f"train: {len(found.records)} objects of {len(split.records)} images")
    assert "left out" not in said


def test_what_cannot_be_cut_out_is_counted(split: Split) -> None:
    """A crowd, a difficult box, one of too few pixels, and one that stays; another class has no box at all."""
    tiny = [10, 10, 10 + LEAST_PIXELS - 1, 12]
    boxes = [[0, 0, 50, 50], [0, 0, 40, 40], tiny, [20, 20, 20 + LEAST_PIXELS, 22]]
    record = make_record(
        Path("a.jpg"), (64, 64), boxes, [0, 1, 1, 1], [False, True, False, False], crowd=[True, False, False, False]
    )
    found, said = objects_of(replace(split, records=[record]))
    assert [own.boxes_xyxy[0].tolist() for own in found.records] == [[20, 20, 28, 22]]
    assert "left out: 1 around crowds, 1 difficult, 1 smaller than 8 pixels" in said
    assert re.search(r"no object of 0, 2, 3, 4, 5, 6, 7, 8, 9$", said)
    with pytest.raises(UserError, match=r"no box of `train` can be cut out, left out: 1 smaller than 8 pixels"):
        objects_of(replace(split, records=[make_record(Path("a.jpg"), (64, 64), [tiny], [1])]))


def test_a_window_is_square_around_the_box_and_grey_outside() -> None:
    image, box = tv_tensors.Image(torch.from_numpy(marked(100, 80)).permute(2, 0, 1)), [10.0, 20.0, 30.0, 60.0]
    boxes = tv_tensors.BoundingBoxes(torch.tensor([box]), format="XYXY", canvas_size=(100, 80))  # type: ignore[call-overload]
    # longer side 40, half of it around: a window of 60 from x = 20 − 30, y = 40 − 30
    square, moved = CutOut(60, Window(0.5))(image, boxes)
    assert square.shape == (3, 60, 60)
    assert (square[:, :, :10] == FILL).all()
    assert torch.equal(square[:, :, 10:], image[:, 10:70, :50])
    assert moved.tolist() == [[20, 10, 40, 50]]
    half, moved = CutOut(30, Window(0.5))(image, boxes)
    assert half.shape == (3, 30, 30)
    assert moved.tolist() == [[10, 5, 20, 25]]


def test_jitter_moves_and_scales_within_its_bounds() -> None:
    window, box = Window(0.5, jitter=0.2), [100.0, 100.0, 140.0, 120.0]
    draws = np.array([window.draw(box) for _ in range(500)])
    sides, middles = draws[:, 2], draws[:, :2] + draws[:, 2:] / 2
    assert 60 / 1.2 - 1 <= sides.min() < 55
    assert 66 < sides.max() <= 60 * 1.2 + 1
    assert np.abs(middles - [120, 110]).max() <= 0.2 * 40 + 1
    assert np.abs(middles - [120, 110]).max() > 6
    left, top, right, bottom = window.reach(box, (1000, 1000))
    assert (draws[:, 0] >= left).all()
    assert (draws[:, 1] >= top).all()
    assert (draws[:, 0] + sides <= right).all()
    assert (draws[:, 1] + sides <= bottom).all()


def test_a_window_keeps_the_middle_of_its_box() -> None:
    """However far it may move: one wholly outside the picture would show nothing of it."""
    window, box = Window(0.0, jitter=1.0), [0.0, 10.0, 40.0, 20.0]
    for left, top, side in (window.draw(box) for _ in range(300)):
        assert left <= 20 <= left + side
        assert top <= 15 <= top + side


def test_pictures_cut_out_ahead_change_nothing(split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, _ = objects_of(split)
    phase = Pretrain(source="objects", imgsz=32, jitter=0.3)
    view = training_view(phase, Augment(fliplr=0.5, photometric=0.5))
    ahead = cut_ahead(objects.records, Window(phase.context, phase.jitter))
    assert all(own.pixels is not None for own in ahead)
    plain, quick = (DetectionSet(records, view, seed=3, classes=10) for records in (objects.records, ahead))
    for epoch in range(3):
        for index in range(0, len(objects.records), 5):
            for one, other in zip(plain[epoch, index], quick[epoch, index], strict=True):
                assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    monkeypatch.setattr("data.objects.free_memory", lambda: 1000)
    assert cut_ahead(objects.records, Window(0.5)) is objects.records


def test_pictures_that_went_away_are_not_cut_out_ahead(split: Split) -> None:
    """They are left out and named where they are read, as without pictures cut out ahead."""
    gone = replace(split.records[0], image=Path("gone.jpg"))
    objects, _ = objects_of(replace(split, records=[gone, *split.records[1:]]))
    ahead = cut_ahead(objects.records, Window(0.5))
    assert {own.image.name for own in ahead if own.pixels is None} == {"gone.jpg"}
    assert ahead[0] is objects.records[0]
    assert DetectionSet(ahead, CutOut(32, Window(0.5)), seed=0)[0, 0] == ("gone.jpg", "the image does not exist")


def test_background_touches_no_box(split: Split) -> None:
    records = [replace(own, labels=own.labels * 0) for own in split.records]
    found, _ = objects_of(one_class(split, records))
    assert found.description.names == ["thing", BACKGROUND]
    background = [own for own in found.records if own.labels[0] == 1]
    assert len(background) > 0.5 * len(found.records) / 2
    for own in background:
        whole = next(record for record in split.records if record.image == own.image)
        box, others = own.boxes_xyxy[0], whole.boxes_xyxy
        apart = (others[:, 2:] < box[:2]) | (others[:, :2] > box[2:])
        assert apart.any(1).all()
        assert (box[:2] >= 0).all()
        assert (box[2:] <= 256).all()
    again, _ = objects_of(one_class(split, records))
    assert all((a.boxes_xyxy == b.boxes_xyxy).all() for a, b in zip(found.records, again.records, strict=True))


def test_what_the_grey_outside_tells_of_objects(split: Split) -> None:
    """Objects in a corner have windows that reach out; background has not."""
    one = one_class(split, [make_record(Path(f"{n}.jpg"), (200, 200), [[0, 0, 60, 60]], [0]) for n in range(4)])
    found, said = objects_of(one)
    assert said.endswith("4 objects of 4 images; 4 background boxes, as many as have room")
    assert "the grey outside the pictures alone classifies 100% of objects" in said_by_border(found, 0.5)
    assert said_by_border(objects_of(split)[0], 0.5) == ""
    middle = [make_record(Path(f"{n}.jpg"), (200, 200), [[60, 60, 140, 140]], [0]) for n in range(20)]
    around, _ = objects_of(one_class(split, middle))
    assert border_level(around, 0.5) > 0.7, "where objects are in the middle, it is background that reaches out"
    assert border_level(around, 0.0) == 0.5, "nothing reaches out"


def test_pictures_of_a_group_have_as_much_background_each_as_objects(split: Split) -> None:
    """Three pictures of one patient with one, two and no objects: one, two, and the one that every picture has."""
    boxes = [[[0, 0, 20, 20]], [[0, 0, 20, 20], [40, 40, 60, 60]], []]
    records = [
        replace(make_record(Path(f"{number}.jpg"), (200, 200), own, [0] * len(own)), group="patient")
        for number, own in enumerate(boxes)
    ]
    found, _ = objects_of(one_class(split, records))
    background = [own.image.name for own in found.records if own.labels[0] == 1]
    assert background == ["0.jpg", "1.jpg", "1.jpg", "2.jpg"]


def test_no_room_for_background(split: Split) -> None:
    record = make_record(Path("a.jpg"), (64, 64), [[0, 0, 64, 60]], [0])
    with pytest.raises(UserError, match="one class, `thing`, and no room beside it"):
        objects_of(one_class(split, [record]))


def test_objects_of_one_picture_stand_on_one_side(split: Split) -> None:
    objects, _ = objects_of(split)
    own, held = hold_out(objects, 0.3)
    assert not {record.group for record in own.records} & {record.group for record in held.records}
    patients = [replace(record, group=f"patient {number // 3}") for number, record in enumerate(split.records)]
    own, held = hold_out(objects_of(replace(split, records=patients))[0], 0.3)
    assert not {record.group for record in own.records} & {record.group for record in held.records}


def test_objects_where_boxes_say_more_than_pictures(split: Split, corners_yaml: Path) -> None:
    single = read_split(load_description(corners_yaml), "train")
    stated = replace(split, records=[replace(own, classes=own.labels) for own in split.records])
    empty = replace(split, records=[make_record(Path("a.jpg"), (64, 64))])
    assert [say_more(own) for own in (split, single, stated, empty)] == [True, False, False, False]
    recipe = Recipe(imgsz=96)
    assert chosen(recipe, split, split) == ("objects", "")
    assert chosen(recipe, single, single) == ("pictures", "")
    assert chosen(Recipe(pretrain=Pretrain(source="pictures")), split, split) == ("pictures", "")


def test_pictures_where_one_side_has_no_object(split: Split) -> None:
    small = make_record(Path("a.jpg"), (64, 64), [[0, 0, 7, 7]], [1])
    bare, tiny = (replace(split, name="val", records=[own]) for own in (make_record(Path("a.jpg"), (64, 64)), small))
    why = "backbone: pictures, not objects: no box of `val` can be cut out"
    assert chosen(Recipe(), split, bare) == ("pictures", why)
    assert chosen(Recipe(), split, tiny) == ("pictures", f"{why}, left out: 1 smaller than 8 pixels")
    learnt = replace(tiny, name="train")
    assert chosen(Recipe(), learnt, tiny)[1] == f"{why.replace('val', 'train')}, left out: 1 smaller than 8 pixels"
    assert chosen(Recipe(pretrain=Pretrain(source="objects")), split, bare) == ("objects", ""), "refused later"


def chosen(recipe: Recipe, *sides: Split) -> tuple[str, str]:
    found, why = settled(recipe, sides)
    return found.pretrain.source, why


def test_objects_of_one_class_among_names_of_several(split: Split) -> None:
    alike = replace(split, records=[replace(own, labels=own.labels * 0 + 3) for own in split.records])
    assert all_alike(objects_of(alike)[0]).startswith(
        "all objects of `train` are `3`: there is nothing to tell apart; "
    )
    assert all_alike(objects_of(split)[0]) == ""
    single = [replace(own, labels=own.labels * 0) for own in split.records]
    assert all_alike(objects_of(one_class(split, single))[0]) == "", "background is the second class"


@pytest.mark.parametrize(
    ("imgsz", "given", "source", "side"),
    [(416, None, "objects", 192), (96, None, "objects", 32), (32, None, "objects", 32), (416, 64, "objects", 64),
     (416, None, "pictures", 416)],
)  # fmt: skip
def test_objects_need_half_the_size(imgsz: int, given: int | None, source: str, side: int) -> None:
    recipe = Recipe.model_validate({"imgsz": imgsz, "pretrain": {"source": source, "imgsz": given}})
    assert View.of(recipe.stage).imgsz == side


def test_a_crowd_of_coco_is_no_object(tmp_path: Path) -> None:
    import json

    Image.fromarray(marked(64, 64)).save(tmp_path / "a.png")
    boxes = [
        {"id": n, "image_id": 1, "category_id": 1, "bbox": [n, n, 30, 30], "area": 900, "iscrowd": n} for n in (0, 1)
    ]
    content = {"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}], "annotations": boxes,
               "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    (tmp_path / "data.yaml").write_text("path: .\nformat: coco\nimages: .\ntrain: a.json\n")
    found, said = objects_of(read_split(load_description(tmp_path / "data.yaml"), "train"))
    assert [own.boxes_xyxy[0].tolist() for own in found.records] == [[0, 0, 30, 30]]
    assert "left out: 1 around crowds;" in said
    assert "no object of dog" in said
