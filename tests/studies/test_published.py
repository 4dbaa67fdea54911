"""A study continues from what it published: on another machine nothing is run twice."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Script
from test_studies import METHODS, write_study

import study as script_module
from studies.page import publish, study_page
from studies.recipe import Study, read_study, run_rows
from studies.runs import State, lacking, report_command, run_folder, state, values_file
from studies.table import results
from utils.errors import UserError
from utils.files import make_folder, write_text
from utils.recipes import save_recipe
from utils.runs import FINISHED

TABLE = {"measures": ["map"], "pairs": [["cl2", "scratch"]], "gallery": {"methods": ["cl2"]}}
STAGES = [{"cut": 11.0, "accuracy": 0.8, "learnt": 1.0}, {"cut": 23.0, "accuracy": 0.9, "auc": 0.88, "learnt": 1.0}]


def finished(study: Study, learnt: float = 1.0, split: str = "test") -> None:
    """What finished runs would leave, with other values for each."""
    for number, cell in enumerate(study.cells):
        said = json.dumps({"map": number / 10, "split": split})
        write_text(make_folder(values_file(study, cell).parent) / f"{cell.name}.json", said)
        stages = {name: [own | {"learnt": learnt} for own in STAGES] for name in cell.recipe.backbones}
        folder = make_folder(run_folder(study, cell))
        write_text(folder / FINISHED, json.dumps({"judged_by": "accuracy", "pretrain": stages}))


@pytest.fixture
def published(scenes_yaml: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A study's yaml, and the folder in which all of its runs are published."""
    path = write_study(tmp_path, scenes_yaml, table=TABLE)
    study = read_study(path, tmp_path / "one", tmp_path / "results")
    finished(study)
    publish(study)
    return path, tmp_path / "results"


def test_nothing_is_run_twice(
    published: tuple[Path, Path], tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = published
    page = (folder / "ways" / "README.md").read_text()
    assert "| cl2 | top-1 0.900 |" in page
    assert "| scratch | – |" in page
    script(script_module, path, "--project", tmp_path / "two", "--publish", folder)
    assert capsys.readouterr().out.count("done before") == 6
    assert (folder / "ways" / "README.md").read_text() == page
    assert not (tmp_path / "two" / "studies" / "ways" / "train").exists()


def test_another_recipe_is_another_run(published: tuple[Path, Path], scenes_yaml: Path, tmp_path: Path) -> None:
    """What pre-training says is nothing to a run without; a source that changes takes along what builds on it."""
    _, folder = published
    methods = METHODS | {"cl2": {"cl_splits": 2, "pretrain": {"epochs": 3}}}
    study = read_study(write_study(tmp_path, scenes_yaml, methods=methods), tmp_path / "two", folder)
    states = {cell.name: state(study, cell) for cell in study.cells}
    assert {name for name, own in states.items() if own is State.DONE} == {"scratch_seed0", "scratch_seed1"}
    changed = {"imgsz": 96}
    study = read_study(write_study(tmp_path, scenes_yaml, changes=changed), tmp_path / "two", folder)
    assert {state(study, cell) for cell in study.cells} == {State.OPEN}


def test_figures_of_another_split_are_others(published: tuple[Path, Path], scenes_yaml: Path, tmp_path: Path) -> None:
    """As published, and as judged here: the run is judged again."""
    _, folder = published
    study = read_study(write_study(tmp_path, scenes_yaml, table=TABLE | {"split": "val"}), tmp_path / "two", folder)
    assert {state(study, cell) for cell in study.cells} == {State.OPEN}
    finished(study, split="test")
    assert {state(study, cell) for cell in study.cells} == {State.TRAINED}
    assert not any(own.values for own in results(study))


def test_a_measure_that_was_not_asked_for_before(
    published: tuple[Path, Path], scenes_yaml: Path, tmp_path: Path
) -> None:
    """A run whose network is here is judged again; of one whose network is gone the others stay."""
    _, folder = published
    path = write_study(tmp_path, scenes_yaml, table={"measures": ["map", "map50"]})
    gone, here = (read_study(path, tmp_path / name, folder) for name in ("two", "one"))
    assert {state(gone, cell) for cell in gone.cells} == {State.DONE}
    assert {state(here, cell) for cell in here.cells} == {State.TRAINED}
    for cell in here.cells:
        values_file(here, cell).write_text('{"map": 0.5, "map50": 0.7}')
    assert {own.values["map50"] for own in results(here)} == {0.7}
    assert {state(here, cell) for cell in here.cells} == {State.DONE}


def test_two_machines_publish_in_one_folder(published: tuple[Path, Path], tmp_path: Path) -> None:
    """Each had read what was there before the other one had written."""
    path, _ = published
    studies = [read_study(path, tmp_path / name, tmp_path / "both") for name in "ab"]
    for study, part in zip(studies, (slice(None, 3), slice(3, None)), strict=True):
        finished(replace(study, cells=study.cells[part]))
    for study in studies:
        publish(study)
    assert len(read_study(path, tmp_path / "c", tmp_path / "both").published) == 6
    assert "6 of 6 runs done" in (tmp_path / "both" / "ways" / "README.md").read_text()
    assert not list((tmp_path / "both").rglob(".lock"))


def test_finished_runs_are_not_published_over(
    published: tuple[Path, Path], scenes_yaml: Path, tmp_path: Path, script: Script
) -> None:
    _, folder = published
    path = write_study(tmp_path, scenes_yaml, table=TABLE, changes={"imgsz": 96})
    before = (folder / "ways" / "runs.csv").read_text()
    with pytest.raises(UserError, match="6 finished runs are there that this page would not have: scratch_seed0, "):
        script(script_module, path, "--project", tmp_path / "two", "--publish", folder, "--as-is")
    assert (folder / "ways" / "runs.csv").read_text() == before


def test_reports_stay_where_their_networks_are_gone(
    scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    reports = {"acc": {"kind": "accuracy", "runs": ["cl2_seed*"]}}
    path = write_study(tmp_path, scenes_yaml, table=TABLE, reports=reports)
    study = read_study(path, tmp_path / "one", tmp_path / "results")
    finished(study)
    for cell in study.cells:
        if cell.method == "cl2":
            write_text(make_folder(run_folder(study, cell) / "weights") / "backbone_cl2.pt", "")
    write_text(study.folder / "acc.md", "what they reach\n")
    write_text(make_folder(study.folder / "reports") / "acc.txt", " ".join(report_command(study, "acc")))
    publish(study)
    now = tmp_path / "results" / "ways"
    there = {name: (now / name).read_text() for name in ("README.md", "acc.md", "commands.txt")}
    assert "[acc](acc.md)\n" in there["README.md"]
    script(script_module, path, "--project", tmp_path / "two", "--publish", tmp_path / "results")
    assert "report acc: published before" in capsys.readouterr().out
    for name in ("README.md", "acc.md"):
        assert (now / name).read_text() == there[name]
    assert (now / "commands.txt").read_text().partition("# acc")[2] == there["commands.txt"].partition("# acc")[2]


def test_runs_on_several_devices_are_said(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml, table=TABLE, changes={"device": "auto"}), tmp_path)
    finished(study)
    for cell, device in zip(study.cells, ("cuda", *["cpu"] * 5), strict=True):
        save_recipe(cell.recipe.model_copy(update={"device": device}), run_folder(study, cell) / "recipe.yaml")
    assert "Not all runs are alike: 5 on cpu fp32, 1 on cuda fp32." in study_page(study, results(study))


def test_a_damaged_table_of_runs_is_one_line(published: tuple[Path, Path], tmp_path: Path) -> None:
    path, folder = published
    table = folder / "ways" / "runs.csv"
    text = table.read_text()
    figure = re.sub(r"(cl2,1,done,)[^,]+", r"\g<1>0.5x", text)
    for damaged in (text.replace("method,seed", "method,sead"), text.replace("cl2,1,done", "cl2,one,done"), figure):
        assert damaged != text
        table.write_text(damaged)
        with pytest.raises(UserError, match=r"runs\.csv: is no table of runs"):
            read_study(path, tmp_path / "two", folder)
    table.write_bytes(b"\xff\xfe" + text.encode())
    with pytest.raises(UserError, match=r"runs\.csv: is no table of runs"):
        run_rows(table)


def test_weights_that_are_gone_are_made_again(published: tuple[Path, Path], tmp_path: Path) -> None:
    path, folder = published
    study = read_study(path, tmp_path / "two", folder)
    frozen = next(cell for cell in study.cells if cell.name == "cl2_frozen_seed1")
    source = lacking(study, frozen)
    assert source is not None
    assert source.name == "cl2_seed1"
    assert frozen.recipe.weights is not None
    write_text(make_folder(frozen.recipe.weights.parent) / frozen.recipe.weights.name, "")
    assert lacking(study, frozen) is None


def test_no_difference_without_learning(scenes_yaml: Path, tmp_path: Path) -> None:
    path = write_study(tmp_path, scenes_yaml, table={"measures": ["map", "map50"], "reference": "scratch"})
    study = read_study(path, tmp_path)
    finished(study, learnt=0.0)
    text = study_page(study, results(study))
    assert "| cl2 | top-1 0.900, learnt nothing |" in text
    assert "| cl2 | not tested: the classifiers learnt nothing (top-1 0.90) |  |" in text


def test_no_difference_below_the_auc_that_a_study_asks_for(scenes_yaml: Path, tmp_path: Path) -> None:
    """It is published with the runs, so that another machine knows it; it makes no other runs of them."""
    table = {"measures": ["map"], "reference": "scratch", "least_auc": 0.9}
    study = read_study(write_study(tmp_path, scenes_yaml, table=table), tmp_path / "one", tmp_path / "results")
    finished(study)
    text = study_page(study, results(study))
    assert "| cl2 | not tested: the classifiers reached an AUC of 0.880, not 0.9 |" in text
    publish(study)
    path = write_study(tmp_path, scenes_yaml, table=table | {"least_auc": 0.85})
    study = read_study(path, tmp_path / "two", tmp_path / "results")
    assert {state(study, cell) for cell in study.cells} == {State.DONE}
    assert "| cl2 | +0." in study_page(study, results(study))


def test_what_a_file_from_elsewhere_had_learnt_counts(scenes_yaml: Path, tmp_path: Path) -> None:
    """A run without pre-training says it itself, where its file does."""
    study = read_study(
        write_study(tmp_path, scenes_yaml, table={"measures": ["map"], "reference": "scratch"}), tmp_path
    )
    finished(study)
    lesson = {"method": "cl3", "judged_by": "auc", "auc": 0.53, "learnt": 0.0}
    for cell in study.cells:
        if cell.method == "scratch":
            write_text(run_folder(study, cell) / FINISHED, json.dumps({"pretrain": {}, "lesson": lesson}))
    text = study_page(study, results(study))
    assert "| scratch | AUC 0.530, learnt nothing |" in text
    assert "| cl2 | not tested: the classifiers learnt nothing (AUC 0.53) |" in text


def test_runs_that_were_judged_on_other_pictures_are_said(scenes_yaml: Path, tmp_path: Path) -> None:
    """Labels may be corrected between two runs; the published row says so too."""
    study = read_study(write_study(tmp_path, scenes_yaml, table=TABLE), tmp_path, tmp_path / "results")
    finished(study)
    line = "Not all runs were judged on the same pictures: 5 on 0123, 1 on 4567. They cannot be compared."
    assert line not in study_page(study, results(study)), "nobody knows"
    for cell, digest in zip(study.cells, ("4567", *["0123"] * 5), strict=True):
        path = values_file(study, cell)
        write_text(path, json.dumps(json.loads(path.read_text()) | {"found_with": {"data": digest}}))
    assert line in study_page(study, results(study))
    publish(study)
    elsewhere = read_study(study.yaml, tmp_path / "two", tmp_path / "results")
    assert line in study_page(elsewhere, results(elsewhere))
    path = values_file(study, study.cells[0])
    write_text(path, json.dumps(json.loads(path.read_text()) | {"split": "train"}))
    assert results(study)[0].data == "", "nor do figures of another split count"
