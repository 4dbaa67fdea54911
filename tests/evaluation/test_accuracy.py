import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import DIGITS, TAUGHT, Script, Writer, recipe_of, write_yaml
from PIL import Image
from torchvision import tv_tensors

import val
from data.description import load_description
from data.formats import read_split
from data.loader import read_image
from data.seen import numbers_of
from data.transforms import eval_transform
from evaluation.accuracy import line_names, own_data, read_backbones
from evaluation.accuracy_report import as_json, cell, markdown, save_curve, shown_command, terminal_table
from evaluation.accuracy_study import Row, Study, classify, run_study
from evaluation.classification import METRICS, classification_metrics
from models.backbones import make_backbone
from models.heads import make_head
from utils import checkpoint
from utils.checkpoint import TRAINED_ON
from utils.config import ROOT
from utils.errors import UserError

NO_BOX = tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=(256, 256))  # type: ignore[call-overload]


def test_every_classifier_of_every_file(
    written: Writer, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [written(method, seed=seed) for seed in (0, 1) for method in ("cl6", "e2e")]
    flags = ["--project", tmp_path / "runs", "--json", tmp_path / "a" / "f.json", "--report", tmp_path / "b" / "r.md"]
    script(val, "--accuracy", "--weights", *files, "--bootstrap", 50, "--device", "cpu", "--task", "train", *flags)
    folder = tmp_path / "runs" / "val" / "exp"
    text = (folder / "accuracy.json").read_text()
    assert (tmp_path / "a" / "f.json").read_text() == text
    assert str(tmp_path) not in text
    figures = json.loads(text)
    assert (figures["split"], figures["images"], figures["classes"]) == ("train", 8, 10)
    assert [(row["method"], row["seed"], row["cut"]) for row in figures["rows"]] == [
        (method, seed, f"b{block}") for seed in (0, 1) for method in ("cl6", "e2e") for block in range(1, 7)
    ]
    for row in figures["rows"]:
        assert set(row["metrics"]) == set(METRICS) == set(row["intervals"])
        assert all(0 <= low <= high <= 1 for low, high in row["intervals"].values())
    assert {entry["seeds"] for entry in figures["summary"]} == {2}
    check_report(tmp_path / "b" / "r.md", figures)
    shown = capsys.readouterr().out
    assert "macro AUC" in shown
    assert "mean" in shown


def check_report(report: Path, figures: dict[str, Any]) -> None:
    """The Markdown says how it was made, holds the means of the JSON, and has its picture beside it."""
    text = report.read_text()
    assert text.startswith("Made by `python val.py --accuracy --weights ")
    assert "(r.png)" in text
    assert str(report.parent) not in text
    with Image.open(report.with_suffix(".png")) as picture:
        assert min(picture.size) >= 500
    first = figures["summary"][0]["auc"]
    assert f"| b1 | {first['mean']:.3f} ± {first['sd']:.3f} |" in text
    assert "| macro AUC | cl6 | e2e |" in text
    assert "seeds: `cl6` 2, `e2e` 2; mean" in text


@pytest.mark.parametrize(("backbone", "k", "imgsz"), [("cnn6", 6, 64), ("darknet53", 3, 96)])
@pytest.mark.parametrize("view", ["letterbox", "center"])
def test_scores_are_those_of_prefix_and_head(
    written: Writer, scenes_yaml: Path, backbone: str, k: int, imgsz: int, view: str
) -> None:
    shown = {"source": "pictures", "imgsz": imgsz, "fit": view, "context": 0.0}
    path = written("cl", backbone=backbone, k=k, imgsz=imgsz, view=shown)
    split = read_split(load_description(scenes_yaml), "val")
    (file,) = read_backbones([path])
    scores, targets, _ = classify(file, split, "cpu", batch_size=3)
    content = checkpoint.load(path, "backbone")
    network = make_backbone(backbone, 0.125)
    network.load_state_dict(content["model"])
    network.eval()
    for record, truth, found in zip(split.records, targets, scores.transpose(1, 0, 2), strict=True):
        image = eval_transform(imgsz, view)(tv_tensors.Image(read_image(record)), NO_BOX)[0][None].float() / 255
        for (_, stop), shape, state, own in zip(
            content["splits"], content["shapes"], content["heads"], found, strict=True
        ):
            head = make_head("author", tuple(shape), 10).eval()
            head.load_state_dict(state)
            with torch.no_grad():
                alone = head(torch.nn.Sequential(*network.blocks[:stop])(image))[0].numpy()
            np.testing.assert_allclose(own, alone, atol=1e-4)
        assert set(np.flatnonzero(truth)) == set(record.labels)


def test_seeds_whose_backbones_learnt_from_a_project_that_was_moved(written: Writer) -> None:
    """Or from another place on another machine: the name of the data yaml counts."""
    recipes = [recipe_of(data="d.yaml", seed=seed, imgsz=64, cl_splits=6,
                         pretrain={"head": "author", "data": f"/{place}/other.yaml"})
               for seed, place in enumerate(("here", "there"))]  # fmt: skip
    files = [written("cl6", seed=seed, recipe=recipe) for seed, recipe in enumerate(recipes)]
    assert [file.data.name for file in read_backbones(files)] == ["other.yaml"] * 2
    elsewhere = recipes[1] | {"pretrain": recipes[1]["pretrain"] | {"data": "/there/third.yaml"}}
    with pytest.raises(UserError, match=r"cl6 of third\.yaml, but of other\.yaml"):
        read_backbones([files[0], written("cl6", seed=1, recipe=elsewhere)])


def test_newest_run_without_weights(written: Writer, script: Script, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "train" / "exp"
    (run / "weights").mkdir(parents=True)
    for name in ("recipe.yaml", "metrics.json"):
        (run / name).write_text("{}")
    flags = ("--accuracy", "--project", tmp_path / "runs", "--device", "cpu", "--bootstrap", 0, "--task", "val")
    with pytest.raises(UserError, match=r"holds no backbone_\*\.pt"):
        script(val, *flags)
    written("e2e").rename(run / "weights" / "backbone_e2e.pt")
    script(val, *flags)
    figures = json.loads((tmp_path / "runs" / "val" / "exp" / "accuracy.json").read_text())
    assert (figures["split"], figures["draws"], len(figures["rows"])) == ("val", 0, 6)
    assert figures["rows"][0]["intervals"] == {}


def other(**values: Any) -> dict[str, Any]:
    """The recipe of another seed that differs in more than that."""
    own: dict[str, Any] = {"data": "scenes.yaml", "seed": 1, "cl_splits": 6}
    return {"recipe": recipe_of(**own | values)}


@pytest.mark.parametrize(
    ("method", "seed", "changes", "what"),
    [
        ("e2e", 0, {"names": ["a", "b"]}, "are not those of"),
        ("e2e", 0, {"single_label": True}, "single_label is True, but False"),
        ("e2e", 0, {"view": None}, "has no `view`: an older version wrote it"),
        ("cl6", 0, {}, "cl6 with seed 0, as"),
        ("e2e", 0, {"levels": [0, 4095]}, "levels are [0, 4095], but none in"),
        ("cl6", 1, other(pretrain={"lr": 0.2}), "cl6 with pretrain.lr 0.2, but 0.001 in"),
        ("cl6", 1, other(train={"epochs": 7}), "cl6 with pretrain.epochs 7, but 100 in"),
        ("cl6", 1, other(augment={"fliplr": 0}), "cl6 with augment.fliplr 0.0, but 0.5 in"),
        ("cl6", 1, other(balance="flops"), "cl6 with balance flops, but stage in"),
        ("cl6", 1, other(cache_views=3), "cl6 with cache_views 3, but 0 in"),
        ("cl6", 1, {"data": Path("elsewhere/other.yaml")}, "cl6 of other.yaml, but of scenes.yaml in"),
    ],
)
def test_what_cannot_be_compared(written: Writer, method: str, seed: int, changes: dict[str, Any], what: str) -> None:
    with pytest.raises(UserError, match=re.escape(what)):
        read_backbones([written("cl6"), written(method, seed=seed, **changes)])


def test_what_the_detector_alone_looks_at_makes_no_other_seed(written: Writer) -> None:
    same = other(train={"lr": 0.5}, augment={"mosaic": 0.5}, pretrain={"epochs": 100})
    assert [file.seed for file in read_backbones([written("cl6"), written("cl6", seed=1, **same)])] == [0, 1]
    assert len(read_backbones([written("e2e"), written("e2e", seed=1, **other(cache_views=3))])) == 2


def test_trained_on_other_data(written: Writer, scenes: Path, tmp_path: Path) -> None:
    other = write_yaml(tmp_path / "other.yaml", path=str(scenes))
    with pytest.raises(UserError, match="say with --data"):
        own_data(read_backbones([written("cl6"), written("e2e", data=other)]))


def test_wrong_files_and_data(written: Writer, script: Script, scenes: Path, tmp_path: Path) -> None:
    path, project = written("e2e"), ("--project", tmp_path / "runs")
    data = write_yaml(tmp_path / "cat.yaml", path=str(scenes), names=[*DIGITS, "cat"])
    detector = tmp_path / "best.pt"
    checkpoint.save(detector, {"kind": "detector"})
    broken = checkpoint.load(path, "backbone")
    broken["heads"][2] = {key: value * float("nan") for key, value in broken["heads"][2].items()}
    checkpoint.save(tmp_path / "nan.pt", broken)
    for flags, what in [
        (["--accuracy", "--weights", path, "--data", data], "are not those of"),
        (["--accuracy", "--weights", detector], "holds `detector`, not `backbone`"),
        (["--accuracy", "--weights", tmp_path / "nan.pt"], "not finite"),
        (["--accuracy", "--weights", path, "--bootstrap", "-1"], "--bootstrap: `-1` — give 0 or more"),
        (["--accuracy", "--weights", written("cl6", single_label=True)], "single_label is True, but False in"),
        (["--map", "--weights", path], "holds `backbone`, not `detector`"),
        (["--weights", path, path], "give a detector checkpoint"),
    ]:
        with pytest.raises(UserError, match=re.escape(what)):
            script(val, *flags, *project)


def test_names_of_lines_have_what_differs(written: Writer, script: Script, tmp_path: Path) -> None:
    files = [written("cl3", backbone="darknet53", k=3), written("cl3", backbone="darknet53", k=3, head="gap")]
    given = ("--accuracy", "--weights", *files, "--bootstrap", 20, "--project", tmp_path / "runs")
    script(val, *given, "--task", "train")
    text = (tmp_path / "runs" / "val" / "exp" / "accuracy.md").read_text()
    assert "| macro AUC | cl3, author head | cl3, gap head |" in text
    assert re.findall(r"^\| (b\d+) \| \d", text, re.MULTILINE)[:3] == ["b11", "b19", "b23"]
    assert "[" in text.split("| b11 |")[1].splitlines()[0]
    script(val, *given, "--task", "test")
    text = (tmp_path / "runs" / "val" / "exp2" / "accuracy.md").read_text()
    assert "4 images" in text
    assert "no intervals: they need 5 images, or patients, at least" in text
    assert "[" not in text.split("| b11 |")[1].splitlines()[0]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ([("a", "width 1"), ("a", "width 1")], ["m", "m"]),
        ([("a", "width 1"), ("b", "width 2")], ["m, a", "m, b"]),  # the width follows from the backbone
        ([("a", "width 1"), ("a", "width 2"), ("b", "width 2")], ["m, a, width 1", "m, a, width 2", "m, b, width 2"]),
    ],
)
def test_names_of_lines_are_short(settings: list[tuple[str, ...]], names: list[str]) -> None:
    assert line_names([SimpleNamespace(method="m", settings=own) for own in settings]) == names


def study_of(values: dict[str, dict[int, list[float]]], *, single_label: bool = True) -> Study:
    """A study with one measure: line → block → value for each seed."""
    rows = [
        Row(
            Path("f"),
            line,
            seed,
            1,
            block,
            (4, 8, 8),
            {"accuracy": value},
            {"accuracy": (value - 0.03, value + 0.02)},
            TAUGHT,
        )
        for line, blocks in values.items()
        for block, seeds in blocks.items()
        for seed, value in enumerate(seeds)
    ]
    return Study(rows, "set.yaml", "test", 1000, 10, single_label, 500)


def test_images_that_a_network_has_learnt_from_are_counted(written: Writer, scenes_yaml: Path) -> None:
    split = read_split(load_description(scenes_yaml), "test")
    content = torch.load(path := written("e2e", k=1), weights_only=True)
    for known in (0, 2):
        torch.save({**content, TRAINED_ON: numbers_of(split.records[:known])}, path)
        study = run_study(read_backbones([path]), split, device="cpu", batch_size=16, draws=0)
        said = f"{known} of {len(split.records)} images were used to train a network: figures are too good"
        assert (said in markdown(study, "", "")) == (said in terminal_table(study)) == bool(known)


def test_cells_and_gaps() -> None:
    study = study_of({"cl2": {3: [0.5, 0.6], 6: [0.7, 0.7]}, "cl1": {6: [0.65]}})
    text = markdown(study, "command", "p.png")
    assert "| b3 | 0.550 ± 0.071 | – |" in text
    assert "| b6 | 0.700 ± 0.000 | 0.650 [0.620, 0.670] |" in text
    assert "seeds: `cl2` 2, `cl1` 1" in text
    assert cell(study.rows, "auc") == "–"
    assert as_json(study, "c")["summary"][2] == {
        "method": "cl1",
        "cut": "b6",
        "seeds": 1,
        "accuracy": {"mean": 0.65, "sd": None},
    }
    assert [line.split()[:3] for line in terminal_table(study).splitlines()[3:6]] == [
        ["cl2", "0", "b3"],
        ["cl2", "1", "b3"],
        ["cl2", "mean", "b3"],
    ]


def test_curve_of_lines_with_other_cuts(tmp_path: Path) -> None:
    study = study_of({"cl3": {11: [0.4, 0.5], 19: [0.6, 0.62], 23: [0.7, 0.71]}, "e2e": {23: [0.68]}})
    save_curve(study, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert min(picture.size) >= 500
        colours = picture.convert("RGB").getcolors(2**24)
    assert {(31, 119, 180), (255, 127, 14)} <= {colour for _, colour in colours}


def test_command_without_this_machines_paths() -> None:
    shown = shown_command(["--weights", f"{ROOT}/runs/a b.pt", "runs/c.pt", "--data=/far/away/d.yaml", "--json", "f"])
    assert shown == "python val.py --weights 'runs/a b.pt' runs/c.pt --data=d.yaml --json f"


def test_metrics_take_what_classify_gives(written: Writer, scenes_yaml: Path) -> None:
    (file,) = read_backbones([written("e2e")])
    scores, targets, _ = classify(file, read_split(load_description(scenes_yaml), "test"), "cpu", 4)
    assert set(classification_metrics(scores[0], targets, file.single_label)) == set(METRICS)
