import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Writer, perturb_less

from data.description import load_description
from data.formats import read_split
from evaluation.accuracy import read_backbones
from maps import kept
from maps.explained import Explained
from maps.kept import Kept
from maps.localise import Study
from maps.plan import Plan
from maps.prepare import prepare
from maps.regions import propose
from maps.study import run
from models.backbones import make_backbone
from models.heads import make_head
from utils import plugins
from utils.errors import UserError


@pytest.fixture
def plan_of(scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Plan]:
    """A plan of three images that keeps what it measures, each time with fresh counts."""
    perturb_less(monkeypatch)
    split = read_split(load_description(scenes_yaml), "test")

    def make(*files: Path, **changes: Any) -> Plan:
        given = {"images": 3, "lime": 1, "untrained": 1, "batch_size": 2, "keep": tmp_path / "kept"} | changes
        return prepare(read_backbones(files), split, **given)

    return make


def same(first: Study, second: Study) -> None:
    """Equal to the last bit, column by column of those in both."""
    own = {(column.line, column.seed, column.kind): column.values for column in second.columns}
    for column in first.columns:
        for name, values in column.values.items():
            again = own[column.line, column.seed, column.kind][name]
            np.testing.assert_array_equal(values, again, f"{column.line}, {name}")  # NaN is NaN


def test_what_is_kept_is_what_was_measured(written: Writer, plan_of: Callable[..., Plan]) -> None:
    """Of two networks, one trained and one not; then of one network more."""
    first = run(plan := plan_of(written("cl6", k=2)))
    made = len(plan.kept.made)
    assert made >= 6  # two batches and a case by LIME of each
    assert not plan.kept.read
    same(run(alone := plan_of(written("cl6", k=2), keep=None)), first)
    assert not alone.kept.made
    same(first, run(again := plan_of(written("cl6", k=2))))
    assert (len(again.kept.read), len(again.kept.made)) == (made, 0)
    same(first, run(more := plan_of(written("cl6", k=2), written("cl6", k=2, seed=1))))
    assert (len(more.kept.read), len(more.kept.made)) == (made, made / 2)
    assert more.kept.about().startswith(f"{made} of the {made + made // 2} parts of these values were read from ")


def test_what_changes_values_is_measured_anew(
    written: Writer, plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(plan_of(written("e2e", k=1), lime=0))
    for changes in ({"percentile": 90}, {"stretched": True}, {"kinds": ["gradcam"]}, {"batch_size": 3}):
        run(plan := plan_of(written("e2e", k=1), **({"lime": 0} | changes)))
        assert plan.kept.made, changes
        assert not plan.kept.read, changes
    with monkeypatch.context() as patch:
        patch.setitem(plugins.LOADED, Path("mine.py"), plugins.Imported("0" * 64, frozenset()))
        run(plan := plan_of(written("e2e", k=1), lime=0))
        assert not plan.kept.read
    monkeypatch.setattr(kept, "SOURCES", ("another code",))
    run(plan := plan_of(written("e2e", k=1), lime=0))
    assert not plan.kept.read


def test_a_damaged_file_is_made_again(written: Writer, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    first = run(plan_of(written("e2e", k=1), lime=0))
    *_, whole, cut, other = sorted((tmp_path / "kept").glob("*.npz"))
    whole.write_bytes(b"no archive")
    cut.write_bytes(cut.read_bytes()[:-30])
    content = bytearray(other.read_bytes())
    with zipfile.ZipFile(other) as archive:
        largest = max(archive.infolist(), key=lambda own: own.compress_size)
    content[largest.header_offset + 100 + largest.compress_size // 2] ^= 0xFF  # among the compressed numbers
    other.write_bytes(content)
    same(first, run(plan := plan_of(written("e2e", k=1), lime=0)))
    assert set(plan.kept.made) == {whole, cut, other}


def test_threads_keep_at_once(tmp_path: Path) -> None:
    """Of different networks, and of two that are the same."""
    own = Kept.at(tmp_path / "kept")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: own.keep({"a": np.ones(9)}, number // 2), range(400)))
    assert len(list((tmp_path / "kept").iterdir())) == 200


def test_a_folder_that_cannot_be(written: Writer, plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^--keep: .*file: cannot write .* — give another folder$"):
        plan_of(written("e2e", k=1), keep=tmp_path / "file")


def test_networks_that_normalise_otherwise_are_others() -> None:
    """Their weights are the same, and no checkpoint holds what they take from the pixels."""

    def network(mean: float) -> Explained:
        backbone = make_backbone("cnn6", 0.0625)
        backbone.load_state_dict(state)
        backbone.blocks[0].normalise.mean.fill_(mean)
        return Explained(backbone, (1,), [head])

    state, head = make_backbone("cnn6", 0.0625).state_dict(), make_head("gap", (16, 8, 8), 2, convs=0)
    one, same, other = network(0.5), network(0.5), network(0.4)
    assert one.identity() == same.identity() != other.identity()
    assert one.sees_like(same)
    assert not one.sees_like(other)


def test_regions_are_kept(written: Writer, plan_of: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maps.regions.STEPS", 1)
    plan = plan_of(written("cl6", k=2), images=4)
    first = propose(replace(plan, training=plan.training[:64]))
    again = plan_of(written("cl6", k=2), images=4)
    second = propose(replace(again, training=again.training[:64]))
    assert (
        (len(again.kept.read), len(again.kept.made)) == (len(plan.kept.made), 0) == (6, 0)
    )  # three runs of two networks
    assert [(one.line, one.run, one.cut, one.miou, one.map50) for one in first] == [
        (one.line, one.run, one.cut, one.miou, one.map50) for one in second
    ]
    assert all(np.array_equal(one.ious, two.ious) for one, two in zip(first, second, strict=True))


def test_nothing_is_kept_without_a_folder() -> None:
    none = Kept()
    assert none.of(lambda: {"a": np.ones(1)}, "b")["a"] == 1
    none.keep({"a": np.ones(1)}, "b")
    assert none.find("b") is None
    assert none.about() == ""
