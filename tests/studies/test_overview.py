import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from evaluation.learnt import NOT_TESTED
from studies.overview import OverviewYaml, Panel, Source, overview, points, why_none
from utils.errors import UserError
from utils.recipes import build, read_yaml

MEASURES = {"iou": {"mean": [0.1, 0.2], "seeds_sd": [0.01, 0.02]}}
SUMMARY = [
    {"method": m, "cut": "b1", "seeds": 1, "accuracy": {"mean": v, "sd": 0.1}} for m, v in (("cl2", 0.4), ("e2e", 0.3))
]


def test_every_kind_of_source(tmp_path: Path) -> None:
    (tmp_path / "maps" / "lungs").mkdir(parents=True)
    lines = [
        {"line": line, "map": "gradcam", "seeds": [0, 1], "cuts": [1, 2], "measures": MEASURES}
        for line in ("cl2", "e2e")
    ]
    (tmp_path / "maps" / "lungs" / "localise.json").write_text(json.dumps({"lines": lines, "untaught": None}))
    (tmp_path / "maps" / "accuracy.json").write_text(json.dumps({"summary": SUMMARY}))
    (tmp_path / "maps" / "runs.csv").write_text(
        "method,seed,state\n" + "".join(f"both,{seed},done\n" for seed in range(3))
    )
    (tmp_path / "table").mkdir()
    (tmp_path / "table" / "runs.csv").write_text(
        "method,seed,state,map,figure,pretrained,learnt\n"
        "cl2,0,done,0.5,auc,0.9,yes\ncl2,1,done,0.7,auc,0.9,yes\ncl2,2,done,0.9,auc,0.9,yes\n"
        "e2e,0,done,0.4,auc,0.9,yes\ne2e,1,done,0.4,auc,0.9,yes\ne2e,2,not run,,,,\n"
    )
    sides, about = ["cl2", "e2e"], {"study": "maps", "label": "x"}
    sources: list[dict[str, object]] = [
        about | {"report": "lungs", "map": "gradcam", "measure": "iou", "sides": sides},
        about | {"report": "accuracy", "measure": "accuracy", "sides": sides},
        about | {"study": "table", "measure": "map", "sides": sides},
        about | {"study": "nowhere", "measure": "map", "sides": sides},
    ]
    overview(OverviewYaml.model_validate({"panels": [{"title": "t", "sources": sources}]}), tmp_path)
    rows = list(csv.DictReader((tmp_path / "overview.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == [
        "x, 2 of 3 seeds", "x, 2 of 3 seeds", "x, 1 of 3 seeds", "x, 2 of 3 seeds",
    ]  # fmt: skip
    assert [(row["cut"], row["up"], row["up_sd"], row["right"]) for row in rows] == [
        ("b1", "0.1", "0.01", "0.1"),
        ("b2", "0.2", "0.02", "0.2"),
        ("b1", "0.4", "0.1", "0.3"),
        ("", "0.6", "0.141421", "0.4"),
    ]
    assert np.asarray(Image.open(tmp_path / "overview.png")).std() > 0
    without = Source.model_validate(sources[1] | {"sides": ["cl3", "cl4"]})
    assert not points(Panel(title="t", sources=(without,)), without, tmp_path)
    maps = Source.model_validate(sources[0])
    for lows, said in (([-0.2, -0.1], "x, 2 of 3 seeds: cannot tell"), ([-0.2, 0.1], "x, 2 of 3 seeds")):
        beside = {"line": "cl2", "map": "gradcam", "measure": "iou", "against": "mean box", "cuts": [1, 2]}
        content = {"lines": lines, "untaught": None, "levels": [beside | {"low": lows, "high": [0.2, None]}]}
        (tmp_path / "maps" / "lungs" / "localise.json").write_text(json.dumps(content))
        assert {own.label for own in points(Panel(title="t", sources=(maps,)), maps, tmp_path)} == {said}
    wrong = sources[0] | {"sides": ["cl3", "e2e"]}
    with pytest.raises(UserError, match="has no iou for cl3 and e2e"):
        overview(OverviewYaml.model_validate({"panels": [{"title": "t", "sources": [wrong]}]}), tmp_path)


def test_a_cut_without_a_value_is_no_point(tmp_path: Path) -> None:
    path = tmp_path / "a" / "maps" / "localise.json"
    path.parent.mkdir(parents=True)
    measures = {"iou": {"mean": [0.1, None, 0.3], "seeds_sd": [0.01, None, None]}}
    lines = [
        {"line": line, "map": "gradcam", "seeds": [0, 1], "cuts": [1, 2, 3], "measures": measures}
        for line in ("cl2", "e2e")
    ]
    path.write_text(json.dumps({"lines": lines, "untaught": None}))
    source = {"study": "a", "report": "maps", "map": "gradcam", "measure": "iou", "sides": ["cl2", "e2e"], "label": "x"}
    content = OverviewYaml.model_validate({"panels": [{"title": "t", "sources": [source]}]})
    overview(content, tmp_path)
    rows = list(csv.DictReader((tmp_path / "overview.csv").read_text().splitlines()))
    assert [(row["cut"], row["up"], row["up_sd"]) for row in rows] == [("b1", "0.1", "0.01"), ("b3", "0.3", "0")]
    path.write_text('{"lines": ')
    with pytest.raises(UserError, match=r"localise\.json: cannot be read: it is not valid JSON"):
        overview(content, tmp_path)


def test_a_study_that_is_half_done_is_not_called_unrun(tmp_path: Path) -> None:
    source = Source.model_validate({"study": "a", "measure": "map", "sides": ["cl2", "e2e"], "label": "x"})
    assert why_none(source, tmp_path) == "not run"
    (tmp_path / "a").mkdir()
    for state, said in (("not run", "not run"), ("done", "not finished")):
        (tmp_path / "a" / "runs.csv").write_text(
            f"method,seed,state,map,figure,learnt\ncl2,0,{state},,,\ne2e,0,not run,,,\n"
        )
        assert why_none(source, tmp_path) == said
    report = source.model_copy(update={"report": "maps", "map": "gradcam"})
    assert why_none(report, tmp_path) == "not finished"


def test_no_point_below_the_auc_that_a_study_asks_for(tmp_path: Path) -> None:
    """transfer_signs asks for 0.9; the same rows are a point of a study that asks for nothing."""
    header = "method,seed,state,map,figure,pretrained,learnt,pretrained_auc\n"
    for study in ("transfer_signs", "elsewhere"):
        (tmp_path / study).mkdir()
        rows = [
            f"cl3,{seed},done,0.5,auc,0.95,yes,0.95\ne2e_cl3,{seed},done,0.4,auc,0.88,yes,0.88\n" for seed in (0, 1)
        ]
        (tmp_path / study / "runs.csv").write_text(header + "".join(rows))
    about = {"measure": "map", "sides": ["cl3", "e2e_cl3"], "label": "x"}
    asking, other = (Source.model_validate(about | {"study": own}) for own in ("transfer_signs", "elsewhere"))
    panel = Panel(title="t", sources=(asking, other))
    assert points(panel, asking, tmp_path) == []
    assert len(points(panel, other, tmp_path)) == 1
    assert why_none(asking, tmp_path) == NOT_TESTED
    published = (tmp_path / "elsewhere" / "runs.csv").read_text()
    (tmp_path / "elsewhere" / "runs.csv").write_text(published.replace("0.95,yes", "0.55,no"))
    assert points(panel, other, tmp_path) == [], "learnt nothing"
    (tmp_path / "elsewhere" / "runs.csv").write_text(re.sub(",auc,.*|,figure,.*", "", published))
    assert points(panel, other, tmp_path) == [], "never compared with chance"
    (tmp_path / "elsewhere" / "runs.csv").write_text(header + rows[0])
    assert points(panel, other, tmp_path) == [], "one seed has no deviation"


def test_the_overview_of_this_repository() -> None:
    path = ROOT / "configs" / "overview.yaml"
    content = build(OverviewYaml, read_yaml(path), path)
    named = {source.study for panel in content.panels for source in panel.sources}
    assert named <= {file.stem for file in (ROOT / "configs" / "studies").glob("*.yaml")}
