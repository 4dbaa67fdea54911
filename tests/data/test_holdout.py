from pathlib import Path

import pytest
from conftest import Writer, write_yaml
from PIL import Image

from data.description import load_description
from data.formats import read_split, read_training, read_unseen
from data.holdout import HOLDOUT_SHARE, hold_out
from data.records import Split, make_record
from data.seen import numbers_of
from evaluation.accuracy import read_backbones
from maps.prepare import prepare
from utils.errors import UserError


def split_of(scenes_yaml: Path, groups: list[str | None]) -> Split:
    records = [make_record(Path(f"{index}.png"), (8, 8), group=group) for index, group in enumerate(groups)]
    return Split("train", load_description(scenes_yaml), records)


def names(split: Split) -> set[str]:
    return {record.image.name for record in split.records}


def test_parts_make_up_the_whole_and_are_always_the_same(scenes_yaml: Path) -> None:
    whole = split_of(scenes_yaml, [None] * 50)
    kept, held = hold_out(whole, 0.1)
    assert len(held.records) == 5
    assert names(kept) | names(held) == names(whole)
    assert not names(kept) & names(held)
    assert names(hold_out(whole, 0.1)[1]) == names(held)
    assert held.name == "held out of train"


def test_no_patient_on_both_sides(scenes_yaml: Path) -> None:
    kept, held = hold_out(split_of(scenes_yaml, [f"{index // 3}" for index in range(60)]), 0.2)
    patients = [{record.group for record in side.records} for side in (kept, held)]
    assert not patients[0] & patients[1]
    assert 12 <= len(held.records) <= 14


@pytest.mark.parametrize(
    ("sizes", "most"), [([10, 10, 10, 10, 60], 10), ([800, 40, 40, 40, 40, 40], 120), ([50, 30], 30)]
)
def test_a_large_group_is_not_held_out_for_a_small_share(scenes_yaml: Path, sizes: list[int], most: int) -> None:
    groups = [f"{number}" for number, size in enumerate(sizes) for _ in range(size)]
    kept, held = hold_out(split_of(scenes_yaml, groups), 0.1)
    assert len(held.records) == most
    assert len(kept.records) == sum(sizes) - most


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_an_empty_side_is_refused(scenes_yaml: Path, share: float) -> None:
    with pytest.raises(UserError, match="of 50 images"):
        hold_out(split_of(scenes_yaml, [None] * 50), share)


def test_faults_of_pictures_that_are_shared_out_are_named_once(tmp_path: Path) -> None:
    for name, label in (("a", "0 0.5 0.5 0.4 0.4"), ("b", "nonsense"), ("c", "0 0.5 0.5 0.2 0.2")):
        Image.new("RGB", (8, 8), (len(name), ord(name), 0)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(label)
    own = load_description(shares(tmp_path, train=0.7, val=0.3))
    first, other = (read_split(own, name) for name in ("train", "val"))
    assert (len(first.records), len(other.records)) == (2, 1)
    assert (len(first.problems), len(other.problems)) == (1, 0)
    (said,) = other.notices
    assert said.line().startswith("1 remark on the images of all splits is with `train`: ")
    with pytest.raises(UserError, match="of 3 images for `test` is none — give it a larger share, or add images"):
        read_split(load_description(shares(tmp_path, train=0.9, test=0.1)), "test")


def shares(folder: Path, **parts: float) -> Path:
    lines = ["format: yolo", "path: .", "names: [thing]", *(f"{name}: {share}" for name, share in parts.items())]
    (folder / "data.yaml").write_text("\n".join(lines))
    return folder / "data.yaml"


def test_figures_without_val_and_test_are_on_what_training_held_out(scenes: Path, tmp_path: Path) -> None:
    description = load_description(write_yaml(tmp_path / "train.yaml", path=str(scenes), val=None, test=None))
    kept, held = hold_out(read_split(description, "train"), HOLDOUT_SHARE)
    found = read_unseen(description)
    assert found.name == "held out of train"
    assert names(found) == names(held)
    assert not names(found) & names(kept)
    assert len(read_unseen(description, "train").records) == len(kept.records) + len(held.records)


def test_nothing_is_learnt_from_what_is_judged(scenes: Path, tmp_path: Path, written: Writer) -> None:
    """Mean box, regression and thresholds of a data set without val and test."""
    data = write_yaml(tmp_path / "train.yaml", path=str(scenes), val=None, test=None)
    description = load_description(data)
    judged = read_unseen(description)
    kept = read_training(description, judged.name)
    assert names(kept) | names(judged) == names(read_split(description, "train"))
    assert not names(kept) & names(judged)
    assert names(read_training(description, "train")) == names(read_split(description, "train"))
    plan = prepare(read_backbones([written("cl6", data=data, trained_on=numbers_of(kept.records))]), judged)
    assert plan.training
    assert not {record.image.name for record in (*plan.pool, *plan.training)} & names(judged)
