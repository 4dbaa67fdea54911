import json
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from studies import across, ledger
from studies.claims import TOO_NARROW
from studies.ledger import Evidence, LedgerYaml, find, ledger_page, ordered
from studies.verdicts import difference_table, verdict_table
from utils.errors import UserError
from utils.files import make_folder, write_text
from utils.recipes import build, read_yaml

STUDY = {
    "title": "t",
    "recipe": "recipe.yaml",
    "seeds": [0, 1, 2],
    "methods": {"cl3": {}, "e2e": {}, "cl7": {}},
    "table": {"measures": ["map"]},
}
CLAIM = {"figure": "7", "claim": "c", "rule": "r", "found": "cl 3 2 1", "verdict": "direction only"}
MAPS = {
    "data": "d.yaml",
    "split": "test",
    "images": 40,
    "cases": 40,
    "lines": [{"line": "cl6", "seeds": [0, 1]}, {"line": "untrained", "seeds": [0, 1, 2]}],
    "claims": [CLAIM],
    "untaught": None,
    "seeds_by": "Student's t",
}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Results and study yamls of one table and one report on maps."""
    results, studies = tmp_path / "results", tmp_path / "studies"
    (results / "maps" / "lungs").mkdir(parents=True)
    (results / "maps" / "lungs" / "localise.json").write_text(json.dumps(MAPS))
    (results / "table").mkdir()
    rows = [("cl3", 0, "0.5"), ("cl3", 1, "0.52"), ("cl3", 2, "0.54"), ("e2e", 0, "0.4"), ("e2e", 1, "0.43"),
            ("e2e", 2, "0.45"), ("cl7", 0, "0.45"), ("cl7", 1, "")]  # fmt: skip
    head = "method,seed,state,map,figure,pretrained,learnt\n"
    text = head + "".join(f"{method},{seed},done,{value},auc,0.9,yes\n" for method, seed, value in rows)
    (results / "table" / "runs.csv").write_text(text)
    studies.mkdir()
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY))
    (studies / "maps.yaml").write_text(yaml.safe_dump(STUDY | {"seeds": [0, 1]}))
    (studies / "recipe.yaml").write_text("data: ../data/cells.yaml\n")
    return results, studies


def test_what_studies_say(folders: tuple[Path, Path]) -> None:
    def verdict(**given: object) -> tuple[str, str]:
        found = find(Evidence.model_validate(given), *folders)
        return found.verdict, found.ours

    assert verdict(study="maps", report="lungs", figure="7") == ("direction only", "cl 3 2 1")
    maps = Evidence(study="maps", report="lungs", figure="7")
    assert find(maps, *folders).data == "d.yaml `test`, 40 images, 2 seeds", "not those of untrained networks"
    (folders[1] / "maps.yaml").write_text(yaml.safe_dump(STUDY))
    assert verdict(study="maps", report="lungs", figure="7") == ("not finished (2 of 3 seeds)", "cl 3 2 1")
    assert verdict(study="nowhere", report="lungs", figure="7")[0] == "not run"
    above = verdict(study="table", measure="map", methods=["cl3", "e2e"])
    assert above == ("reproduced", "cl3 0.520 ± 0.020, e2e 0.427 ± 0.025; difference +0.093 [+0.079, +0.108]")
    assert verdict(study="table", measure="map", methods=["e2e", "cl3"])[0] == "not seen"
    half = verdict(study="table", measure="map", methods=["cl3", "cl7"])
    assert half == ("not finished (1 of 3 seeds)", "cl3 0.500, cl7 0.450; difference +0.050")
    assert verdict(study="table", measure="map", methods=["cl3"]) == ("–", "cl3 0.520 ± 0.020")
    for wrong in ({"measure": "map50", "methods": ["cl3"]}, {"measure": "map", "methods": ["cl5"]}):
        with pytest.raises(UserError, match="has no"):
            verdict(study="table", **wrong)
    with pytest.raises(UserError, match="judges no figure 5"):
        verdict(study="maps", report="lungs", figure="5")


def test_the_data_of_a_study_are_those_of_its_methods(folders: tuple[Path, Path]) -> None:
    _, studies = folders
    evidence = Evidence.model_validate({"study": "table", "measure": "map", "methods": ["cl3", "e2e"]})
    assert find(evidence, *folders).data == "cells.yaml `test`, 3 seeds"
    methods = {"cl3": {"data": "../data/bccd.yaml"}, "e2e": {}, "cl7": {}}
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY | {"methods": methods}))
    assert find(evidence, *folders).data == "bccd.yaml, cells.yaml `test`, 3 seeds"
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY | {"changes": {"data": "../data/bccd.yaml"}}))
    assert find(evidence, *folders).data == "bccd.yaml `test`, 3 seeds"


def test_damaged_or_older_results(folders: tuple[Path, Path]) -> None:
    results, studies = folders
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY | {"table": {"measures": ["map", "map75"]}}))
    added = Evidence.model_validate({"study": "table", "measure": "map75", "methods": ["cl3", "e2e"]})
    assert find(added, results, studies).verdict == "not run"  # published before the measure was asked for
    path = results / "maps" / "lungs" / "localise.json"
    for damaged in ("{", "[1, 2]"):
        path.write_text(damaged)
        with pytest.raises(UserError, match=r"localise\.json: .*JSON"):
            find(Evidence(study="maps", report="lungs", figure="7"), results, studies)
        with pytest.raises(UserError, match=r"localise\.json: .*JSON"):
            verdict_table([path.parent])


def test_claims_that_one_report_judges_and_another_does_not(folders: tuple[Path, Path]) -> None:
    one = folders[0] / "maps" / "lungs"
    other = make_folder(folders[0] / "maps" / "hearts")
    write_text(other / "localise.json", json.dumps(MAPS | {"claims": [CLAIM | {"figure": "9"}]}))
    for reports in ([one, other], [other, one]):
        rows = [line.split(" | ") for line in verdict_table(reports).splitlines()[2:]]
        assert sorted(row[0] for row in rows) == ["| 7", "| 9"]
        assert all(sum(cell.strip(" |") == "–" for cell in row) == 1 for row in rows)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([[3, 3.1, 3.2], [2, 2.1, 2.2], [1, 1.1, 1.2]], "reproduced"),
        ([[3, 3.1, 3.2], [1, 1.1, 1.2], [2, 2.1, 2.2]], "direction only"),
        ([[3, 1.0, 3.2], [2, 2.1, 2.2]], "undecided"),
        ([[2, 2.1, 2.2], [3, 3.1, 3.2]], "not seen"),
    ],
)
def test_orders(values: list[list[float]], verdict: str) -> None:
    assert ordered(values)[0] == verdict


def test_no_verdict_before_every_seed_is_done(folders: tuple[Path, Path]) -> None:
    """Means are over the seeds that the difference is over, the ones that both have."""
    results, studies = folders
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY | {"seeds": [0, 1, 2, 3]}))
    runs = results / "table" / "runs.csv"
    runs.write_text(
        runs.read_text() + "cl3,3,done,0.9,auc,0.9,yes\ncl3,7,done,0.9,auc,0.9,yes\ne2e,7,done,0.1,auc,0.9,yes\n"
    )
    found = find(Evidence.model_validate({"study": "table", "measure": "map", "methods": ["cl3", "e2e"]}), *folders)
    assert found.verdict == "not finished (3 of 4 seeds)"
    assert found.ours == "cl3 0.520 ± 0.020, e2e 0.427 ± 0.025; difference +0.093 [+0.079, +0.108]"
    assert found.data == "cells.yaml `test`, 3 of 4 seeds"
    kept = [line for line in runs.read_text().splitlines() if not line.startswith("e2e") or line.startswith("e2e,7")]
    runs.write_text("\n".join(kept))
    found = find(Evidence.model_validate({"study": "table", "measure": "map", "methods": ["cl3", "e2e"]}), *folders)
    assert (found.verdict, found.ours) == ("not finished (0 of 4 seeds)", "cl3 –, e2e –; difference –")


def test_the_ledger_of_this_repository(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every study that it names exists, with these methods and measures; links lead somewhere."""
    path = ROOT / "configs" / "ledger.yaml"
    content = build(LedgerYaml, read_yaml(path), path)
    named = {own.study for entry in content.claims for own in entry.evidence}
    assert named <= {file.stem for file in (ROOT / "configs" / "studies").glob("*.yaml")}
    monkeypatch.setattr(sys, "argv", ["ledger", str(path)])
    ledger.main()
    text = capsys.readouterr().out
    assert text.count("\n| ") >= len(content.claims)
    assert "In all: " in text


def test_no_verdict_without_learning(folders: tuple[Path, Path]) -> None:
    results, studies = folders
    runs = results / "table" / "runs.csv"
    evidence = Evidence.model_validate({"study": "table", "measure": "map", "methods": ["cl3", "e2e"]})
    assert find(evidence, results, studies).verdict == "reproduced"
    runs.write_text(runs.read_text().replace("e2e,1,done,0.43,auc,0.9,yes", "e2e,1,done,0.43,auc,0.53,no"))
    assert find(evidence, results, studies).verdict == "not tested: the classifiers learnt nothing (AUC 0.53)"
    runs.write_text("method,seed,state,map\ncl3,0,done,0.5\ne2e,0,done,0.4\n")
    assert find(evidence, results, studies).verdict.startswith("not tested: its classifiers were never compared")
    maps = results / "maps" / "lungs" / "localise.json"
    maps.write_text(json.dumps({key: value for key, value in MAPS.items() if key != "untaught"}))
    evidence = Evidence.model_validate({"study": "maps", "report": "lungs", "figure": "7"})
    assert find(evidence, results, studies).verdict.startswith("not tested: its classifiers were never compared")


def test_claims_that_nobody_judges(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UserError, match="give `evidence`, or `verdict` and `why`"):
        build(LedgerYaml, {"title": "t", "claims": [{"where": "w", "says": "s"}]}, "ledger.yaml")
    with pytest.raises(UserError, match="give `report` and `figure`"):
        build(Evidence, {"study": "maps"}, "ledger.yaml")
    entry = {"where": "§2", "says": "s", "verdict": "contradictory in the paper", "why": "two numbers"}
    text = ledger_page(LedgerYaml.model_validate({"title": "t", "claims": [entry]}), "x", *folders)
    assert "| §2 | s | – | – | **contradictory in the paper**: two numbers | – |" in text


def test_intervals_of_resampled_seeds_give_no_verdict(folders: tuple[Path, Path]) -> None:
    """Reports of before cover 72 % with three seeds; one seed decides nothing."""
    path = folders[0] / "maps" / "lungs" / "localise.json"
    before = {key: value for key, value in MAPS.items() if key != "seeds_by"}
    evidence = Evidence(study="maps", report="lungs", figure="7")
    for seeds, verdict in (([0, 1], f"not tested: {TOO_NARROW}"), ([0], "undecided")):
        path.write_text(json.dumps(before | {"lines": [{"line": "cl6", "seeds": seeds}]}))
        (folders[1] / "maps.yaml").write_text(yaml.safe_dump(STUDY | {"seeds": seeds}))
        assert find(evidence, *folders).verdict == verdict
        assert f"**{verdict}**" in (table := verdict_table([path.parent]))
        assert f"[{path.parent.name}: " in table


def test_how_far_networks_are_apart(folders: tuple[Path, Path]) -> None:
    """A report may lack a pair, or have no judged cut, or no interval; one that does not count has no pairs at all."""
    apart = {"iou": {"mean": 0.04, "low": -0.01, "high": 0.09}, "coverage": {"mean": None, "low": None, "high": None}}
    apart["mass"] = {"mean": 0.04, "low": None, "high": None}
    pair = {"map": "gradcam", "first": "cl6", "second": "e2e", "overall": apart}
    both, single, poor = (folders[0] / "maps" / name for name in ("lungs", "pathology", "poor"))
    for folder, own in ((both, [pair, pair | {"map": "lime"}]), (single, [pair]), (poor, [])):
        folder.mkdir(exist_ok=True)
        untaught = None if own else "the classifiers learnt nothing (AUC 0.51)"
        (folder / "localise.json").write_text(json.dumps(MAPS | {"pairs": own, "untaught": untaught}))
    why = "not tested: the classifiers learnt nothing (AUC 0.51)"
    heads, _, gradcam, lime = difference_table([both, single, poor], "iou").splitlines()
    assert heads.startswith("| map | [lungs: d, 40 cases](/")
    assert gradcam == f"| Grad-CAM, cl6 minus e2e | +0.040 [-0.010, +0.090] | +0.040 [-0.010, +0.090] | {why} |"
    assert lime == f"| LIME, cl6 minus e2e | +0.040 [-0.010, +0.090] | – | {why} |"
    assert difference_table([single], "mass").splitlines()[2] == "| Grad-CAM, cl6 minus e2e | +0.040 |"
    assert difference_table([poor], "iou").splitlines()[2] == f"| all | {why} |"


def test_differences_across_studies(folders: tuple[Path, Path]) -> None:
    """Of the seeds that both have; bold where all are done and zero is outside; none of what learnt nothing."""
    results, studies = folders
    pairs = {"a": ("cl3", "e2e"), "b": ("e2e", "cl7"), "c": ("e2e", "cl3")}
    content = across.AcrossYaml.model_validate({"measure": "map", "studies": {"table": "Cells"}, "pairs": pairs})
    rows = [line.split(" | ") for line in across.table(content, *folders).splitlines()]
    assert rows[0] == ["| difference in map", "Cells |"]
    assert [cell for _, cell in rows[2:]] == ["**+0.093 [+0.079, +0.108]** |", "– |", "**-0.093 [-0.108, -0.079]** |"]
    (studies / "table.yaml").write_text(yaml.safe_dump(STUDY | {"seeds": [0, 1, 2, 3]}))
    assert "| a | +0.093 [+0.079, +0.108], 3 of 4 seeds |" in across.table(content, *folders)
    runs = results / "table" / "runs.csv"
    runs.write_text(runs.read_text().replace("e2e,1,done,0.43,auc,0.9,yes", "e2e,1,done,0.43,auc,0.53,no"))
    assert "| a | not tested: the classifiers learnt nothing (AUC 0.53) |" in across.table(content, *folders)
    with pytest.raises(UserError, match="no study has cl5"):
        across.table(content.model_copy(update={"pairs": {"a": ("cl5", "e2e")}}), *folders)
    with pytest.raises(UserError, match="publishes no map50"):
        across.table(content.model_copy(update={"measure": "map50"}), *folders)
