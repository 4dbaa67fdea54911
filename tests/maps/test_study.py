import contextlib
import io
import json
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from conftest import DIGITS, TAUGHT, Once, Script, Writer, perturb_less, write_backbone, write_yaml
from PIL import Image
from scipy.stats import binomtest

import val
from data.description import load_description
from data.formats import read_split
from data.records import Description, Split, make_record
from data.seen import numbers_of
from evaluation.accuracy import read_backbones
from maps.binary import PERCENTILES
from maps.figures import region_curve
from maps.gallery import galleries
from maps.levels import region_levels, sentence
from maps.lime_columns import first_alike
from maps.localise import Study
from maps.measures import Rule
from maps.networks import load_explained
from maps.plan import Plan
from maps.prepare import choose_percentile, prepare, sample
from maps.regions import Region, propose
from maps.report import page as page_of
from maps.report import write_report
from maps.statistics import Resamples
from maps.study import run
from maps.summary import Line, Pair, Summary, against, apart, comparable, hidden, pair_of, summarise, unlike
from maps.tables import heading, markdown, note_of, pair_json, pair_table, region_json, region_note, region_table
from studies.claims import DIRECTION, NOT_SEEN, REPRODUCED, UNDECIDED, UNTESTED, judged, share_bounds, verdict
from utils.checkpoint import TRAINED_ON
from utils.errors import UserError
from utils.files import json_text


@pytest.fixture
def split(scenes_yaml: Path) -> Split:
    return read_split(load_description(scenes_yaml), "test")


def only(description: Description, name: str) -> Description:
    return replace(description, splits={name: description.splits[name]})


def plan_of(files: list[Path], split: Split, **changes: Any) -> Plan:
    return prepare(read_backbones(files), split, **({"untrained": 1} | changes))


@pytest.fixture(scope="session")
def report(scenes_yaml: Path, once: Once) -> tuple[Path, str]:
    """Folder that the command filled for two methods and two seeds, and what it printed."""

    def fill(folder: Path) -> None:
        files = [write_backbone(folder, scenes_yaml, method, seed=seed) for seed in (0, 1) for method in ("cl6", "e2e")]
        flags = ["--bootstrap", 50, "--device", "cpu", "--project", folder / "runs"]
        flags += ["--claims", "--lime", 2, "--images", 3, "--untrained", 2]
        printed = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
            perturb_less(patch)
            patch.setattr("sys.argv", ["val.py", *map(str, ["--localise", "--weights", *files, *flags])])
            val.main()
        (folder / "printed.txt").write_text(printed.getvalue())

    folder = once("report", fill)
    return folder / "runs" / "val" / "exp", (folder / "printed.txt").read_text()


def test_command_writes_a_report(report: tuple[Path, str]) -> None:
    folder, printed = report
    content = json.loads((folder / "localise.json").read_text())
    assert content["images"] == 3
    lines = {(line["line"], line["map"]): line for line in content["lines"]}
    assert {"gradcam", "saliency", "lime", "baseline"} == {kind for _, kind in lines}
    own = lines["cl6", "gradcam"]
    assert (own["seeds"], own["cuts"]) == ([0, 1], [1, 2, 3, 4, 5, 6])
    assert len(own["measures"]["iou"]["seeds_sd"]) == 6
    assert {pair["map"] for pair in content["pairs"]} == {"gradcam", "saliency", "lime"}
    assert all((pair["first"], pair["second"]) == ("cl6", "e2e") for pair in content["pairs"])
    assert len(content["claims"]) == 8
    values = (folder / "values" / "iou.csv").read_text().splitlines()
    assert len(values) == 1 + content["cases"]
    assert "gradcam/cl6/seed1/b6" in values[0]
    means = np.array([line.split(",") for line in values[1:]])[:, values[0].split(",").index("gradcam/cl6/seed1/b6")]
    assert 0 <= means.astype(float).mean() <= 1
    figures = {path.name for path in (folder / "figures").iterdir()}
    stems = {Path(name).stem for name in figures}
    assert {"scatter_gradcam", "iou_saliency", "coarseness_gradcam", "coverage_lime", "small_gradcam"} <= stems
    assert all({f"{stem}.png", f"{stem}.svg", f"{stem}.csv"} <= figures for stem in stems)
    assert "Grad-CAM" in printed
    assert str(folder / "report.html") in printed
    markdown = (folder / "localise.md").read_text()
    assert str(folder.parent) not in markdown + json.dumps(content)
    assert all((folder / link).exists() for link in re.findall(r"\]\((figures/[^)]+)\)", markdown))


def test_page_holds_all_it_shows(report: tuple[Path, str]) -> None:
    text = (report[0] / "report.html").read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert len(sources) > 30
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert all(f'id="{source[1:]}"' in text for source in sources if source.startswith("#"))
    drawn = {unquote(source.partition(",")[2]) for source in sources if source.startswith("data:image/svg+xml,")}
    assert drawn == {path.read_text() for path in (report[0] / "figures").glob("*.svg")}
    shown = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", "", text, flags=re.DOTALL)
    assert "`" not in shown
    assert "cl6 (2 seeds), e2e (2 seeds) on 3 images of test" in shown
    assert text.count("<img ") == len(re.findall(r'<img [^>]*alt="[^"]{10,}', text)), "every picture says what it is"
    assert (report[0] / "lime_pipeline.jpg").stat().st_size > 10_000
    assert "default-src 'none'; img-src data:;" in text, "the browser itself refuses what comes from elsewhere"
    assert 'type="range"' in text


def test_published_without_pictures_of_the_data(written: Writer, split: Split, tmp_path: Path) -> None:
    summary = summarise(run(plan_of([written("cl6"), written("e2e")], split, kinds=["gradcam"], images=2)), 0)
    published = tmp_path / "results" / "mine.md"
    published.parent.mkdir()
    write_report(summary, "python val.py", tmp_path, pictures=False, published=published, figures=tmp_path / "f.json")
    for page in (tmp_path / "report.html", tmp_path / "results" / "mine" / "report.html"):
        text = page.read_text()
        assert "data:image/webp" not in text
        assert 'type="range"' not in text
    linked = re.findall(r"\]\((mine/[^)]+)\)", published.read_text())
    assert len(linked) > 8
    assert all((published.parent / link).exists() for link in linked)
    content = json.loads((tmp_path / "f.json").read_text())
    assert content == json.loads((tmp_path / "results" / "mine" / "localise.json").read_text())


def chromium(*flags: str) -> str:
    names = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium on this machine")
    own = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,2400"]
    return subprocess.run([program, *own, *flags], check=True, capture_output=True, text=True, timeout=120).stdout


def test_slider_changes_the_pictures_in_a_browser(report: tuple[Path, str], tmp_path: Path) -> None:
    page = report[0] / "report.html"
    moved = tmp_path / "moved.html"
    move = "<script>slider.value = 0; slider.dispatchEvent(new Event('input'));</script></body>"
    moved.write_text(page.read_text().replace("</body>", move))
    pictures, texts = [], []
    for path in (page, moved):
        shot = tmp_path / f"{path.stem}.png"
        chromium(f"--screenshot={shot}", path.as_uri())
        with Image.open(shot) as image:
            pictures.append(np.array(image.convert("RGB")).astype(int))
        texts.append(chromium("--dump-dom", path.as_uri()))
    assert pictures[0].std() > 10, "the page is not blank"
    assert (np.abs(pictures[0] - pictures[1]).max(2) > 30).mean() > 0.002
    start = page.read_text().split('<output id="block" for="layer">')[1].partition("<")[0]
    assert f"({start})" in texts[0], "it opens on the last layer that is judged"
    assert start != "b6", "at 64 pixels the last layer has 2 × 2 cells"
    assert "(b1)" in texts[1]
    assert f"({start})" not in texts[1]


def test_batches_do_not_matter(written: Writer, split: Split) -> None:
    files = [written("cl6")]
    one, other = (run(plan_of(files, split, batch_size=size)) for size in (1, 16))
    assert np.array_equal(one.cases, other.cases)
    for own, same in zip(one.columns, other.columns, strict=True):
        if own.line != "random":
            np.testing.assert_allclose(own.values["mass"], same.values["mass"], atol=1e-4)


def test_same_files_are_ties(written: Writer, split: Split) -> None:
    """A network against itself: nothing differs, nothing is claimed."""
    files = read_backbones([written("cl6"), written("e2e")])
    content = torch.load(files[0].path, weights_only=True)
    content["method"] = "e2e"
    torch.save(content, files[1].path)
    summary = summarise(run(prepare(files, split)), 100)
    for pair in summary.pairs:
        for row in pair.of("iou"):
            assert (row.values.ties, row.values.mean, row.adjusted) == (1, 0, 1)
    assert {claim.verdict for claim in judged(summary)} <= {UNDECIDED, NOT_SEEN, UNTESTED}


def test_lime_reckons_shared_features_once(written: Writer, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fresh classifiers on the same backbone: as if each file were explained alone, for one pass through it."""
    perturb_less(monkeypatch)
    stages, probes = written("cl6", k=3), written("cl6_probed", k=3, seed=1)
    content = torch.load(probes, weights_only=True)
    content["model"] = torch.load(stages, weights_only=True)["model"]
    torch.save(content, probes)
    files = [stages, probes, written("e2e", k=3, seed=2)]
    together = plan_of(files, split, kinds=["gradcam"], images=1, lime=1)
    assert first_alike([load_explained(file, together) for file in together.files]) == [0, 0, 2]
    known = {"cl6", "cl6_probed", "e2e"}
    columns = [column for column in run(together).columns if column.kind == "lime"]
    assert {column.line for column in columns} == {*known, "untrained"}
    found = {column.line: column.values["coverage"] for column in columns if column.line in known}
    for path, line in zip(files, found, strict=True):
        alone = run(replace(together, files=read_backbones([path])))
        own = next(column for column in alone.columns if column.kind == "lime")
        np.testing.assert_array_equal(found[line], own.values["coverage"])


def test_a_better_side_is_seen(written: Writer, split: Split) -> None:
    """Of two seeds, on four pictures that two patients each have."""
    records = [replace(own, group=f"{place} {copy}") for copy in range(2) for place, own in enumerate(split.records)]
    study = run(plan_of([written("cl6"), written("e2e")], replace(split, records=records)))
    study.columns.extend([replace(own, seed=1, parts=dict(own.parts)) for own in study.columns])
    for column in study.columns:
        if column.line == "cl6":
            column.parts["iou"] = [
                np.minimum(1, part + 0.3 + 0.01 * np.random.rand(*part.shape)) for part in column.parts["iou"]
            ]
        if column.line == "e2e":
            column.parts["iou"] = [part / 2 for part in column.parts["iou"]]
    summary = summarise(study, 200)
    verdicts = [claim.verdict for claim in judged(summary)]
    assert verdicts[:4] == [REPRODUCED] * 4
    assert summary.pairs[0].of("iou")[0].values.above == 1
    assert judged(summary)[0].found.startswith("100.0% [100.0%, 100.0%]")


def test_a_cut_whose_classifier_learnt_nothing_is_not_judged(written: Writer, split: Split) -> None:
    """It counts neither in "at every cut" nor in the mean over cuts; the report says so."""
    stages = [TAUGHT | {"auc": 0.51, "learnt": 0.0}, *[TAUGHT] * 5]
    study = run(plan_of([written("cl6"), written("e2e", metrics=stages)], split, kinds=["saliency"], images=2))
    summary = summarise(study, 50)
    assert {tuple(pair.cuts) for pair in summary.pairs} == {(2, 3, 4, 5, 6)}
    assert " of 5 cuts; mean" in judged(summary)[3].found
    assert all(line.coarse == {1} for line in summary.lines if line.trained)
    assert (
        "A classifier at b1 learnt nothing: all maps there are shown in brackets and grey, judged nowhere."
        in heading(summary)
    )
    stages[-1] = stages[0]
    assert not replace(study.plan, files=read_backbones([written("e2e", metrics=stages)])).blank, "nothing is compared"


def test_nothing_is_said_of_what_costs_no_training_where_a_network_learnt_nothing(
    written: Writer, split: Split
) -> None:
    stages = [*[TAUGHT] * 5, TAUGHT | {"auc": 0.51, "learnt": 0.0}]
    files = [written("cl6"), written("e2e", metrics=stages)]
    summary = summarise(run(plan_of(files, split, kinds=["saliency"], images=2)), 50)
    why = "Not tested: the classifiers learnt nothing (AUC 0.51)."
    assert (summary.levels, summary.pairs) == ([], [])
    assert note_of(summary, "saliency", "iou") == region_note(summary, "miou") == region_note(summary, "map50") == why
    assert note_of(summary, "saliency", "coarseness") == "", "it has no better end"
    assert why in markdown(summary, (), "python val.py", [])


def test_the_page_calls_no_layer_coarse_whose_classifier_learnt_nothing(written: Writer, split: Split) -> None:
    """b1 has as many cells as pixels, and a saliency map has none."""
    stages = [TAUGHT | {"auc": 0.51, "learnt": 0.0}, *[TAUGHT] * 5]
    study = run(plan_of([written("cl6", metrics=stages)], split, kinds=["saliency"], images=1))
    summary = summarise(study, 0)
    shown = page_of(summary, (), "python val.py", [], galleries(summary))
    assert 'data-coarse="1"' in shown
    assert "too coarse" not in shown
    assert "for too few cells inside the picture or a classifier that learnt nothing" in shown


def test_bounds_of_the_share_above_are_those_of_a_proportion() -> None:
    draw = np.random.default_rng(0)
    first, second = (
        Line(name, "gradcam", (0,), (1,), {"iou": draw.beta(more, 4, (1, 400, 1)).round(1)})
        for name, more in (("cl6", 4), ("e2e", 3))
    )
    bounds = {name: Resamples(400, draws=4000).interval(values) for name, values in apart(first, second).items()}
    pair = Pair(first, second, against(first, second, bounds, np.arange(400)))
    last = pair.of("iou")[0].values
    decided = round((1 - last.ties) * 400)
    assert 0 < last.ties < 0.5
    low, high = share_bounds(pair)
    expected = binomtest(round(last.above * decided), decided).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.01)


def test_seeds_that_both_have_are_compared() -> None:
    draw = np.random.default_rng(0)
    ious = np.arange(5)[:, None, None] / 10 + draw.normal(0, 1e-4, (5, 8, 2))
    first = Line("cl6", "gradcam", (0, 1, 2, 3, 4), (1, 2), {"iou": ious})
    second = Line("e2e", "gradcam", (2, 4), (1, 2), {"iou": np.zeros((2, 8, 2))})
    values = apart(first, second)
    assert values["iou"].mean((1, 2)) == pytest.approx([0.2, 0.4], abs=1e-3)
    assert unlike(first, second) == "cl6 and e2e are compared with seeds 2, 4, which both have"
    assert unlike(second, first.of_seeds([4])) == "e2e and cl6 are compared with seed 4, which both have"
    assert unlike(second, first.of_seeds([4, 2])) is None
    pair = pair_of(first, second, {name: Resamples(8).interval(own) for name, own in values.items()}, np.arange(8))
    assert np.mean(pair.ious(1)[0]) == pytest.approx(0.3, abs=1e-3)
    content = pair_json(pair)
    assert content["seeds"] == [[2, 4], [2, 4]]
    overall = content["overall"]["iou"]
    assert overall["mean"] == pytest.approx(0.3, abs=1e-3)
    assert overall["low"] < overall["mean"] < overall["high"]
    assert pair_table(pair)[-1][:2] == ["all judged", f"{overall['mean']:+.4f}"]
    by_place = replace(second, seeds=(5, 6))
    assert not comparable(first.of_seeds([0, 1]), by_place)
    assert unlike(first.of_seeds([0, 1]), by_place) == "cl6 and e2e are not compared: no seed of theirs is the same"
    assert comparable(first.of_seeds([0]), by_place.of_seeds([5]))
    apart_by_layers = unlike(first, replace(second, cuts=(3, 4)))
    assert apart_by_layers == "cl6 and e2e are not compared by Grad-CAM: they have no layer in common that is judged"


def test_what_is_not_compared_is_said(written: Writer, script: Script, tmp_path: Path) -> None:
    files = [written("cl6"), written("cl6", seed=1), written("e2e", seed=2)]
    flags = ["--maps", "gradcam", "--images", 2, "--untrained", 1, "--bootstrap", 0, "--no-pictures", "--claims"]
    script(val, "--localise", "--weights", *files, *flags, "--device", "cpu", "--project", tmp_path)
    folder = tmp_path / "val" / "exp"
    content = json.loads((folder / "localise.json").read_text())
    assert (content["pairs"], content["claims"]) == ([], [])
    for text in (" ".join(content["notes"]), (folder / "localise.md").read_text()):
        assert "cl6 and e2e are not compared: no seed of theirs is the same" in text
        assert "No claim is judged: that takes a cascaded network" in text


def test_boxes_of_which_nothing_is_to_be_seen_are_no_cases(written: Writer, split: Split) -> None:
    """A box that holds no pixel's centre would have an IoU of 0 with every map; it is left out, and counted."""
    first, second = split.records[:2]
    thin = np.array([[10.6, 10.6, 11.4, 11.4]], np.float32)
    one = {"labels": first.labels[:1], "difficult": np.zeros(1, bool), "boxes_xyxy": thin, "size_hw": (64, 64)}
    speck = replace(first, **one, pixels=np.zeros((64, 64, 3), np.uint8))
    plan = plan_of([written("cl6")], replace(split, records=[speck, second]), kinds=["gradcam"])
    study = run(replace(plan, training=()))
    assert set(study.cases[:, 0].tolist()) == {1}
    assert (study.shares > 0).all()
    (note,) = summarise(study, 0).notes
    assert note.startswith("1 case is left out, whose boxes have a side below 2 pixels of the input")
    assert hidden(replace(study, plan=replace(plan, split=replace(split, records=[second])))) is None
    with pytest.raises(UserError, match="no box is 2 pixels of the input wide and high, and in view"):
        run(replace(plan, training=(), split=replace(split, records=[speck])))


def test_verdicts_by_intervals() -> None:
    assert [verdict(0.1, 0.2, own) for own in (True, False)] == [REPRODUCED, DIRECTION]
    assert verdict(-0.014, 0.015, True) == UNDECIDED
    assert verdict(-0.2, -0.1, True) == NOT_SEEN
    assert verdict(0.4, 0.6, True, 0.5) == UNDECIDED


def test_patients_are_resampled_whole(written: Writer, split: Split) -> None:
    study = run(plan_of([written("cl6")], split, kinds=["gradcam"]))
    assert len(set(study.groups)) == len(study.records)
    grouped = replace(study.plan.split, records=[replace(record, group="one") for record in study.records[:-1]])
    assert len(set(Study(replace(study.plan, split=grouped), [], study.cases[:4], study.shares).groups)) == 1


def test_another_class_is_explained_in_any_box(written: Writer, split: Split) -> None:
    study = run(plan_of([written("cl6")], split, kinds=["gradcam"], explain="7"))
    assert len(study.cases) == len(study.records)
    assert (study.cases[:, 1] == 7).all()
    with pytest.raises(UserError, match="--explain"):
        plan_of([written("cl6")], split, explain="cat")


def test_only_some_boxes_count(written: Writer, split: Split) -> None:
    plan = plan_of([written("cl6")], split, targets=["3", "4"])
    assert {label for record in plan.split.records for label in record.labels.tolist()} <= {3, 4}
    assert len(plan.split.records) < len(split.records) or len(split.records) == 4
    with pytest.raises(UserError, match="--targets"):
        plan_of([written("cl6")], split, targets=["cat"])


def test_lines_are_held_against_their_own_kind(written: Writer, split: Split) -> None:
    names = ("cl6", "e2e", "cl6_probed", "e2e_probed")
    summary = summarise(run(plan_of([written(name) for name in names], split, kinds=["gradcam"], images=2)), 0)
    assert {(pair.first.name, pair.second.name) for pair in summary.pairs} == {
        ("cl6", "e2e"),
        ("cl6_probed", "e2e_probed"),
    }


def test_percentile_is_chosen_by_the_other_side(written: Writer, split: Split) -> None:
    dry = plan_of([written("cl6"), written("e2e")], split, percentile=None, dry=True)
    assert dry.rule.percentile == 80, "nothing is explained to choose it"
    chosen = plan_of([written("cl6"), written("e2e")], split, percentile=None).rule.percentile
    assert chosen in PERCENTILES
    assert chosen == plan_of([written("e2e")], split, percentile=None).rule.percentile
    alone = replace(split, description=only(split.description, "test"))
    for dry in (True, False):
        with pytest.raises(UserError, match="--percentile"):
            plan_of([written("e2e")], alone, percentile=None, dry=dry)


def test_nothing_is_learnt_from_what_thresholds_are_chosen_on(written: Writer, split: Split) -> None:
    """Without val they are chosen on training images that no network has learnt from."""
    splits = {name: own for name, own in split.description.splits.items() if name != "val"}
    own = replace(split, description=replace(split.description, splits=splits))
    learnt = numbers_of(read_split(split.description, "train").records[:5])
    plan = plan_of([written("e2e", **{TRAINED_ON: learnt})], own, tuned=True)
    tuning, pool = ({record.image for record in records} for records in (plan.tuning, plan.pool))
    assert len(tuning) == 3
    assert len(pool) >= len(tuning)
    assert not tuning & pool
    assert "Thresholds are chosen on at most" in plan.notes[-1]


def test_few_images_are_drawn_from_all(written: Writer, split: Split) -> None:
    """Data sets come class by class: the first images are not any images."""
    records = [replace(split.records[0], group=str(number)) for number in range(100)]
    drawn = [int(str(record.group)) for record in sample(records, 20)]
    assert drawn == sorted(drawn)
    assert len(set(drawn)) == 20
    assert max(drawn) > 60


def test_regions_leave_the_backbone_alone(written: Writer, split: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maps.regions.STEPS", 1)
    files = [written("cl6", k=3), written("e2e", k=3)]
    before = [path.read_bytes() for path in files]
    found = propose(plan_of(files, split))
    assert [path.read_bytes() for path in files] == before
    runs = Counter((own.line, own.cut) for own in found)
    networks = ("cl6", "e2e", "untrained")
    assert runs == {("constant box", 0): 1} | {
        (line, cut): 3 for line in networks for cut in read_backbones(files)[0].cuts
    }
    assert all(0 <= own.miou <= 1 and 0 <= own.map50 <= 1 for own in found)
    assert all(own.miou == pytest.approx(own.ious.mean()) for own in found)
    plan = plan_of(files, split)
    study = Study(plan, [], np.zeros((0, 2), int), np.zeros(0))
    beside = region_levels(study, found, 50)
    assert {(own.line, own.rival) for own in beside} == {
        (line, rival) for line in ("cl6", "e2e") for rival in ("untrained", "constant box")
    }
    assert sentence(beside).startswith("Without intervals"), "there are four pictures"
    measured = Summary(study, [], [], {}, found, region_levels=beside)
    assert region_note(measured, "miou") == sentence(beside)
    assert region_note(measured, "map50").endswith("by their mean IoU alone.")
    assert len({own.miou for own in found}) > 3, "runs and cuts differ"
    assert {own.cut for own in found if not own.judged} == {6}, "2 × 2 cells"
    assert {own.cuts for own in beside} == {tuple(cut for cut in read_backbones(files)[0].cuts if cut != 6)}
    deepest = region_table(measured, "miou")[-1]
    assert [own.startswith("(") for own in deepest] == [False, True, True, True, False], "but not the constant box"
    rows = region_curve(measured, "miou").rows
    assert {row["cut"] for row in rows if "cut" in row} >= {"b6"}, "shown, grey"
    for own in json.loads(json_text([region_json(own) for own in found])):
        assert {"line", "cut", "miou", "map50"} <= own.keys()
        assert {"ious", "record"}.isdisjoint(own), "values by image are no part of the JSON"


@pytest.fixture
def of_patients() -> Callable[[int, int], Study]:
    """A study whose images come from so many patients, in turns."""

    def make(images: int, patients: int) -> Study:
        records = [make_record(Path(f"{n}"), (8, 8), group=f"patient {n % patients}") for n in range(images)]
        plan: Any = SimpleNamespace(split=SimpleNamespace(records=records), rule=Rule())
        return Study(plan, [], np.zeros((0, 2), int), np.zeros(0))

    return make


def test_runs_on_one_backbone_are_no_seeds(of_patients: Callable[[int, int], Study]) -> None:
    """Two files, two runs on each: the difference of their means has the spread of two seeds."""
    draw, study, hits, images = np.random.default_rng(0), of_patients(12, 12), [], 12
    for _ in range(200):
        found = [Region("constant box", 0, 0, 0, 0, 0, np.full(images, 0.5), np.arange(images))]
        for seed in range(2):
            own = 0.5 + draw.normal(0, 0.1)
            every = (draw.normal(own, 0.02, images) for _ in range(2))
            found += [Region("cl6", seed, run, 1, 0, 0, ious, np.arange(images)) for run, ious in enumerate(every)]
        (level,) = region_levels(study, found, 50)
        hits.append(level.bounds[0, 0] <= 0 <= level.bounds[1, 0])
    assert np.mean(hits) >= 0.91


def test_images_of_a_patient_are_drawn_together_for_regions(of_patients: Callable[[int, int], Study]) -> None:
    ious = np.repeat([np.random.default_rng(0).random(8)], 10, 0).ravel()
    every = np.arange(80)
    found = [Region("constant box", 0, 0, 0, 0, 0, np.zeros(80), every), Region("cl6", 0, 0, 1, 0, 0, ious, every)]
    alone, together = (np.ptp(region_levels(of_patients(80, n), found, 400)[0].bounds) for n in (80, 8))
    assert together > 2 * alone


def test_images_whose_boxes_are_cropped_away_are_no_cases_of_regions(
    written: Writer, split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maps.regions.STEPS", 1)
    records, draw = [], np.random.default_rng(0)
    for number, left in enumerate((4, 80, 82, 84, 86, 88, 92, 160)):  # the middle third is seen
        path = tmp_path / f"{number}.png"
        Image.fromarray(draw.integers(0, 255, (64, 192, 3), np.uint8)).save(path)
        records.append(make_record(path, (64, 192), [[left, 10, left + 24, 50]], [3], group=f"patient {number % 6}"))
    centred = written("cl6", k=1, view={"source": "pictures", "imgsz": 64, "fit": "center", "context": 0.0})
    plan = replace(plan_of([centred], replace(split, records=records)), training=records)
    found = propose(plan)
    levels = region_levels(Study(plan, [], np.zeros((0, 2), int), np.zeros(0)), found, 50)
    assert all(np.isfinite(own.bounds).all() for own in levels)
    assert {tuple(own.record) for own in found} == {(1, 2, 3, 4, 5, 6)}
    assert all(len(own.ious) == 6 for own in found)


def test_networks_count_the_same_in_the_choice_of_a_percentile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the numbers of their cuts; chance is 0 at every percentile where boxes take nothing."""
    columns = [SimpleNamespace(judged=lambda name: np.full((3, 1), 0.9 if name == "iou_80" else 0.1)),
               SimpleNamespace(judged=lambda name: np.full((3, 9), 0.3 if name == "iou_50" else 0.1))]  # fmt: skip
    monkeypatch.setattr("maps.prepare.trained_networks", lambda plan: [None])
    monkeypatch.setattr("maps.prepare.columns_of", lambda plan, own: columns)
    monkeypatch.setattr("maps.prepare.fill", lambda *_: (None, np.zeros(3)))
    monkeypatch.setattr(Plan, "cases", lambda *_: iter(()))
    plan = Plan([SimpleNamespace(method="e2e", settings=())], None)  # type: ignore[list-item, arg-type]
    assert choose_percentile(plan, []) == 80


def test_what_cannot_be_explained(written: Writer, split: Split, scenes: Path, script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compare files of one"):
        plan_of([written("cl6"), written("e2e", imgsz=96)], split)
    with pytest.raises(UserError, match="CAM cannot explain"):
        plan_of([written("cl6")], split, kinds=["cam"])
    empty = read_split(load_description(write_yaml(tmp_path / "none.yaml", path=str(scenes), names=DIGITS)), "test")
    with pytest.raises(UserError, match="has a box"):
        plan_of([written("cl6")], type(split)("test", split.description, empty.records[:0]))
    for flag, value in (("--lime", -1), ("--images", 0)):
        with pytest.raises(UserError, match=flag):
            script(val, "--localise", "--weights", written("cl6"), flag, value)
    with pytest.raises(UserError, match="--percentile: 77 is none of 5, 10"):
        script(val, "--localise", "--weights", written("cl6"), "--percentile", 77)


def test_cam_is_measured_where_it_can_be(written: Writer, split: Split) -> None:
    study = run(plan_of([written("cl3", k=3, head="gap")], split, kinds=["cam", "gradcam"]))
    cam, grad = (column.values["iou"] for column in study.columns[:2])
    np.testing.assert_allclose(cam[:, -1].mean(), grad[:, -1].mean(), atol=0.15)
