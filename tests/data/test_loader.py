import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_yaml
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from data.description import load_description
from data.formats import read_split
from data.images import UnreadableError
from data.loader import DetectionSet, EpochSampler, InOrder, make_loader
from data.records import Box, Record, make_record
from data.transforms import Crop, LabelledCrop, area, eval_transform, pretrain_transform, train_transform
from training.lost import Lost, blamed
from utils.config import Augment
from utils.letterbox import Letterbox

EVERYTHING = Augment(fliplr=0.5, crop=0.7, photometric=0.7)


@pytest.fixture
def records(scenes_yaml: Path) -> list[Record]:
    return read_split(load_description(scenes_yaml), "train").records


def batches(records: list[Record], workers: int, ranks: int = 1) -> list[Tensor]:
    """Images of one epoch in the order of their index, from all ranks."""
    found: dict[int, Tensor] = {}
    for rank in range(ranks):
        sampler = EpochSampler(len(records), seed=3, rank=rank, ranks=ranks)
        sampler.epoch = 2
        dataset = DetectionSet(records, train_transform(64, EVERYTHING), seed=3)
        for batch in make_loader(dataset, sampler, 3, workers):
            found |= dict(zip(batch.index.tolist(), batch.images, strict=True))
    return [found[index] for index in sorted(found)]


@pytest.mark.parametrize(("workers", "ranks"), [(2, 1), (0, 2)])
def test_same_draws_whatever_the_workers_and_ranks(records: list[Record], workers: int, ranks: int) -> None:
    assert all(map(torch.equal, batches(records, 0), batches(records, workers, ranks)))


def test_epochs_differ_and_repeat(records: list[Record]) -> None:
    dataset = DetectionSet(records, train_transform(64, EVERYTHING), seed=0)
    first, again, later = (dataset[epoch, 0][0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_a_draw_leaves_the_global_generator_alone(records: list[Record]) -> None:
    before = torch.get_rng_state()
    DetectionSet(records, train_transform(64, EVERYTHING), seed=0)[0, 0]
    assert torch.equal(before, torch.get_rng_state())


def test_only_boxes_that_count_are_learnt(records: list[Record]) -> None:
    """Neither difficult ones nor crowds: what AP and mean IoU do not demand."""
    own = next(record for record in records if len(record.labels) > 2)
    count = len(own.labels)
    difficult, crowd = np.arange(count) == 0, np.arange(count) == 1
    marked = replace(own, difficult=difficult, crowd=crowd)
    assert marked.asked.tolist() == [False, False, *[True] * (count - 2)]
    (batch,) = make_loader(DetectionSet([marked], eval_transform(128), seed=0), InOrder(1), 1, 0)
    assert batch.truth.labels.tolist() == own.labels[2:].tolist()
    labels = np.arange(count)
    for follow in (True, False):
        dataset = DetectionSet([replace(marked, labels=labels)], eval_transform(128), 0, classes=count, follow=follow)
        (batch,) = make_loader(dataset, InOrder(1), 1, 0)
        assert batch.present.tolist() == [[0, 0, *[1] * (count - 2)]], "the classes of a picture are theirs too"


def test_truth_knows_its_image(records: list[Record]) -> None:
    empty = Record(records[0].image, (256, 256), np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    dataset = DetectionSet([records[0], empty, records[1]], eval_transform(128), seed=0)
    (batch,) = make_loader(dataset, InOrder(3), 3, 0)
    counts = [int((batch.truth.sample == image).sum()) for image in range(3)]
    assert counts == [len(records[0].labels), 0, len(records[1].labels)]
    np.testing.assert_allclose(batch.truth.boxes_xyxy[: counts[0]], records[0].boxes_xyxy / 2)
    assert batch.images.shape == (3, 3, 128, 128)
    assert 0 <= batch.images.min() < batch.images.max() <= 1


@pytest.mark.parametrize("size_hw", [(30, 40), (40, 30), (333, 100), (64, 64)])
def test_letterbox_there_and_back(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    boxes = torch.tensor([[0.0, 0.0, width, height], [width / 4, height / 5, width / 2, height / 2]])
    image = tv_tensors.Image(torch.zeros(3, *size_hw, dtype=torch.uint8))
    marked = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size_hw)  # type: ignore[call-overload]
    square, moved = eval_transform(64)(image, marked)
    box = Letterbox.fit(size_hw, 64)
    assert square.shape == (3, 64, 64)
    x1, y1, x2, y2 = (round(v) for v in moved[0].tolist())
    assert (square[:, y1:y2, x1:x2] == 0).all(), "the box of the whole image holds all of it"
    assert int((square == 114).sum()) == 3 * (64 * 64 - box.size_hw[0] * box.size_hw[1])
    torch.testing.assert_close(box.back(moved.as_subclass(Tensor), size_hw), boxes)


def test_mirror_moves_boxes_with_pixels() -> None:
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    image[:, 10:20, 5:15] = 255
    boxes = tv_tensors.BoundingBoxes([[5.0, 10, 15, 20]], format="XYXY", canvas_size=(64, 64))  # type: ignore[call-overload]
    flipped, moved = train_transform(64, Augment(fliplr=1, crop=0, photometric=0))(tv_tensors.Image(image), boxes)
    x1, y1, x2, y2 = map(int, moved[0].tolist())
    assert (flipped[:, y1:y2, x1:x2] == 255).all()
    assert int((flipped == 255).sum()) == 300


def test_crop_keeps_the_labels_of_what_it_shows() -> None:
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    image[:, 20:40, 20:40] = 255
    crop = LabelledCrop(64, 0.05)
    for seed in range(30):
        torch.manual_seed(seed)
        boxes = tv_tensors.BoundingBoxes([[20.0, 20, 40, 40]], format="XYXY", canvas_size=(100, 100))  # type: ignore[call-overload]
        torch.manual_seed(seed)
        window = crop.crop.make_params([image])
        torch.manual_seed(seed)
        shown, moved = crop(tv_tensors.Image(image), boxes)
        rows = max(0, min(40, window["top"] + window["height"]) - max(20, window["top"]))
        columns = max(0, min(40, window["left"] + window["width"]) - max(20, window["left"]))
        assert bool(area(moved)[0] > 0) == (rows * columns >= 200)
        assert shown.shape == (3, 64, 64)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_crops_are_torchvisions_draw_for_draw(count: int) -> None:
    draw, kept = np.random.default_rng(count), 0
    for seed in range(60):
        size = draw.integers(2, 300, 2)
        corners = np.sort(draw.uniform(0, 1, (count, 2, 2)), 1) * size
        boxes = tv_tensors.BoundingBoxes(  # type: ignore[call-overload]
            torch.tensor(corners.reshape(-1, 4), dtype=torch.float32), format="XYXY", canvas_size=tuple(size[::-1])
        )
        inputs = [tv_tensors.Image(torch.zeros(3, *size[::-1].tolist(), dtype=torch.uint8)), boxes]
        found = []
        for kind in (Crop, v2.RandomIoUCrop):
            torch.manual_seed(seed)
            found.append((kind(min_scale=0.5).make_params(inputs), torch.rand(1)))
        (own, after), (theirs, same) = found
        assert after == same, "as many draws"
        assert own.keys() == theirs.keys()
        assert all(np.array_equal(own[key], theirs[key]) for key in theirs)
        kept += not own
    assert kept == 60 if count == 0 else 0 < kept < 60


def test_whole_images_where_the_crop_is_one() -> None:
    image = tv_tensors.Image(torch.randint(0, 255, (3, 64, 64), dtype=torch.uint8))
    boxes = tv_tensors.BoundingBoxes([[5.0, 10, 15, 20]], format="XYXY", canvas_size=(64, 64))  # type: ignore[call-overload]
    plain = pretrain_transform(64, Augment(fliplr=0, crop=0, photometric=0), 1.0)(image, boxes)
    assert torch.equal(plain[0], image)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_gone_is_left_out_or_refused(scenes: Path, tmp_path: Path, workers: int) -> None:
    shutil.copytree(scenes, tmp_path / "copy")
    records = read_split(
        load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path / "copy"))), "train"
    ).records
    records[1].image.unlink()
    records[4].image.write_bytes(records[4].image.read_bytes()[:900])
    dataset = DetectionSet(records[:6], eval_transform(64), seed=0)
    found = list(make_loader(dataset, InOrder(6), 2, workers, leave_out=True))
    assert [batch.index.tolist() for batch in found] == [[0], [2, 3], [5]]
    assert [Path(where).name for batch in found for where, _ in batch.lost] == [records[n].image.name for n in (1, 4)]
    with pytest.raises(UnreadableError, match=f"{records[1].image.name}: the image does not exist — restore it"):
        list(make_loader(dataset, InOrder(6), 2, workers))
    (batch,) = make_loader(DetectionSet([records[1]], eval_transform(64), seed=0), InOrder(1), 2, 0, leave_out=True)
    with pytest.raises(UnreadableError):
        Lost().note(batch)
    norm = torch.nn.BatchNorm1d(2)
    (left,) = make_loader(DetectionSet(records[:2], eval_transform(64), seed=0), InOrder(2), 2, 0, leave_out=True)
    with pytest.raises(UnreadableError, match="one image is left of its batch, too small for BatchNorm"), blamed(left):
        norm(torch.zeros(len(left.index), 2))
    with pytest.raises(ValueError, match="more than 1 value"), blamed(replace(left, lost=())):
        norm(torch.zeros(1, 2))


def test_noise_and_erasing() -> None:
    """Drawn from seed, epoch and index; boxes stay, and a picture without them is as before."""
    record = make_record(Path("grey#1"), (64, 64), [(8, 8, 40, 40)], [3], pixels=np.full((64, 64, 1), 128, np.uint8))
    plain = Augment(fliplr=0, photometric=0)

    def seen(**changes: float) -> DetectionSet:
        return DetectionSet([record], pretrain_transform(64, plain.model_copy(update=changes), 1), 0, 10)

    untouched, noisy, erased = (seen(**own) for own in ({}, {"noise": 0.1}, {"erasing": 1.0}))
    assert untouched[0, 0][0].shape == (1, 64, 64)
    assert (untouched[0, 0][0] == 128).all()
    assert noisy[0, 0][0].float().std() / 255 == pytest.approx(0.1, abs=0.01)
    assert torch.equal(noisy[1, 0][0], noisy[1, 0][0])
    assert not torch.equal(noisy[1, 0][0], noisy[2, 0][0])
    black = [(erased[epoch, 0][0] == 0).float().mean() for epoch in range(20)]
    assert 0.01 < min(black) <= max(black) < 0.35
    assert torch.equal(erased[0, 0][1], untouched[0, 0][1])


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1)])
def test_pictures_of_one_row_or_column(size: tuple[int, int]) -> None:
    height, width = size
    record = make_record(
        Path("a.png"), size, [Box(0, 0, width, height)], [0], pixels=np.full((height, width, 3), 9, np.uint8)
    )
    everything = EVERYTHING.model_copy(update={"crop": 1.0})
    for transform in (train_transform(64, everything), pretrain_transform(64, everything, 0.3)):
        dataset = DetectionSet([record], transform, seed=0)
        assert all(dataset[epoch, 0][0].shape == (3, 64, 64) for epoch in range(20))
