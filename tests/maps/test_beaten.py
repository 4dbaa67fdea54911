"""Layers too coarse to be judged, and what costs no training as a level to pass."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Writer

from data.description import load_description
from data.formats import read_split
from data.views import View
from evaluation.accuracy import read_backbones, trained_as
from maps.cells import Cells, coarse_cuts, layer_cells, short_sides
from maps.granulometry import radii_for
from maps.levels import LEVEL, Level, sentence, spans, widened
from maps.localise import Study
from maps.networks import untrained_files
from maps.overlay import TRUE, masked, outlined, written
from maps.plan import Plan
from maps.prepare import prepare
from maps.statistics import Resamples
from maps.study import run
from maps.summary import summarise
from maps.tables import as_json, heading, markdown


def plan(files: Sequence[Path], data: Path, **changes: object) -> Plan:
    split = read_split(load_description(data), "test")
    return prepare(read_backbones(files), split, kinds=["gradcam"], **changes)  # type: ignore[arg-type]


def test_cells_inside_the_picture(written: Writer) -> None:
    """The six-layer network pads so much that most cells of its deepest maps look at the padding."""
    for side, coarse in ((64, {6}), (96, {6}), (128, set())):
        (cells,) = layer_cells(read_backbones([written("cl6", imgsz=side)]), stretched=False).values()
        lengths = np.full(3, side)
        assert coarse_cuts(cells, lengths, side) == coarse
        assert cells[1].inside(lengths, side).tolist() == [side] * 3
    (pooled,) = layer_cells(read_backbones([written("cl6", imgsz=side)]), stretched=False, pooled=True).values()
    assert coarse_cuts(pooled, lengths, side) == {6}, "classifiers look at what is pooled"
    narrow = np.array([128, 40, 40])  # most pictures are
    assert coarse_cuts(cells, narrow, 128) == {5, 6}
    stretched = Cells(4, 16, 7.5)
    assert stretched.inside(np.array([64, 60, 32]), 64).tolist() == [4, 4, 2]


def test_short_sides_are_those_of_the_letterbox(scenes_yaml: Path) -> None:
    record = replace(read_split(load_description(scenes_yaml), "test").records[0], size_hw=(100, 400))
    found = [
        short_sides(View(*own), [record])[0] for own in (("pictures", 64), ("pictures", 64, "center"), ("objects", 64))
    ]
    assert found == [16, 64, 64]


def test_coarse_layers_are_shown_and_not_judged(written: Writer, scenes_yaml: Path) -> None:
    summary = summarise(run(plan([written("cl6"), written("e2e")], scenes_yaml, images=2, untrained=2)), 20)
    line = summary.of("gradcam")[0]
    assert (line.coarse, line.judged) == ({6}, (1, 2, 3, 4, 5))
    assert summary.pairs[0].cuts == [1, 2, 3, 4, 5]
    assert {cut for own in summary.levels for cut in own.cuts} == {1, 2, 3, 4, 5}
    assert "Grad-CAM of cl6, e2e after b6 has fewer than 4 × 4 cells" in heading(summary)
    text = markdown(summary, (), "python val.py", [])
    _, _, table = text.partition("| IoU with the box |")
    rows = [row for row in table.splitlines() if row.startswith(("| b5 |", "| b6 |"))]
    assert "| (0." in rows[1]
    assert "(" not in rows[0]
    assert "| IoU with the box | cl6 | e2e | untrained (2 seeds) | mean box |" in text
    assert "Without intervals nothing is said" in text, "of two pictures"
    assert as_json(summary, (), "")["lines"][0]["coarse"] == [6]
    assert max(summary.study.plan.rule.radii) == 16, "as far as the largest judged cell"


def test_cascades_are_known_by_the_file_that_their_features_are_from() -> None:
    """They have no say in the percentile, and are what end to end is compared with."""
    names = {
        "cl6, width 0.25": "cl6", "init, from cl3": "cl3", "init": "init", "e2e_compute_probed": "e2e_compute_probed",
        "cl3, 64 px, from e2e": "cl3", "init, from classifier": "init",
    }  # fmt: skip
    assert {name: trained_as(name) for name in names} == names


def test_a_line_whose_cuts_are_all_coarse_is_named(written: Writer, scenes_yaml: Path) -> None:
    study = run(plan([written("cl6"), written("e2e")], scenes_yaml, images=2, untrained=1))
    for column in study.columns:
        column.coarse = frozenset(column.cuts) if column.line == "e2e" else frozenset()
    found = [own for own in summarise(study, 20).levels if own.measure == "iou"]
    assert "Judged at no cut: e2e." in sentence(found)


def test_radii_follow_the_cells() -> None:
    assert radii_for(256) == tuple(range(15))
    assert radii_for(64) == (0, 1, 2, 3)
    assert radii_for(64, 16) == (0, 3, 6, 10, 13, 16)


def test_each_architecture_has_its_untrained_networks(written: Writer, scenes_yaml: Path) -> None:
    files = [written("cl6"), written("e2e", k=3), written("cl1", backbone="darknet53", k=1)]
    found = dict(untrained_files(read_backbones(files)))
    assert {name: own.cuts for name, own in found.items()} == {
        "untrained, cnn6": [1, 2, 3, 4, 5, 6],
        "untrained, darknet53": [23],
    }
    study = run(plan(files, scenes_yaml, images=1, untrained=2))
    seeds = {(own.line, own.seed) for own in study.columns if own.line.startswith("untrained")}
    assert seeds == {(name, seed) for name in found for seed in (0, 1)}
    assert {own.untrained for own in study.columns if own.line.startswith("cl1")} == {"untrained, darknet53"}


def test_sentences() -> None:
    def level(line: str, rival: str, lows: Sequence[float]) -> Level:
        return Level(line, "gradcam", "iou", rival, (1, 2, 3, 5), np.array([lows, np.add(lows, 0.2)]))

    found = [level("cl6", "untrained", [0.1, 0.1, 0.1, 0.1]), level("cl6", "mean box", [-0.1, 0, 0.1, -0.1])]
    assert sentence(found).startswith(
        "Every judged row is above the untrained network. Not above the mean box: cl6 at b1–b2 and b5."
    )
    assert "the untrained network (vgg16): e2e at every block" in sentence([level("e2e", "untrained, vgg16", [-1] * 4)])
    pair = [level(name, f"untrained, {name}", [0.1] * 4) for name in ("vgg16", "alexnet")]
    assert sentence([*pair, found[1]]).startswith(
        "Every judged row is above the untrained network (vgg16), the untrained network (alexnet). Not above the mean"
    )
    assert sentence([]) == ""
    assert "Without intervals" in sentence([level("cl6", "untrained", [np.nan] * 4)])
    found = [level("cl6", "untrained", [0.1, np.nan, 0.1, 0.1]), level("e2e", "untrained", [0.1] * 4)]
    assert sentence(found).startswith(
        "Every other row is above the untrained network. No interval of the difference from the untrained network: "
        "cl6 at b2. (Paired"
    )
    coarse = replace(found[1], line="cl3", cuts=(), bounds=np.zeros((2, 0)))
    assert "Judged at no cut: cl3." in sentence([*found, coarse])
    assert sentence([coarse]).startswith("Judged at no cut: cl3.")
    assert spans([1, 2, 5], (1, 2, 3, 5)) == "b1–b2 and b5"


@pytest.mark.parametrize(("trained", "untrained"), [(3, 3), (5, 3), (1, 3)])
def test_coverage_against_untrained_networks(trained: int, untrained: int) -> None:
    """Seeds of both sides vary, images do, and what both have in common does."""
    draw, hits, repeats, images = np.random.default_rng(0), 0, 200, 40
    for _ in range(repeats):
        common = draw.normal(size=(1, images, 1))
        own, other = (
            common
            + draw.normal(scale=0.3 * (count > 1), size=(count, 1, 1))
            + draw.normal(scale=0.5, size=(count, images, 1))
            for count in (trained, untrained)
        )
        apart = own.mean(0) - other.mean(0)
        low, high = widened(apart, Resamples(images, draws=200).interval(apart[None], LEVEL), (own, other))
        hits += bool(low[0] <= 0 <= high[0])
    assert hits / repeats >= 0.93


def test_a_network_that_learnt_nothing_is_not_above_itself(written: Writer, scenes_yaml: Path) -> None:
    split = read_split(load_description(scenes_yaml), "test")
    records = [replace(own, group=f"{place} {copy}") for copy in range(2) for place, own in enumerate(split.records)]
    own_plan = prepare(
        read_backbones([written("cl6")]), replace(split, records=records), kinds=["gradcam"], untrained=1
    )
    study = run(own_plan)
    own, same = (next(c for c in study.columns if c.line == line) for line in ("cl6", "untrained"))
    own.parts.update({name: [part.copy() for part in parts] for name, parts in same.parts.items()})
    for part in own.parts["iou"]:
        part[:, 0] += 0.5
    found = summarise(Study(study.plan, study.columns, study.cases, study.shares), 50).levels
    level = next(one for one in found if (one.measure, one.rival) == ("iou", "untrained"))
    assert level.not_above == [2, 3, 4, 5]


def test_drawing_leaves_the_picture_as_it_was() -> None:
    grey = np.full((100, 100, 3), 128, np.uint8)
    boxed, said = outlined(grey, np.array([[2, 2, 6, 6]]), 10), written(grey, "IoU 0.50")
    assert (grey == 128).all()
    assert (boxed[20, 20:60] == TRUE).all()
    assert (boxed[30:50, 30:50] == 128).all()
    assert {0, 255} <= set(said[90:, :60].ravel().tolist())
    region = np.zeros((10, 10), bool)
    region[2:6, 2:6] = True
    dark = masked(grey, region)
    assert (dark[25:55, 25:55] == 128).all()
    assert dark[80, 80].tolist() == [38] * 3
