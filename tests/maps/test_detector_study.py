import contextlib
import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Once, Script, Writer
from PIL import Image

import val
from data.description import load_description
from data.formats import read_split
from data.records import Split
from maps.cells import Cells
from maps.detector_audit import Named
from maps.detector_brief import brief_table, read_report
from maps.detector_plan import are_detectors, method_of, prepare_detectors, read_detectors
from maps.detector_study import explained, run_detectors
from maps.detector_tables import FEW, tap_rows
from maps.figures import scatter
from maps.gallery import galleries
from maps.localise import Column, Study
from maps.prepare import NO_MEAN_BOX
from maps.statistics import Resamples, compare
from maps.summary import summarise
from maps.tables import markdown
from models.decode import Thresholds
from utils.errors import UserError

TAPS = (11, 19, 23)


@pytest.fixture(scope="session")
def best(overfitted: Path) -> Path:
    return overfitted / "train" / "exp" / "weights" / "best.pt"


@pytest.fixture
def split(overfitted: Path) -> Split:
    """The scenes that the detector knows by heart."""
    return read_split(load_description(overfitted / "overfit.yaml"), "val")


def changed(file: Path, folder: Path, name: str, seed: int = 0, **changes: Any) -> Path:
    """The same detector, with another description of its training."""
    content = torch.load(file, weights_only=True)
    content["recipe"] |= {"seed": seed, **changes}
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / name)
    return folder / name


def value(study: Study, line: str, kind: str, measure: str) -> np.ndarray:
    """[cuts] mean over the cases that are measured."""
    column = next(own for own in study.columns if (own.line, own.kind) == (line, kind))
    return np.asarray(np.nanmean(column.values[measure], 0))


def test_a_detector_looks_at_what_it_knows(best: Path, split: Split) -> None:
    """Evidence of learned scenes is in their boxes, more than with new weights at the same answers."""
    plan = prepare_detectors(read_detectors([best]), split, kinds=["gradcam", "layercam", "saliency"], untrained=1)
    study = run_detectors(plan)
    line = study.columns[0].line
    assert len(study.cases) == len({tuple(pair) for pair in study.cases.tolist()})
    for kind in plan.kinds:
        known, new = (value(study, name, kind, "mass") for name in (line, "untrained"))
        assert known.mean() > new.mean(), f"{kind}, over the taps: rounding decides what a single one shows"
        own, other = (value(study, name, kind, "no_influence") for name in (line, "untrained"))
        assert own.tolist() == other.tolist(), "the same answers"
    by_chance = study.shares.mean()
    assert value(study, line, "saliency", "mass")[0] > 1.5 * by_chance
    assert value(study, line, "saliency", "pointing")[0] > 2 * value(study, "centre", "baseline", "pointing")[0]
    answers = study.beside.figures["answers"][0]
    assert sum(answers["heads"].values()) == answers["explained"] == len(study.cases)
    share = value(study, line, "layercam", "no_influence")
    assert share[0] == pytest.approx(1 - answers["heads"]["/8"] / len(study.cases))
    assert share[1] == pytest.approx(answers["heads"]["/32"] / len(study.cases))
    assert share[2] == 0
    assert answers["median_score"] > 0.9


def test_batches_do_not_matter(best: Path, split: Split) -> None:
    files = read_detectors([best])
    asked: dict[str, Any] = {"kinds": ["layercam", "drise"], "images": 3, "masks": 5}
    one, other = (run_detectors(prepare_detectors(files, split, batch_size=size, **asked)) for size in (1, 16))
    assert np.array_equal(one.cases, other.cases)
    for own, same in zip(one.columns, other.columns, strict=True):
        if own.line != "random":
            np.testing.assert_allclose(own.values["mass"], same.values["mass"], atol=1e-4)


def test_every_box_by_its_detection(best: Path, split: Split) -> None:
    sure = Thresholds(0.5, 0.45, multi_label=False)
    asked: dict[str, Any] = {"kinds": ["layercam"], "images": 4, "explain_boxes": "detections", "thresholds": sure}
    plan = prepare_detectors(read_detectors([best]), split, **asked)
    study = run_detectors(plan)
    boxes = sum(len(record.labels) for record in plan.split.records)
    rows = study.beside.sheets["detections"]
    hits, missed = ([row for row in rows if row["outcome"] == kind] for kind in ("hit", "missed"))
    assert len(study.cases) == boxes == len(hits) + len(missed)
    assert len(hits) > boxes / 2
    column = study.columns[0]
    assert column.values["not_found"].sum(0).tolist() == [len(missed)] * 3
    assert np.isnan(column.values["iou"]).sum(0)[2] == len(missed)
    assert all(row["class"] == row["true_class"] and float(row["iou"]) >= 0.5 for row in hits)
    truth = {name: record for record in split.records for name in [record.image.name]}
    for row in (*hits, *missed):
        record = truth[str(row["image"])]
        corners = np.array([float(row[name]) for name in ("x1", "y1", "x2", "y2")])
        overlap = [iou(corners, box) for box in record.boxes_xyxy]
        assert max(overlap) >= (0.5 if row["outcome"] == "hit" else 0.99), "in pixels of the picture itself"
    assert {"layercam_b23_mass", "layercam_b23_pointing", "score"} <= set(hits[0])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    both = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def test_pictures_that_are_not_square(best: Path, split: Split) -> None:
    """Boxes go back into the picture that was letterboxed; taps with few cells on it are named."""
    wide = replace(split.records[0], size_hw=(100, 200))
    plan = prepare_detectors(read_detectors([best]), replace(split, records=[wide]))
    assert NO_MEAN_BOX not in plan.notes
    alone = prepare_detectors(read_detectors([best]), replace(split, name="train", records=[wide]))
    assert alone.notes[-1] == NO_MEAN_BOX, "its boxes would be those that are explained"
    named = Named(plan, None)  # type: ignore[arg-type]
    assert named.box(0, torch.tensor([0.0, 32, 64, 96])) == {"x1": 0, "y1": 0, "x2": 100, "y2": 100}
    network = explained(plan.detectors[0], plan)
    taps = tap_rows(plan, network)
    assert [row[FEW] for row in taps] == [0, 0, 1], "64 pixels high are two cells of 32"
    by_box = replace(plan, explain_boxes="detections")
    assert by_box.asked == len(wide.labels) == sum(len(own) for own in by_box.cases([split.records[0]], ""))
    narrow = [row["boxes narrower than a cell"] for row in taps]
    hard = replace(wide, difficult=np.ones_like(wide.difficult))
    few = replace(plan, split=replace(split, records=[wide, hard]))
    assert [row["boxes narrower than a cell"] for row in tap_rows(few, network)] == narrow
    assert narrow[-1] > 0
    assert plan.coarse_taps(network.cells(plan.view.imgsz)) == {23}
    assert plan.coarse_taps({19: Cells.spread(2, 128), 23: Cells.spread(8, 128)}) == {19}, "by cells, not by place"


@pytest.fixture(scope="session")
def report(best: Path, once: Once) -> tuple[Path, str]:
    """Folder that the command filled for a detector, and what it printed."""

    def fill(folder: Path) -> None:
        flags = ["--maps", "layercam", "drise", "--masks", 4, "--images", 3, "--untrained", 1, "--bootstrap", 50]
        flags += ["--device", "cpu", "--project", folder / "runs", "--explain-boxes", "detections", "--conf-thres", 0.5]
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            patch.setattr("sys.argv", ["val.py", *map(str, ["--localise", "--weights", best, *flags])])
            val.main()
        (folder / "printed.txt").write_text(printed.getvalue())

    folder = once("detector_report", fill)
    return folder / "runs" / "val" / "exp", (folder / "printed.txt").read_text()


def test_command_writes_a_report(report: tuple[Path, str]) -> None:
    folder, printed = report
    content = json.loads((folder / "localise.json").read_text())
    lines = {(line["line"], line["map"]): line for line in content["lines"]}
    assert lines["cl3", "layercam"]["cuts"] == list(TAPS)
    assert lines["cl3", "drise"]["cuts"] == [0]
    assert ("untrained", "drise") in lines
    assert {name for name, kind in lines if kind == "baseline"} >= {"random", "centre", "mean box", "edges"}
    assert [tap["reaches heads"] for tap in content["taps"]] == ["/8", "/8, /16", "/8, /16, /32"]
    page = (folder / "report.html").read_text()
    assert "D-RISE" in page
    with Image.open(folder / "drawn.jpg") as image:
        assert image.width == 4 * 168 + 8  # picture and three taps, a gap behind both
        assert image.height % (22 + 168 + 4) == 0  # rows
    for title in ("What each tap can resolve", "What is explained", "What was found", "LayerCAM"):
        assert title in printed, title
        assert title in page, title
    with (folder / "values" / "detections.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    counted = content["answers"][0]["detections"]
    assert counted["hit"] + counted["missed"] == content["cases"]
    assert max(content["radii"]) == content["taps"][-1]["pixels a cell"] == 32, "as far as the largest judged cell"
    assert sum(row["outcome"] == "hit" and row["line"] == "cl3" for row in rows) == counted["hit"]
    assert (folder / "figures" / "pointing_layercam.png").stat().st_size > 1000


def test_a_report_in_one_table(report: tuple[Path, str], tmp_path: Path) -> None:
    table = brief_table(read_report(report[0] / "localise.json"))
    assert table[0] == ["map", "no influence", *(f"{title}: {line}" for title in ("pointing game", "evidence inside")
                        for line in ("cl3", "untrained"))]  # fmt: skip
    assert [row[0] for row in table[1:5]] == ["LayerCAM, b11", "LayerCAM, b19", "LayerCAM, b23", "D-RISE, image"]
    assert "mean box" in [row[0] for row in table]
    content = read_report(report[0] / "localise.json")
    for line in content["lines"]:
        if (line["line"], line["map"]) == ("untrained", "layercam"):
            line["cuts"] = [7, 11, 16]  # of another backbone
    other = {row[0]: row[1:] for row in brief_table(content)}
    before = {row[0]: row[1:] for row in table}
    assert list(other)[1:6] == [f"LayerCAM, b{cut}" for cut in (7, 11, 16, 19, 23)]
    first = before["LayerCAM, b11"]
    assert other["LayerCAM, b7"][0] == f"–, {first[0].split(', ')[-1]}"
    assert other["LayerCAM, b7"][1:] == ["–", first[2], "–", first[4]]
    assert other["LayerCAM, b11"][1] == before["LayerCAM, b11"][1]
    assert other["LayerCAM, b11"][2] == before["LayerCAM, b19"][2]
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match="no report on detectors"):
        read_report(tmp_path / "other.json")


def test_methods_are_read_from_the_recipe(best: Path, tmp_path: Path) -> None:
    assert method_of({}) is None
    assert method_of({"cl_splits": 0}) == "scratch"
    assert method_of({"cl_splits": 1, "weights": None}) == "e2e"
    assert method_of({"cl_splits": 0, "init": "timm", "freeze": True}) == "init from timm frozen"
    assert method_of({"cl_splits": 8, "init": "a/b/resnet18.pth", "init_freeze": True}) == "init from resnet18"
    assert method_of({"cl_splits": 8, "init": "timm"}) == "cl8 from timm"
    own = {"cl_splits": 3, "weights": "runs/a/backbone_e2e_compute.pt", "reuse_upto": "b11", "freeze": True}
    assert method_of(own) == "e2e_compute up to b11 frozen"
    seeds = [changed(best, tmp_path, f"{seed}.pt", seed) for seed in (0, 1)]
    assert [file.seed for file in read_detectors(seeds)] == [0, 1]


def test_what_cannot_be_explained(best: Path, written: Writer, script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no detector, but"):
        script(val, "--localise", "--weights", best, written("cl6"))
    with pytest.raises(UserError, match=r"(?s)--maps.*no map of a detector `cam`.*gradcam, layercam"):
        script(val, "--localise", "--weights", best, "--maps", "cam")
    with pytest.raises(UserError, match=r"(?s)--maps.*no map of backbones `drise`"):
        script(val, "--localise", "--weights", written("cl6"), "--maps", "drise")
    for flag, word in (
        ("--lime", 2),
        ("--method", "all"),
        ("--explain", "3"),
        ("--percentile", "auto"),
        ("--masks", 0),
    ):
        with pytest.raises(UserError, match=flag):
            script(val, "--localise", "--weights", best, flag, word)
    with pytest.raises(UserError, match="--masks: is for --maps drise"):
        script(val, "--localise", "--weights", best, "--masks", 20, "--maps", "gradcam")
    for flag, word in (("--conf-thres", 0.5), ("--iou-thres", 0.3), ("--max-det", 5)):
        with pytest.raises(UserError, match=f"{flag}: is for --explain-boxes detections"):
            script(val, "--localise", "--weights", best, flag, word)
    with pytest.raises(UserError, match="--explain-boxes"):
        script(val, "--localise", "--weights", written("cl6"), "--explain-boxes", "true")
    with pytest.raises(UserError, match="--max-det: is for detectors"):
        script(val, "--localise", "--weights", written("cl6"), "--max-det", 300)
    (tmp_path / "best.onnx").touch()
    with pytest.raises(UserError, match="gradients"):
        are_detectors([tmp_path / "best.onnx"])
    assert not are_detectors([written("cl6")])
    with pytest.raises(UserError, match="one file for each method and seed"):
        read_detectors([best, best])
    content = torch.load(best, weights_only=True)
    torch.save({**content, "imgsz": 64}, tmp_path / "small.pt")
    with pytest.raises(UserError, match="same classes and input size"):
        read_detectors([best, tmp_path / "small.pt"])


def test_detectors_are_compared_unless_one_finds_nothing(best: Path, split: Split, tmp_path: Path) -> None:
    files = read_detectors([changed(best, tmp_path, f"{k}.pt", cl_splits=k) for k in (3, 1)])
    study = run_detectors(prepare_detectors(files, split, kinds=["layercam"], images=2))
    pair = summarise(study, 0).pairs[0]
    assert (pair.first.name, pair.second.name) == ("cl3", "e2e")
    assert [row.values.ties for row in pair.of("iou") if row.cut == TAPS[-1]] == [1], "the same network"
    poor = replace(study.plan, detectors=[replace(files[0], map50=0.001), files[1]])  # type: ignore[call-arg]
    assert not summarise(replace(study, plan=poor), 0).pairs
    assert poor.untaught() == "cl3, seed 0: found next to nothing (mAP50 0.001)"
    lesson = {"judged_by": "auc", "auc": 0.53, "learnt": 0.0}
    blank = replace(files[0], detector=replace(files[0].detector, lesson=lesson))
    poor = replace(study.plan, detectors=[blank, files[1]])  # type: ignore[call-arg]
    assert poor.untaught() == "the classifiers learnt nothing (AUC 0.53)"
    assert replace(poor, detectors=[blank, blank]).untaught() is None, "one backbone"  # type: ignore[call-arg]


def test_values_that_are_not_there_do_not_count() -> None:
    draw = np.random.default_rng(0)
    values = draw.random((2, 40, 3))
    values[0, :10, 0] = values[1, 5:20, 0] = values[:, :, 2] = np.nan
    resamples = Resamples(40, draws=400)
    found = resamples.interval(values)
    known = (~np.isnan(values[0, :, :1])).astype(float)
    alone = resamples.interval(np.nan_to_num(values[:1, :, :1]), weights=known)
    np.testing.assert_array_equal(resamples.interval(values[:1, :, :1]), alone)
    np.testing.assert_allclose(found[:, 1], resamples.interval(values[:, :, 1:2])[:, 0])
    assert np.isnan(found[:, 2]).all()
    assert found[0, 0] < np.nanmean(values[:, :, 0]) < found[1, 0]
    apart = values[:1, :, 0]
    own, few = (compare(part, np.zeros(2)) for part in (apart, apart[:, 10:]))
    assert own == few
    nothing = compare(values[:, :, 2], np.zeros(2))
    assert nothing.sign == nothing.wilcoxon == 1
    assert np.isnan(nothing.mean)


def test_columns_of_nothing_are_drawn_as_nothing(best: Path, split: Split) -> None:
    """A tap that has no influence on any answer."""
    study = run_detectors(prepare_detectors(read_detectors([best]), split, images=1))
    for column in study.columns:
        blank(column)
    summary = summarise(study, 20)
    assert np.isnan(summary.lines[0].mean("iou")[0])


def blank(column: Column) -> None:
    """No value at its first tap."""
    for name in ("iou", "mass", "pointing"):
        for part in column.parts[name]:
            part[:, 0] = np.nan


def test_a_report_on_detectors_that_find_nothing(best: Path, split: Split, tmp_path: Path) -> None:
    """No case has a map: there is none to show as the best of one of them."""
    files = read_detectors([changed(best, tmp_path, f"{k}.pt", cl_splits=k) for k in (3, 1)])
    asked: dict[str, Any] = {"kinds": ["layercam"], "images": 1, "explain_boxes": "detections", "untrained": 0}
    summary = summarise(run_detectors(prepare_detectors(files, split, thresholds=Thresholds(1.0), **asked)), 0)
    assert [group.title for group in galleries(summary)] == ["The smallest boxes", "Drawn at random"]
    said = markdown(summary, (), "val.py", []) + scatter(summary.pairs[0], "scatter").caption
    assert "nan" not in said
    assert "– are above the diagonal, – are ties" in said
