"""What a network has learnt from is neither explained nor chosen on, whatever data yaml lists it."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import Writer, recipe_of
from PIL import Image

from data.description import load_description
from data.formats import read_split
from data.holdout import hold_out
from data.records import Record, Split
from data.seen import certain, is_seen, number, numbers, numbers_of
from evaluation.accuracy import read_backbones
from maps.plan import Plan
from maps.prepare import NO_MEAN_BOX, prepare
from maps.seen import seen_by
from training.finished import Run
from utils.checkpoint import TRAINED_ON
from utils.errors import UserError


@pytest.fixture
def description(scenes_yaml: Path):
    return load_description(scenes_yaml)


def plan(file: Path, split: Split, percentile: int | None = 80) -> Plan:
    return prepare(read_backbones([file]), split, kinds=["gradcam"], percentile=percentile)


def names(records: Sequence[Record]) -> set[str]:
    return {record.image.name for record in records}


def test_checkpoints_say_what_they_learnt_from(overfitted: Path) -> None:
    run = Run.open(next((overfitted / "train").iterdir()))
    train = read_split(load_description(run.recipe.data), "train")
    expected = sorted(set(numbers(train.records)))
    for file in (run.folder / "weights").glob("b*.pt"):
        assert torch.load(file, weights_only=True)[TRAINED_ON].tolist() == expected
    assert all(file.learnt == set(expected) for file in run.backbones.values())


def test_a_copy_under_another_name_is_the_same_picture(scenes: Path, description, tmp_path: Path) -> None:
    own, other, *_ = read_split(description, "train").records
    copy = tmp_path / "renamed.png"
    shutil.copyfile(own.image, copy)
    assert number(replace(own, image=copy)) == number(own) != number(other)
    before = torch.tensor([5, number(own)])
    assert numbers_of([own, other, own], None, before).tolist() == sorted({5, number(own), number(other)})


@pytest.mark.parametrize("suffix", ["bmp", "tif", "ppm", "png"])
def test_pictures_with_one_margin_are_not_one_picture(suffix: str, scenes: Path, description, tmp_path: Path) -> None:
    """Uncompressed, they have the same length and the same ends."""
    record, found = read_split(description, "train").records[0], []
    for value in (60, 200):
        pixels = np.full((256, 256, 3), 255, np.uint8)
        pixels[20:-20, 20:-20] = value
        path = tmp_path / f"{value}.{suffix}"
        Image.fromarray(pixels).save(path)
        found.append(replace(record, image=path))
        assert is_seen([found[-1]], {number(found[-1])}) == [True], "older checkpoints have numbers of the ends"
    assert certain(found[0]) != certain(found[1])
    learnt = set(numbers_of(found[:1]).tolist())
    assert is_seen(found, learnt) == [True, False]


def test_pictures_that_trained_a_network_are_left_out(written: Writer, description) -> None:
    test, train = (read_split(description, name) for name in ("test", "train"))
    learnt = numbers_of([*test.records[:2], *train.records])
    found = plan(written("cl6", **{TRAINED_ON: learnt}), test)
    assert names(found.split.records) == names(test.records[2:])
    assert len(found.notes) == 1
    assert "2 of 4 images were used to train a network and are left out" in found.notes[0]
    assert test.records[0].image.name in found.notes[0]
    asked = plan(written("cl6", **{TRAINED_ON: learnt}), train)
    assert names(asked.split.records) == names(train.records), "they were asked for"
    assert "8 of 8 explained images were used to train a network" in asked.notes[0]
    assert asked.notes[-1] == NO_MEAN_BOX, "its boxes would be those that are explained"
    with pytest.raises(UserError, match="all 4 images of `test` were used to train a network"):
        plan(written("cl6", **{TRAINED_ON: numbers_of(test.records)}), test)


def test_percentile_is_chosen_on_what_no_network_learnt_from(
    written: Writer, description, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data yaml at hand calls pictures held out that the network was trained on under another yaml."""
    test, val, train = (read_split(description, name) for name in ("test", "val", "train"))
    used: list[set[str]] = []
    monkeypatch.setattr("maps.prepare.choose_percentile", lambda _, records: used.append(names(records)) or 55)
    found = plan(written("cl6", **{TRAINED_ON: numbers_of([*train.records, *val.records[1:]])}), test, None)
    assert used == [names(val.records[:1])]
    assert found.rule.percentile == 55
    assert "chosen on 1 images of `val`" in found.notes[-1]
    plan(written("cl6", **{TRAINED_ON: numbers_of([*train.records[2:], *val.records])}), test, None)
    assert used[-1] == names(train.records[:2]), "what of train was kept apart"
    nothing = plan(written("cl6", **{TRAINED_ON: numbers_of([*train.records, *val.records])}), test, None)
    assert len(used) == 2
    assert nothing.rule.percentile == 80
    assert "No other image is left that no network has learnt from" in nothing.notes[-1]


def test_nothing_is_cut_out_where_nothing_is_left(written: Writer, description) -> None:
    """A network that learnt from the objects of all pictures but those that are explained."""
    test, val, train = (read_split(description, name) for name in ("test", "val", "train"))
    view = {"source": "objects", "imgsz": 64, "fit": "window", "context": 0.5}
    found = plan(written("cl6", view=view, **{TRAINED_ON: numbers_of([*train.records, *val.records])}), test, None)
    assert found.rule.percentile == 80
    assert any("No other image is left" in note for note in found.notes)


def test_older_files_learnt_what_their_yaml_says_today(written: Writer, description, tmp_path: Path) -> None:
    test, train = (read_split(description, name) for name in ("test", "train"))
    found = plan(written("cl6"), replace(test, records=[*test.records, *train.records]))
    assert names(found.split.records) == names(test.records)
    said = "the file does not record its training pictures; those of scenes.yaml as it is today are used"
    assert found.notes[0].endswith(said)
    half = written("e2e_compute", recipe=recipe_of(data=str(description.yaml), cl_splits=6, pretrain={"holdout": 0.5}))
    (file,) = read_backbones([half])
    assert sorted(seen_by([file]).numbers) == sorted(set(numbers(hold_out(train, 0.5)[0].records)))
    gone = written("e2e", recipe=recipe_of(data=str(tmp_path / "gone.yaml")))
    assert "cannot be read" in plan(gone, test).notes[0]


def test_every_kind_of_training_has_its_note(scenes_yaml: Path) -> None:
    """Files of one data yaml, of which one held images out of its training."""

    def file(name: str, holdout: float) -> SimpleNamespace:
        return SimpleNamespace(path=Path(name), learnt=None, data=scenes_yaml, trained={"holdout": holdout})

    notes = seen_by([file("a.pt", 0.0), file("b.pt", 0.5), file("c.pt", 0.0)]).notes
    assert [note.partition(":")[0] for note in notes] == ["a.pt, c.pt", "b.pt"]
