import csv
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from conftest import DIGITS, Script, Writer, write_yaml
from matplotlib.figure import Figure
from PIL import Image

import val
from data.description import load_description
from data.formats import read_split
from evaluation.accuracy import load_backbone_and_heads, read_backbones
from maps.kinds import explanations
from maps.networks import load_explained
from maps.plan import Plan
from maps.prepare import aimed_at, prepare
from utils.errors import UserError
from wsol import localiser as localisers
from wsol.compare import Comparison, Network, Trial, compare
from wsol.cost import peak_bytes
from wsol.everywhere import boxes_elsewhere, chances
from wsol.judge import Row, Value, begins_as, class_weights, has_guesses, is_control, judge
from wsol.localiser import Localiser, Subject, by_threshold, largest
from wsol.map_values import MapValues
from wsol.methods import BASELINES, METHODS, Method, layer_of
from wsol.mining.train import Mining
from wsol.mining_tables import line_of
from wsol.pipeline_picture import Pipeline, save_pipeline
from wsol.report import coarse_notes, findings_table, not_ahead, table, wanted
from wsol.threshold import best_share
from wsol.tight_loose import five_guesses, tight_and_loose


@pytest.fixture
def plan(written: Writer, scenes_yaml: Path) -> Plan:
    split = read_split(load_description(scenes_yaml), "test")
    return prepare(read_backbones([written("cl6", head="gap"), written("cl6", head="gap", seed=1)]), split, untrained=1)


def test_all_methods_in_one_table(script: Script, written: Writer, tmp_path: Path) -> None:
    files = [written("cl6", head="gap"), written("e2e", head="gap")]
    flags = ["--images", 5, "--bootstrap", 20, "--untrained", 1, "--device", "cpu", "--project", tmp_path]
    said = ["--report", tmp_path / "table.md"]
    script(val, "--localise", "--method", "all", "--weights", *files, *flags, *said)
    own = ["--method", "mining", "sensitivity", "mean-box", "--weights", files[1], "--name", "mined", "--no-pictures"]
    script(val, "--localise", *own, *flags)
    assert [file.name for file in (tmp_path / "val" / "mined").iterdir() if file.suffix in (".jpg", ".png")] == [
        "localisers.png"
    ]
    mined = json.loads((tmp_path / "val" / "mined" / "localisers.json").read_text())["rows"]
    assert [(row["method"], row["line"]) for row in mined][3:4] == [("mining", "e2e")]
    folder = tmp_path / "val" / "exp"
    rows = json.loads((folder / "localisers.json").read_text())["rows"]
    learned = [
        own.name + more
        for own in METHODS.values()
        if own.network and not (own.slow or own.named)
        for more in ("", *own.also)
    ]
    assert len(rows) == 3 + 3 * len(learned)
    assert {(row["method"], row["line"]) for row in rows} >= {
        ("cam", "cl6"),
        ("attention", "untrained"),
        ("pixels", "–"),
    }
    assert all(0 <= row["values"]["gt_known"]["mean"] <= 1 for row in rows)
    worth = {(row["method"], row["line"]): row["bounds"] for row in rows}
    assert worth["gradcam", "cl6"] == worth["gradcam@0.2", "cl6"] != worth["saliency", "cl6"]
    assert ["ahead" in row["values"] for row in rows if row["method"] == "saliency"] == [True, True, False]
    coarse = {row["method"] for row in rows if row["coarse"]}
    assert coarse == {"cam", "cam@0.2", "gradcam", "gradcam@0.2"}, "of one and of two cells a side, at 64 px"
    assert not any(row["values"].keys() & {"ahead", "over_centre", "over_cam"} for row in rows if row["coarse"])
    boxes = list(csv.DictReader((folder / "boxes.csv").read_text().splitlines()))
    assert {box["method"] for box in boxes} == {*BASELINES, *learned}
    for name in ("boxes.jpg", "localisers.png"):
        assert np.asarray(Image.open(folder / name)).std() > 0
    text = (tmp_path / "table.md").read_text()
    assert "| sensitivity | cl6 |" in text
    assert "| ahead | over centre | over untrained | no box |" in text
    assert "gradcam@0.2 of cl6, e2e, untrained has maps with fewer than 4 × 4 cells inside most pictures" in text
    assert "*over centre*: minus the centre box's; *over untrained*: minus that of the same method" in text
    assert "CorLoc by class:\n\n| method | features | 0 |" in text
    assert "![fraction of right boxes](table.png)" in text
    assert (tmp_path / "table.png").exists()


def test_classes_that_no_network_was_trained_on(script: Script, written: Writer, scenes: Path, tmp_path: Path) -> None:
    """Attention asks for none: its boxes are judged on the classes of the data, and averaged over named subsets."""
    names = DIGITS[::-1]
    data = write_yaml(tmp_path / "new.yaml", path=str(scenes), names=names, subsets={"two": names[:2]})
    flags = ["--data", data, "--bootstrap", 20, "--untrained", 1, "--device", "cpu", "--project", tmp_path]
    weights = ["--weights", written("cl6", head="gap")]
    script(val, "--localise", "--method", "attention:mean", "attention:images=5", *weights, *flags)
    folder = tmp_path / "val" / "exp"
    rows = json.loads((folder / "localisers.json").read_text())["rows"]
    assert [row["method"] for row in rows][3::2] == ["attention:mean", "attention:images=5"]
    assert set(rows[3]["classes"]) <= set(names)
    one = rows[-1]
    two = [one["classes"][name]["corloc"] for name in names[:2] if name in one["classes"]]
    assert one["values"]["subset/two"]["mean"] == pytest.approx(np.mean(two))
    assert 0 <= one["bounds"]["map50"] <= 1
    assert "top1_error" not in one["values"]
    listed = list(csv.DictReader((folder / "classes.csv").read_text().splitlines()))
    assert len(listed) == sum(len(row["classes"]) for row in rows)
    for name in ("examples_attention_mean.jpg", "examples_pixels.jpg", "pipeline_attention.png"):
        assert np.asarray(Image.open(folder / name)).std() > 0
    assert "CorLoc, two | " in (folder / "localisers.md").read_text()
    with pytest.raises(UserError, match=r"classes .* are not those of"):
        script(val, "--localise", "--method", "attention", "gradcam", *weights, *flags)
    write_yaml(data, path=str(scenes), names=names, subsets={"two": ["new"]})
    with pytest.raises(UserError, match=r"subsets: two.*new"):
        script(val, "--localise", "--method", "attention", *weights, *flags)


def test_what_cannot_be_compared(script: Script, written: Writer, tmp_path: Path) -> None:
    wrong = {
        "cam": "wants a global pool",
        "mining": "wants a global average pool",
        "guess": "--method: no method `guess`",
    }
    for name, what in wrong.items():
        with pytest.raises(UserError, match=what):
            script(val, "--localise", "--method", name, "--weights", written("cl6"), "--project", tmp_path)
    made = ["--project", tmp_path / "no", "--weights", written("cl6")]
    for flag in ("--maps=cam", "--percentile=auto", "--lime=5", "--regions", "--claims"):
        with pytest.raises(UserError, match=rf"{flag.partition('=')[0]}: is not for --method — leave it out"):
            script(val, "--localise", "--method", "cam", flag, *made)
    assert not (tmp_path / "no").exists()


def test_each_class_is_looked_for_in_each_image(plan: Plan) -> None:
    """A map with one high pixel, in the column of the class: the images that have the class are left out."""

    def maps(images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        return np.stack([np.eye(1, 100, 3 * label + 1).reshape(10, 10) for label in labels.tolist()])

    every = np.concatenate([np.stack([own.record, own.labels], 1) for own in plan.cases(plan.split.records, "")])
    found = boxes_elsewhere(plan, Localiser(maps, lambda maps: maps), every, "")
    images, classes = (set(column.tolist()) for column in every.T)
    looked = {(guess.image, label) for label, own in found.items() for guess in own}
    assert looked == {(image, label) for image in images for label in classes} - set(map(tuple, every.tolist()))
    for label, own in found.items():
        assert all(int(guess.box_xyxy[1]) * 10 + int(guess.box_xyxy[0]) == 3 * label + 1 for guess in own)
    network = load_explained(plan.files[0], plan)
    probabilities = chances(plan, network)
    part = next(iter(plan.cases(plan.split.records, "")))
    with torch.no_grad():
        logits = network(part.images)[-1]
    share = (logits.softmax(1) if network.single_label else logits.sigmoid())[0]
    assert probabilities[part.record[0]] == pytest.approx(share.numpy(), abs=1e-5)


def test_all_ways_of_mining_begin_with_the_same_aggregation(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without preservation fewer images are learnt from between the steps; the network that they begin with is one."""
    used: list[int] = []
    for phase in ("aggregated", "mine"):
        monkeypatch.setattr(localisers, phase, lambda network, images, *_: used.append(len(images.records)))
    subject = Subject(None, lambda: (), plan, partial(load_backbone_and_heads, plan.files[0]))  # type: ignore[arg-type]
    for keep in ("none", "vanilla", "features"):
        localisers.mining_maps(Mining(keep=keep), "bilinear")(subject)  # type: ignore[arg-type]
    few = len(plan.split.records)
    every = few + len(plan.training)
    assert used == [every, few, *4 * [every]]


@pytest.mark.parametrize("stretched", [False, True])
def test_mined_maps_are_where_cams_are(plan: Plan, stretched: bool) -> None:
    """One step is CAM, scaled: placed by its cells, or stretched over the image as CAM beside it."""
    plan = replace(plan, stretched=stretched)
    network, layers = load_explained(plan.files[0], plan), partial(load_backbone_and_heads, plan.files[0])
    subject = Subject(network, lambda: (), plan, layers)
    cases = next(iter(plan.cases(plan.split.records, "")))
    cam, mined = (
        make(subject)(cases.images, cases.labels)
        for make in (localisers.cam_maps(), localisers.mining_maps(Mining(steps=1)))
    )
    shown = cam.max((1, 2)) > 0
    assert shown.any()
    for one, other in zip(cam[shown], mined[shown], strict=True):
        np.testing.assert_allclose(other / other.max(), one / one.max(), atol=1e-3)


def test_a_method_that_sees_the_boxes_finds_them(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The regression, fed with the true masks, beats what knows no image."""
    masks = {}
    for records in (plan.training, plan.split.records):
        for cases in plan.cases(records, "masks"):
            for image, label, truth in zip(cases.images, cases.labels.tolist(), cases.truth, strict=True):
                masks[float(image.sum()), label] = truth.astype(np.float32)

    def of(images: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
        own = zip(images, labels.tolist(), strict=True)
        return np.stack([masks[float(image.sum()), label] for image, label in own])

    monkeypatch.setitem(
        METHODS, "oracle", Method("oracle", "true masks", partial(by_threshold, lambda subject: of, 0.5))
    )
    rows = {(row.method, row.line): row for row in judge(compare(plan, ["centre-box", "mean-box", "oracle"]), 50)}
    own = rows["oracle", "cl6"]
    assert own.values["v2"].mean > 0.9
    assert own.bounds["pixel_ap"] == pytest.approx(1)
    assert own.seeds == 2
    assert own.values["gt_known"].mean > 0.9
    assert own.values["corloc"].mean > 0.9
    assert own.values["ahead"].mean == pytest.approx(0)  # the untrained network is given the same
    assert "ahead" not in rows["mean-box", "–"].values
    found = [value.mean for name, value in own.values.items() if name.startswith("accuracy/") and name.endswith("/0.5")]
    assert max(found) == 1
    assert np.mean(found) > 0.6  # of several boxes only the largest part of the mask is looked at


def eight(plan: Plan) -> Plan:
    """The plan with every picture of two patients: four are too few for an interval."""
    records = [
        replace(own, group=f"{place} {copy}") for copy in range(2) for place, own in enumerate(plan.split.records)
    ]
    return replace(plan, split=replace(plan.split, records=records))


def test_ahead_has_the_spread_of_both_sides(plan: Plan) -> None:
    """Untrained networks differ among themselves: a difference from their mean is less sure than from one of them."""
    draw = np.random.default_rng(0)
    cases = np.stack([np.arange(40) % 8, np.zeros(40, int)], 1)
    boxes, trials = np.tile([0.0, 0, 1, 1], (40, 1)), []
    for line, seed, share in (("cl6", 0, 0.6), ("cl6", 1, 0.6), ("untrained", 0, 0.1), ("untrained", 1, 0.9)):
        ious = np.where(draw.permutation(40) < 40 * share, 0.9, 0.1)
        trials.append(Trial("gradcam", line, seed, ious, boxes, None, 1.0, 1))
    networks = [Network("cl6", 0, None, None, np.zeros(40, int), 1.0)]  # type: ignore[arg-type]
    alone, both = (
        judge(Comparison(eight(plan), cases, np.ones(40), networks, own), 100)[0].values["ahead"]
        for own in (trials[:3], trials)
    )
    assert alone.mean == pytest.approx(0.5)
    assert both.mean == pytest.approx(0.1)
    assert both.low < -1 < 1 < both.high
    assert alone.high - alone.low < 1


def test_differences_from_the_centre_and_from_untrained_networks(plan: Plan) -> None:
    """Both are written, whatever row is the best of those that learnt nothing."""
    cases = np.stack([np.arange(40) % 8, np.zeros(40, int)], 1)
    boxes, trials = np.tile([0.0, 0, 1, 1], (40, 1)), []
    rights = {("pixels", "–"): 30, ("centre-box", "–"): 20, ("cam@0.2", "cl6"): 8, ("cam@0.2", "untrained"): 0}
    for (method, line), right in rights.items():
        ious = np.where(np.arange(40) < right, 0.9, 0.1)
        trials.append(Trial(method, line, 0, ious, boxes, None, 1.0, 1))
    ranks = np.zeros(40, int)
    networks = [Network(line, 0, None, None, ranks, 1.0) for line in ("cl6", "untrained")]  # type: ignore[arg-type]
    rows = judge(Comparison(eight(plan), cases, np.ones(40), networks, trials), 100)
    found = {(row.method, row.line): {name: own.mean for name, own in row.values.items()} for row in rows}
    own = found["cam@0.2", "cl6"]
    assert [own[name] for name in ("ahead", "over_centre", "over_untrained")] == pytest.approx([-0.55, -0.3, 0.2])
    assert found["pixels", "–"]["over_centre"] == pytest.approx(0.25)
    assert found["cam@0.2", "untrained"]["over_centre"] == pytest.approx(-0.5)
    assert "over_untrained" not in found["cam@0.2", "untrained"]
    assert not found["centre-box", "–"].keys() & {"ahead", "over_centre", "over_untrained"}
    assert rows[2].values["over_centre"].high < 0 < rows[2].values["over_untrained"].low


def test_what_is_too_coarse_is_compared_with_nothing(plan: Plan) -> None:
    """Neither it nor what would be compared with it; the six-layer network has one pooled cell at 64 px."""
    cases, boxes = np.stack([np.arange(40) % 8, np.zeros(40, int)], 1), np.tile([0.0, 0, 1, 1], (40, 1))
    own = [("centre-box", "–", False), ("cam", "cl6", True), ("gradcam", "cl6", False)]
    trials = [Trial(method, line, 0, np.ones(40), boxes, None, 1.0, 1, coarse=coarse) for method, line, coarse in own]
    networks = [Network("cl6", 0, None, None, np.zeros(40, int), 1.0)]  # type: ignore[arg-type]
    comparison = Comparison(eight(plan), cases, np.ones(40), networks, trials)
    rows = judge(comparison, 100)
    assert not {"ahead", "over_centre"} & rows[1].values.keys()
    assert "over_centre" in rows[2].values
    assert "over_cam" not in rows[2].values
    fine = replace(comparison, trials=[replace(trial, coarse=False) for trial in trials])
    assert judge(fine, 100)[2].values["over_cam"].mean == 0
    assert table(rows)[2][2].startswith("(")
    assert coarse_notes(comparison) == [
        "cam of cl6 has maps with fewer than 4 × 4 cells inside most pictures: in brackets, compared with nothing"
    ]
    assert layer_of(METHODS.choose("mining:bilinear@0.5")) == "" != layer_of(METHODS.choose("mining"))


def test_maps_of_an_earlier_cut(plan: Plan) -> None:
    """By its own classifier; it is judged where its cells are small enough, whatever those of the last cut are."""
    network = load_explained(plan.files[0], plan)
    subject = Subject(network, lambda: (), plan, lambda: load_backbone_and_heads(plan.files[0]))
    cases = next(iter(plan.cases(plan.split.records, ""))).at([0, 1])
    for maps_of, kind in ((localisers.gradcam_maps, "gradcam"), (localisers.cam_maps, "cam")):
        every = explanations(network, cases.images, cases.labels, (kind,))[kind]
        for cut, place in ((1, 0), (3, 2), (0, -1)):
            own = maps_of(cut)(subject)(cases.images, cases.labels)
            np.testing.assert_array_equal(own, every[place].at(*cases.images.shape[2:]).maps)
    few = replace(plan, files=plan.files[:1], split=replace(plan.split, records=plan.split.records[:2]))
    found = compare(few, ["gradcam@0.2", "gradcam:cut=1@0.2", "cam:cut=1@0.2", "cam:cut=5@0.2"])
    assert {trial.method: trial.coarse for trial in found.trials} == {
        "gradcam@0.2": True, "gradcam:cut=1@0.2": False, "cam:cut=1@0.2": False, "cam:cut=5@0.2": True,
    }  # fmt: skip
    with pytest.raises(UserError, match="gradcam:cut=7 wants cut 7, and a network has 6"):
        wanted(plan, ["gradcam:cut=7"])
    other = replace(plan, files=[plan.files[0], replace(plan.files[1], cuts=[2, 4, 6])])
    with pytest.raises(UserError, match="cam:cut=2 counts the cuts of a network, and these networks have others"):
        wanted(other, ["cam:cut=2"])


def test_classes_stay_where_boxes_are_aimed_at(plan: Plan) -> None:
    several = [own for own in plan.split.records if len(set(own.labels.tolist())) > 1]
    one = int(several[0].labels[0])
    for before, own in zip(several, aimed_at(replace(plan.split, records=several), [one]).records, strict=True):
        assert set(own.labels.tolist()) <= {one}
        assert own.classes is not None
        assert set(own.classes.tolist()) == set(before.labels.tolist())


def test_crowds_stay_crowds_where_boxes_are_aimed_at(plan: Plan) -> None:
    own = plan.split.records[0]
    crowd = np.arange(len(own.labels)) == 0
    (found,) = aimed_at(replace(plan.split, records=[replace(own, crowd=crowd)]), [int(own.labels[0])]).records
    assert found.crowd is not None
    assert (bool(found.crowd[0]), bool(found.difficult.any())) == (True, False)


def test_class_errors_are_of_one_class_an_image(plan: Plan) -> None:
    def asked(explain: int | None, cases: list[list[int]]) -> bool:
        files = [SimpleNamespace(single_label=True)]
        about = SimpleNamespace(explain=explain, foreign=False, files=files)
        return has_guesses(cast(Comparison, SimpleNamespace(plan=about, cases=np.array(cases))))

    assert asked(None, [[0, 3], [1, 2]])
    assert not asked(3, [[0, 3], [1, 3]])
    assert not asked(None, [[0, 3], [0, 2]])


def test_methods_count_once_and_mining_has_its_beginning_beside_it(plan: Plan) -> None:
    assert wanted(plan, ["cam@0.2", "cam@0.2", "mining@0.5"]) == [*BASELINES, "cam@0.2", "mining@0.5", "cam@0.5"]


def test_a_rows_without_an_interval_are_named() -> None:
    def row(line: str, low: float) -> Row:
        return Row("cam", line, 1, {"ahead": Value(0.1, low, 0.3)}, {}, 0, 1, 1, 1)

    said = not_ahead([row("cl6", np.nan), row("e2e", 0.1)])
    assert said == "Every other row is ahead of it. No interval of the difference from it: cam of cl6."
    assert not_ahead([row("cl6", -0.1), row("e2e", 0.1)]) == "Not ahead of it: cam of cl6."
    assert not_ahead([row("cl6", np.nan)]).startswith("Without intervals")
    assert not_ahead([replace(row("cl6", 0.1), values={})]) == "No row is compared with the baselines."


@pytest.mark.parametrize(("name", "how"), [("attention", "one backward pass"), ("differences", "finite differences")])
def test_the_picture_of_the_way_says_how_the_map_is_made(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert METHODS[name].traced == how
    drawn, box = list[Figure](), np.array([2.0, 2, 6, 6])
    monkeypatch.setattr("wsol.pipeline_picture.write_figure", lambda figure, _: drawn.append(figure))
    own = Pipeline(torch.rand(3, 8, 8), [(4, 8, 8)], [("a", 0.9)], how, np.zeros((8, 8)), box, box[None])
    save_pipeline(own, name, Path("way.png"))
    assert drawn[0].axes[3].get_title() == f"← {how}:\nsensitivity map"


def test_measures_by_hand(plan: Plan) -> None:
    cases = np.array([[0, 0], [1, 0], [2, 0], [3, 1]])
    boxes = np.array([[0, 0, 1, 1.0]] * 3 + [[np.nan] * 4])
    ious = np.array([0.6, 0.5, 0.1, 0.0])
    files = [replace(file, single_label=True) for file in plan.files]
    hits, false = np.zeros((4, 7)), np.ones((4, 7))
    hits[:2, 0] = [2, 1]
    loose, tight = np.array([True, True, True, False]), np.array([False] * 4)
    own = MapValues(np.array([1, 0, 0, 1.0]), 0.7, 0.4, loose, tight, hits, false)
    trial = Trial("gradcam", "cl6", 0, ious, boxes, own, 2.0, 10)
    network = Network("cl6", 0, None, None, np.array([0, 4, 5, 0]), 1.0)  # type: ignore[arg-type]
    [row] = judge(Comparison(replace(plan, files=files), cases, np.array([2, 1, 1, 2]), [network], [trial]), 0)
    means = {name: value.mean for name, value in row.values.items() if "/" not in name}
    said = [row.values[f"{key}/{name}/0.1"].mean for key in ("accuracy", "false") for name in ("0", "1")]
    assert said == pytest.approx([3 / 4, 0, 3 / 4, 1 / 2])
    assert [row.values[f"corloc/{name}"].mean for name in ("0", "1")] == pytest.approx([1 / 3, 0])
    errors = {"top1_error": 0.75, "top5_error": 0.5, "guesses_error": 0.75, "class1_error": 0.5, "class5_error": 0.25}
    assert means == pytest.approx({"corloc": 1 / 6, "gt_known": 0.5, "iou": 0.3, "v2": 0.5, **errors})
    assert row.bounds == {"v2_best": 0.7, "pixel_ap": 0.4}
    assert row.no_box == 0.25
    few = ["0", "1", "2", "3", "4"]  # five guesses would name them all
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plan, "names", few)
        [row] = judge(Comparison(replace(plan, files=files), cases, np.array([2, 1, 1, 2]), [network], [trial]), 0)
    assert {name for name in row.values if name.endswith("error")} == {"top1_error", "class1_error"}
    np.testing.assert_allclose(class_weights(cases[:, 1]), [1 / 3, 1 / 3, 1 / 3, 1])
    table = findings_table([row])
    assert table[0][3:] == ["0", "1"]
    assert [cell.rpartition(" ")[2] for cell in table[1][3:]] == ["0.75", "0.50"]


def test_names_of_classes_may_have_slashes() -> None:
    keys = [f"{kind}/Nodule/Mass/{iou}" for kind in ("accuracy", "false") for iou in ("0.1", "0.3")]
    row = Row("cam", "cl6", 1, {key: Value(0.5, np.nan, np.nan) for key in keys}, {}, 0, 1, 1, 1)
    assert findings_table([row]) == [
        ["method", "features", "IoU", "Nodule/Mass"],
        ["cam", "cl6", "0.1", "0.500 – 0.50"],
        ["cam", "cl6", "0.3", "0.500 – 0.50"],
    ]
    line = line_of(asdict(row), 64)
    assert line is not None
    assert line.accuracy == {("Nodule/Mass", "0.1"): 0.5, ("Nodule/Mass", "0.3"): 0.5}


def test_threshold_of_most_right_boxes() -> None:
    one = np.zeros((1, 20, 20))
    one[0, 5:15, 5:15], one[0, 8:12, 8:12] = 0.4, 1
    assert best_share([(one, [np.array([[5, 5, 15, 15.0]])])]) < 0.4
    assert best_share([(one, [np.array([[8, 8, 12, 12.0]])])]) >= 0.4


def test_what_a_backbone_has_no_features_for_is_refused_before_the_first_method(plan: Plan) -> None:
    state = torch.random.get_rng_state()
    with pytest.raises(UserError, match=r"mining:bilinear@0\.5 aggregates two resolutions, which cnn6 does not have"):
        wanted(plan, ["mining", "mining:bilinear@0.5"])
    assert torch.equal(torch.random.get_rng_state(), state)
    files = [replace(file, backbone="darknet53", width=0.125) for file in plan.files]
    assert wanted(replace(plan, files=files), ["mining:bilinear@0.5"])[-2] == "mining:bilinear@0.5"


def test_largest_box_stands_for_a_case(plan: Plan) -> None:
    for cases in plan.cases(plan.training, "training"):
        for box, own in zip(largest(cases) * 64, cases.boxes, strict=True):
            assert any(np.allclose(box, other) for other in own)
            assert np.prod(box[2:] - box[:2]) == pytest.approx(np.prod(own[:, 2:] - own[:, :2], 1).max())


def test_peak_of_memory() -> None:
    def call() -> None:
        one = torch.zeros(1_000_000)
        other = one + 1
        del one, other
        torch.zeros(500_000)

    assert peak_bytes(call) == pytest.approx(8_000_000, rel=0.01)


def test_loose_and_tight() -> None:
    one = np.zeros((40, 40))
    one[5:35, 5:35], one[20:25, 20:25] = 0.2, 1
    loose, tight = tight_and_loose(one)
    assert loose is not None
    assert tight is not None
    assert (loose.tolist(), tight.tolist()) == ([5, 5, 35, 35], [20, 20, 25, 25])
    assert tight_and_loose(np.ones((4, 4))) == (None, None)
    assert tight_and_loose((one > 0.5).astype(float))[1] is None
    ranks, yes, no = np.array([0, 1, 2, 3]), np.array([True] * 4), np.array([False] * 4)
    assert five_guesses(ranks, yes, no).tolist() == [True, True, True, False]
    assert five_guesses(ranks, no, yes).tolist() == [True, True, False, False]


def test_what_mining_is_compared_with() -> None:
    assert [begins_as(own) for own in ("mining:epochs=3", "mining:steps=2@0.5", "saliency@0.2")] == [
        "cam",
        "cam@0.5",
        "saliency@0.2",
    ]
    assert is_control("mining:erase=off:epochs=3", "mining:epochs=3")
    assert not is_control("mining:erase=off", "mining:epochs=3")
    assert not is_control("mining:erase=off", "mining:erase=off")
