from pathlib import Path

import pytest

from data.description import load_description
from data.holdout import hold_out
from data.records import Split, make_record
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


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_an_empty_side_is_refused(scenes_yaml: Path, share: float) -> None:
    with pytest.raises(UserError, match="of 50 images"):
        hold_out(split_of(scenes_yaml, [None] * 50), share)
