import csv
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Script, write_yaml
from PIL import Image
from warm import Warm

import study as script_module
import val
from models.backbones import make_backbone
from models.plan import make_plan
from studies.estimate import START, plan_table, pretraining_macs, seconds_of
from studies.execute import claimed, steps_left
from studies.figure import why_none
from studies.gallery import save_gallery
from studies.gate import UNKNOWN, Lesson
from studies.page import LOCK, all_commands, study_page
from studies.recipe import Cell, Study, read_study
from studies.runs import (
    State,
    check_made,
    commands,
    figures_file,
    page_file,
    recipe_file,
    record_file,
    report_command,
    run_folder,
    state,
    values_file,
)
from studies.table import Result, as_csv, results
from training.init import reused
from utils import plugins
from utils.claim import claimed as claimed_file
from utils.config import Recipe
from utils.errors import UserError
from utils.files import make_folder
from utils.recipes import save_recipe
from utils.runs import FINISHED
from utils.tables import take_out

TINY = {"width": 0.125, "imgsz": 64, "device": "cpu", "precision": "fp32", "workers": 0}
METHODS = {
    "scratch": {"cl_splits": 0},
    "cl2": {"cl_splits": 2},
    "cl2_frozen": {"from": "cl2/backbone_cl2.pt", "freeze": True},
}


def say_learnt(study: Study, cell: Cell) -> None:
    """What a finished run says of classifiers that learnt."""
    stages = {name: [{"cut": 6, "accuracy": 0.9, "learnt": 1.0}] for name in cell.recipe.backbones}
    record = make_folder(run_folder(study, cell)) / FINISHED
    record.write_text(json.dumps({"judged_by": "accuracy", "pretrain": stages}))


def write_study(folder: Path, data: Path, **changes: object) -> Path:
    recipe = TINY | {
        "data": str(data),
        "train": {"epochs": 1, "batch_size": 4},
        "pretrain": {"epochs": 1, "batch_size": 4},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    content = {
        "title": "Three ways",
        "recipe": "recipe.yaml",
        "seeds": [0, 1],
        "methods": METHODS,
        "table": {"reference": "scratch"},
    }
    path = folder / "ways.yaml"
    path.write_text(
        yaml.safe_dump({key: value for key, value in (content | changes).items() if value is not None}, sort_keys=False)
    )
    return path


def test_cells_in_an_order_that_works(scenes_yaml: Path, tmp_path: Path) -> None:
    methods = {"late": {"from": "cl2/backbone_cl2.pt"}, "cl2": {"cl_splits": 2}, "scratch": {"cl_splits": 0}}
    study = read_study(write_study(tmp_path, scenes_yaml, methods=methods), tmp_path)
    names = [cell.name for cell in study.cells]
    assert sorted(names) == sorted(f"{m}_seed{s}" for m in methods for s in (0, 1))
    assert names.index("cl2_seed1") < names.index("late_seed1")
    late = next(cell for cell in study.cells if cell.name == "late_seed1")
    assert late.recipe.weights == study.folder / "train" / "cl2_seed1" / "weights" / "backbone_cl2.pt"
    parts = [{cell.name for cell in study.share(number, 3)} for number in (1, 2, 3)]
    assert set.union(*parts) == set(names)
    assert sum(map(len, parts)) == len(names)
    assert all(("late_seed1" in part) == ("cl2_seed1" in part) for part in parts)
    assert [cell.name for cell in study.share(methods=["scratch"])] == ["scratch_seed0", "scratch_seed1"]
    with pytest.raises(UserError, match=r"no method `scrath` .* did you mean scratch"):
        study.share(methods=["scratch", "scrath"])


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"methods": {"a": {"cl_split": 3}}}, "unknown key `cl_split`"),
        ({"methods": {"a": {"from": "b/x.pt"}}}, "no method/file.pt"),
        ({"methods": {"a": {"from": "b/x.pt"}, "b": {"from": "a/x.pt"}}}, "wait for each other"),
        ({"methods": METHODS | {"c": {"from": "cl2/backbone_e2e.pt"}}}, "does not leave backbone_e2e"),
        ({"methods": METHODS | {"c": {"from": "scratch/backbone_cl2.pt"}}}, "take them from a method that pre-trains"),
        ({"seeds": [1, 1]}, "every seed once"),
        ({"sedes": [1]}, "unknown key `sedes`"),
        ({"recipe": "nowhere.yaml"}, "nowhere.yaml"),
        ({"table": {"reference": "cat"}}, "`table` names cat"),
        ({"table": {"pairs": [["cl2", "cow"]]}}, "`table` names cow"),
        ({"table": {"gallery": {"methods": ["dog"]}}}, "`table` names dog"),
        ({"table": None}, "say with `table` or `reports`"),
        ({"reports": {"acc": {"kind": "accuracy", "lime": 3}}}, "lime: only with `kind: localise`"),
        ({"reports": {"acc": {"kind": "localise", "method": ["cam"], "lime": 3}}}, "lime: not with `method`"),
        ({"reports": {"acc": {"kind": "loose"}}}, "kind"),
        (
            {"reports": {"acc": {"kind": "accuracy", "runs": ["cl2_seed7"]}}},
            "names cl2_seed7, but there is no such run",
        ),
        ({"methods": None}, "`methods` is missing"),
        ({"reports": {"Figure": {"kind": "accuracy"}}}, "a report cannot be called Figure: a file of the study is"),
        ({"methods": {"a": {"recipe": 3}}}, "cannot be read"),
    ],
)
def test_wrong_recipes(scenes_yaml: Path, tmp_path: Path, changes: dict[str, object], what: str) -> None:
    path = write_study(tmp_path, scenes_yaml, **({"table": {}} | changes))
    with pytest.raises(UserError, match=what):
        read_study(path, tmp_path)


MINE = """
from dataclasses import replace
from maps.kinds import MAPS
from models.backbones import BACKBONES
BACKBONES.add(replace(BACKBONES["darknet53"], name="mine"))
MAPS.add(replace(MAPS["saliency"], name="mine"))
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that adds a backbone and a map, here alone."""
    monkeypatch.setattr(plugins, "LOADED", {})
    (tmp_path / "mine.py").write_text(MINE)
    yield tmp_path / "mine.py"
    for own in plugins.LOADED.values():
        take_out(own.entries)


@pytest.mark.parametrize("by", ["recipe", "flag"])
def test_what_a_study_imports(
    by: str, mine: Path, scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"backbone": "mine"} | ({"imports": ["mine.py"]} if by == "recipe" else {})
    reports = {"maps": {"kind": "localise", "maps": ["mine"], "runs": ["cl2_*"]}}
    path = write_study(tmp_path, scenes_yaml, changes=changes, reports=reports)
    study = read_study(path, tmp_path, imports=[mine] if by == "flag" else [])
    assert all(cell.recipe.imports == (mine,) for cell in study.cells)
    assert commands(study, study.cells[0])["judge"][-2:] == ["--import", str(mine)]
    flags = ["--import", mine] if by == "flag" else []
    script(script_module, path, "--project", tmp_path, "--dry-run", *flags)
    assert "cl2_frozen" in capsys.readouterr().out


def test_missing_data_stop_before_the_first_run(tmp_path: Path, script: Script) -> None:
    path = write_study(tmp_path, tmp_path / "nowhere.yaml")
    with pytest.raises(UserError, match=r"nowhere\.yaml"):
        script(script_module, path, "--project", tmp_path)
    assert not (tmp_path / "studies").exists()


def test_a_dry_run_reads_what_the_runs_read(
    scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--project", tmp_path, "--dry-run")
    script(script_module, write_study(tmp_path, scenes_yaml, table={}), *flags)
    said = capsys.readouterr().out
    assert said.count("train: 8 images") == 1, "the data of all runs are the same"
    other = write_yaml(tmp_path / "other.yaml", path=yaml.safe_load(scenes_yaml.read_text())["path"])
    changes = {"pretrain": {"data": str(other)}}
    script(script_module, write_study(tmp_path, scenes_yaml, table={}, changes=changes), *flags)
    assert "other.yaml train: 8 images" in capsys.readouterr().out, "which the first run does not read"
    assert "hours left on this machine" in said
    begins = {"cl2": METHODS["cl2"] | {"init": str(tmp_path / "gone.pth")}}
    missing = write_study(tmp_path, scenes_yaml, methods=begins, table={})
    with pytest.raises(UserError, match=r"gone\.pth"):
        script(script_module, missing, *flags)
    assert not (tmp_path / "studies").exists()


def test_runs_of_another_recipe_are_refused(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    cell = study.cells[0]
    made = cell.recipe.model_copy(update={"imgsz": 96, "precision": "bf16"})
    save_recipe(made, make_folder(run_folder(study, cell)) / "recipe.yaml")
    with pytest.raises(UserError, match="imgsz is 96, not 64; precision is bf16, not fp32"):
        check_made(study, cell)
    assert state(study, cell) is State.BEGUN


def test_figures_of_another_recipe_are_refused_where_the_run_is_gone(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    cell = study.cells[0]
    values = make_folder(values_file(study, cell).parent) / f"{cell.name}.json"
    values.write_text('{"map": 0.25}')
    save_recipe(cell.recipe, make_folder(recipe_file(study, cell).parent) / f"{cell.name}.yaml")
    check_made(study, cell)
    assert state(study, cell) is State.DONE
    changed = read_study(write_study(tmp_path, scenes_yaml, changes={"imgsz": 96}), tmp_path)
    with pytest.raises(UserError, match=f"imgsz is 64, not 96 .* move {re.escape(str(values))} away"):
        check_made(changed, changed.cells[0])
    values.unlink()
    check_made(changed, changed.cells[0])
    assert state(changed, changed.cells[0]) is State.OPEN


def test_a_moved_project_goes_on_with_its_data(tmp_path: Path) -> None:
    """The data yamls of the project are those in its folder as it is now; others are where they were."""
    data, before = ROOT / "data" / "sample.yaml", Path("/before/project")
    study = read_study(write_study(tmp_path, data, changes={"pretrain": {"data": str(data)}}), tmp_path)
    cell = next(own for own in study.cells if own.method == "cl2")
    old, other = before / "data" / "sample.yaml", before / "data" / "elsewhere.yaml"
    for own in (old, other):
        pretrain = cell.recipe.pretrain.model_copy(update={"data": old})
        made = cell.recipe.model_copy(update={"data": own, "pretrain": pretrain})
        save_recipe(made, make_folder(run_folder(study, cell)) / "recipe.yaml")
        if own == old:
            check_made(study, cell)
        else:
            with pytest.raises(UserError, match=f"data is {other}, not "):
                check_made(study, cell)
    words = commands(study, cell)
    assert words["resume"][4:] == ["--data", "data/sample.yaml", "--pretrain-data", "data/sample.yaml"]
    assert words["judge"][5:7] == ["--data", "data/sample.yaml"]


def test_weights_that_were_made_anew_are_not_those_that_a_run_took(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    cell = next(own for own in study.cells if own.method == "cl2_frozen")
    weights = cell.recipe.weights
    assert weights
    make_folder(weights.parent)
    weights.write_text("once")
    record = make_folder(run_folder(study, cell)) / FINISHED
    record.write_text(json.dumps({"reused": reused(cell.recipe)}))
    check_made(study, cell)
    weights.write_text("again")
    what = "cl2_frozen_seed0 was trained on other weights than cl2_seed0 has now"
    with pytest.raises(UserError, match=f"{what} .* move {re.escape(str(record.parent))}"):
        check_made(study, cell)
    weights.unlink()  # of another machine
    check_made(study, cell)


def test_a_run_that_begins_anew_removes_reports_on_its_predecessor(scenes_yaml: Path, tmp_path: Path) -> None:
    reports = {name: {"kind": "accuracy", "runs": [f"{name}_*"]} for name in ("cl2", "scratch")}
    study = read_study(write_study(tmp_path, scenes_yaml, reports=reports, seeds=[1, 11]), tmp_path)
    files = {name: [own(study, name) for own in (record_file, page_file, figures_file)] for name in reports}
    for name, paths in files.items():
        for path in paths:
            make_folder(path.parent)
            path.write_text(f"python val.py --weights {run_folder(study, study.cells[0])}/weights/b.pt".replace(
                study.cells[0].name, f"{name}_seed1"))  # fmt: skip
    of = {cell.name: cell for cell in study.cells}
    for name in ("scratch_seed11", "cl2_frozen_seed1"):  # no report was on these
        next(steps_left(study, of[name]))
        assert all(path.exists() for paths in files.values() for path in paths)
    assert next(steps_left(study, of["scratch_seed1"]))[1:2] == ["train.py"]
    assert not any(path.exists() for path in files["scratch"])
    assert all(path.exists() for path in files["cl2"])


def test_keys_left_blank_are_not_there(scenes_yaml: Path, tmp_path: Path) -> None:
    blank = METHODS | {"blank": METHODS["scratch"] | {"from": None, "recipe": None}}
    cells = {own.method: own for own in read_study(write_study(tmp_path, scenes_yaml, methods=blank), tmp_path).cells}
    assert cells["blank"].recipe == cells["scratch"].recipe
    assert cells["blank"].source is None


def test_who_publishes_for_long_stops_nobody(scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    """The cells go on; the page is written again after the last one."""
    monkeypatch.setattr("studies.page.PATIENCE", 1)
    monkeypatch.setattr("studies.execute.run_cell", lambda study, cell: True)
    read = read_study(write_study(tmp_path, scenes_yaml), tmp_path, tmp_path / "results")
    assert read.results
    with claimed_file(make_folder(read.results) / LOCK):
        assert script_module.run_cells(read, read.cells[:2]) == []
    assert capsys.readouterr().out.count("not published yet: ") == 2


def test_two_studies_in_one_folder(scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.execute.PATIENCE", 0)
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    with claimed(study, "scratch_seed0"):
        other = pytest.raises(UserError, match="another study works on scratch_seed0")
        with other, claimed(study, "scratch_seed0"):
            pass
    with claimed(study, "scratch_seed0"):
        pass


def test_what_did_not_run_is_shown(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    first = values_file(study, study.cells[0])
    make_folder(first.parent)
    first.write_text('{"map": 0.25, "map50": 0.5, "map75": null}')
    make_folder(study.folder / "failed")
    (study.folder / "failed" / "cl2_seed1").touch()
    text = study_page(study, results(study))
    assert "1 of 6 runs done" in text
    assert "| scratch | – | 0.250 | 0.500 | – | 1 (seed 1 not run) |" in text
    assert "seed 1 failed" in text
    assert str(tmp_path) not in text
    assert all_commands(study).count("python val.py --map") == 6
    assert commands(study, study.cells[0])["train"][:3] == ["python", "train.py", "--recipe"]


def test_figures_of_another_program(scenes_yaml: Path, tmp_path: Path) -> None:
    """Those that it has not are dashes; a damaged file is one line."""
    table = {"measures": ["map", "map50", "map75"], "beside": {"peer": "peer.json", "absent": "absent.json"}}
    study = read_study(write_study(tmp_path, scenes_yaml, table=table), tmp_path)
    (tmp_path / "peer.json").write_text('{"map": 0.125, "map50": null}')
    text = study_page(study, results(study))
    assert "| peer | – | 0.125 | – | – | 1 |" in text
    assert "| absent | – | – | – | – | 0 (not run) |" in text
    for damaged in ('{"map": 0.1', "[0.1]"):
        (tmp_path / "peer.json").write_text(damaged)
        with pytest.raises(UserError, match=r"peer\.json: .*JSON"):
            study_page(study, results(study))


def test_a_figure_without_points_says_why(scenes_yaml: Path, tmp_path: Path) -> None:
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    cells = {cell.name: cell for cell in study.cells}
    said = {
        why_none([Result(cells["cl2_seed0"], own, {}, None) for own in states]): states
        for states in ([State.OPEN, State.OPEN], [State.FAILED, State.BEGUN], [State.OPEN, State.DONE])
    }
    assert list(said) == ["not run", "failed, interrupted", "–"]


def test_differences_seed_by_seed(scenes_yaml: Path, tmp_path: Path) -> None:
    table = {"measures": ["map"], "reference": "scratch", "pairs": [["cl2", "cl2_frozen"]]}
    study = read_study(write_study(tmp_path, scenes_yaml, table=table), tmp_path)
    values = {"scratch": (0.1, 0.2), "cl2": (0.3, 0.5), "cl2_frozen": (0.3, 0.4)}
    make_folder(values_file(study, study.cells[0]).parent)
    for cell in study.cells:
        values_file(study, cell).write_text(json.dumps({"map": values[cell.method][cell.seed]}))
        say_learnt(study, cell)
    text = study_page(study, results(study))
    # two differences of mean m, half their distance h: m ± 12.706 · h
    assert "| minus scratch | map |\n|---|---:|\n| cl2 | +0.250 [-0.385, +0.885] |" in text
    assert "| pair | map |\n|---|---:|\n| cl2 minus cl2_frozen | +0.050 [-0.585, +0.685] |" in text
    study = read_study(write_study(tmp_path, scenes_yaml, table=table, seeds=[0, 1, 2]), tmp_path)
    assert "| cl2 | +0.250 [-0.385, +0.885], 2 of 3 seeds |" in study_page(study, results(study))
    shutil.rmtree(run_folder(study, next(cell for cell in study.cells if cell.method == "cl2")))
    found = results(study)
    assert "| cl2 | not tested: what the classifiers learnt is not recorded |" in study_page(study, found)
    row = next(own for own in csv.DictReader(as_csv(study, found).splitlines()) if own["method"] == "cl2")
    assert Lesson.of(row) == UNKNOWN


@pytest.fixture
def warm_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a study in this process starts is forked from a process that has imported torch, which has one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def call(words: Sequence[str], log: Path, _: int) -> int:
        make_folder(log.parent)
        return Warm(*words[1:], environment=os.environ, stdout=log, stderr=log).end()

    monkeypatch.setattr("studies.execute.call", call)


@pytest.mark.usefixtures("warm_calls")
def test_killed_at_random_moments_it_gives_the_same_table(
    scenes_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_study(tmp_path, scenes_yaml, seeds=[0], methods={"cl2": METHODS["cl2"]}, table={})
    flags = ("--kills", 1, "--longest", 2.5, "--seed", 3, "--project", tmp_path)
    said = tmp_path / "said"
    process = Warm(
        ROOT / "benchmarks" / "kills.py", path, *flags, environment=os.environ, stdout=said, stderr=tmp_path / "errors"
    )
    assert process.end(300) == 0, process.stderr.read_text()
    found = json.loads(said.read_text())
    assert found["holds"], "the killed study's page, runs and figure are the quiet one's"
    assert found["kills"] == 1
    assert "1 of 1 runs done" in (tmp_path / "quiet" / "studies" / "ways" / "README.md").read_text()
    script(script_module, path, "--project", tmp_path / "quiet")
    assert capsys.readouterr().out.count("done before") == 1
    script(script_module, path, "--project", tmp_path / "none", "--as-is")
    assert "0 of 1 runs done" in capsys.readouterr().out


@pytest.mark.usefixtures("warm_calls")
def test_reports_on_all_runs(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    """Backbones of two seeds, judged together, once; a page to publish without the data's pictures."""
    own = {"backbone": "cnn6", "pretrain_only": True, "baselines": ["e2e"], "pretrain": {"epochs": 1, "head_convs": 0}}
    reports = {
        "accuracy": {"kind": "accuracy", "bootstrap": 20},
        "maps": {"kind": "localise", "claims": True, "bootstrap": 20, "maps": ["gradcam"], "images": 2, "untrained": 1},
    }
    path = write_study(tmp_path, scenes_yaml, methods={"both": own | {"cl_splits": 2}}, table=None, reports=reports)
    with pytest.raises(UserError, match="1 failed: accuracy"):  # no network is there yet
        script(script_module, path, "--project", tmp_path, "--reports", "accuracy")
    script(script_module, path, "--project", tmp_path, "--cells", "1/2")
    assert "accuracy: not written" in (tmp_path / "studies" / "ways" / "README.md").read_text()
    with pytest.raises(UserError, match="no report `acuracy`"):
        script(script_module, path, "--project", tmp_path, "--reports", "acuracy")
    script(script_module, path, "--project", tmp_path, "--reports", "accuracy")
    assert "[accuracy](accuracy.md), 1 of 2 runs\n" in (tmp_path / "studies" / "ways" / "README.md").read_text()
    script(script_module, path, "--project", tmp_path, "--publish", tmp_path / "results")
    published = tmp_path / "results" / "ways"
    names = {str(file.relative_to(published)) for file in published.rglob("*") if file.is_file()}
    assert {"README.md", "runs.csv", "commands.txt", "accuracy.md", "accuracy.json", "maps.md"} <= names
    assert {"maps/localise.json", "maps/report.html", "logs/maps.txt", "logs/both_seed1.txt"} <= names
    page = (published / "README.md").read_text()
    assert "[accuracy](accuracy.md)\n" in page
    for link in re.findall(r"\]\(([^/)][^)]*)\)", page):
        assert (published / link).exists(), link
    assert not [name for name in names if name.endswith(".jpg")]
    claims = json.loads((published / "maps" / "localise.json").read_text())["claims"]
    assert [claim["figure"] for claim in claims][:2] == ["4a–b", "4c–d"]
    before = (tmp_path / "studies" / "ways" / "maps.md").stat().st_mtime_ns
    script(script_module, path, "--project", tmp_path)
    assert (tmp_path / "studies" / "ways" / "maps.md").stat().st_mtime_ns == before


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_studies_of_this_repository(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(path, tmp_path)
    assert study.cells
    for name, report in study.settings.reports.items():
        words = report_command(study, name)
        assert words[:2] == ["python", "val.py"]
        words.insert(words.index("--weights") + 1, "some.pt")  # no run has left one here
        monkeypatch.setattr("sys.argv", words[1:])
        given = val.parse()
        assert (given.accuracy, given.localise) == (report.kind == "accuracy", report.kind == "localise")
        assert given.batch_size == (report.batch_size or given.batch_size)
        assert given.images == report.images
    assert all_commands(study).count("train.py") == len(study.cells)


STILL = {"cache": "ram", "baselines": ["e2e", "probed"], "augment": {"fliplr": 0, "photometric": 0}}


@pytest.mark.parametrize(
    ("changes", "stages", "other"),
    [
        ({"cache": "off"}, lambda a, b: 3 * 4 * a + 3 * 6 * b + 6 * a, lambda _: 0),  # stage 2 passes through stage 1
        ({"cache": "ram", "cache_views": 5}, lambda a, b: 3 * 4 * a + 3 * 6 * b + 5 * a, lambda _: 0),
        (
            {"cache": "off", "baselines": ["e2e"], "baseline_heads": "last"},
            lambda a, b: 3 * 4 * a + 3 * 6 * b + 6 * a,
            lambda both: 3 * 6 * both,
        ),
        # a head behind stage 1 of E2E, on the fixed network
        (
            {"cache": "off", "baselines": ["e2e"]},
            lambda a, b: 3 * 4 * a + 3 * 6 * b + 6 * a + 4 * a,
            lambda both: 3 * 6 * both,
        ),
        # heads at both cuts of E2E, and of the cascade
        (
            {"cache": "off", "baselines": ["e2e", "probed"]},
            lambda a, b: 3 * 4 * a + 3 * 6 * b + 6 * a,
            lambda both: 3 * 6 * both + 2 * 4 * both,
        ),
        # the same pictures in every epoch: stage 2 reads a cache, and so do heads that begin with a pool
        *(
            (
                STILL
                | {"pretrain": {"epochs": 4, "epochs_step": 2, "crop": 1, "source": "pictures", "head_convs": convs}},
                lambda a, b: 3 * 4 * a + 3 * 6 * b + a,
                lambda both, passes=passes: 3 * 6 * both + 2 * passes * both,
            )
            for convs, passes in ((0, 1), (1, 4))
        ),
    ],
)
def test_macs_of_pre_training_by_hand(
    changes: dict[str, object], stages: Callable[[float, float], float], other: Callable[[float], float]
) -> None:
    """Two stages of 4 and 6 epochs; a step costs three forward passes, one through frozen blocks one."""
    pretrain = {"epochs": 4, "epochs_step": 2}
    recipe = Recipe.model_validate({"backbone": "cnn6", "cl_splits": 2, "pretrain": pretrain} | changes)
    plan = make_plan(make_backbone("cnn6", 0.125), 2, 64)
    one, two = (part.macs for part in plan)
    assert pretraining_macs(recipe, plan) == pytest.approx(stages(one, two) + other(one + two))


def test_figure_10(overfitted: Path, tmp_path: Path) -> None:
    """The gallery has a column for each method, and waits until all of its runs are done."""
    table = {"measures": ["map"], "split": "val", "gallery": {"methods": ["scratch"], "images": 2}}
    data = overfitted / "overfit.yaml"
    study = read_study(write_study(tmp_path, data, methods={"scratch": {"cl_splits": 0}}, table=table), tmp_path)
    settings, cell = study.settings.table, study.cells[0]
    assert settings
    assert settings.gallery
    save_gallery(study, settings, settings.gallery, tmp_path / "g.jpg")
    assert not (tmp_path / "g.jpg").exists()
    (make_folder(values_file(study, cell).parent) / f"{cell.name}.json").write_text('{"map": 0.5}')
    shutil.copytree(overfitted / "train" / "exp", run_folder(study, cell))
    save_gallery(study, settings, settings.gallery, tmp_path / "g.jpg")
    with Image.open(tmp_path / "g.jpg") as page:
        width, height = page.size
    assert width == 2 * 270  # the true boxes and those of one method, three inches of 90 dots each
    assert height > 2 * 150


def test_hours_that_are_left(scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.estimate.seconds_of", lambda _: 5400)
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    (make_folder(run_folder(study, study.cells[0])) / FINISHED).write_text("{}")
    assert state(study, study.cells[0]) is State.TRAINED
    assert "6 runs, about 7.5 hours left on this machine, reports not counted" in plan_table(study, study.cells)


def test_hours_of_weights_that_have_to_be_made_again(
    scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.estimate.seconds_of", lambda recipe: 3600 if recipe.weights else 36_000)
    study = read_study(write_study(tmp_path, scenes_yaml), tmp_path)
    asked = study.share(methods=["cl2_frozen"])
    assert "4 runs, about 22.0 hours left" in plan_table(study, asked)
    published = {cell.name: {"state": "done", "map": "0.5"} for cell in study.cells if cell.method == "cl2"}
    known = replace(study, published=published)
    assert re.search(r"cl2_seed0 +done +10.00 h, its weights are not here\n", plan_table(known, known.cells))
    assert "6 runs, about 42.0 hours left" in plan_table(known, known.cells)
    assert "2 runs, about 0.0 hours left" in plan_table(known, known.share(methods=["cl2"]))


def test_hours_are_of_the_cuts_that_are_trained(scenes_yaml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other cuts have other blocks in front of them, which run forward in every epoch."""
    monkeypatch.setattr("studies.estimate.timed", lambda *_: 1.0)
    recipe = Recipe.model_validate(TINY | {"data": scenes_yaml})
    hours = {seconds_of(recipe.model_copy(update={"balance": balance})) for balance in ("stage", "flops", "memory")}
    assert len(hours) == 3


def test_hours_of_a_plan(scenes_yaml: Path, tmp_path: Path) -> None:
    methods = {"scratch": {"cl_splits": 0}, "cl2": {"cl_splits": 2}, "six": {"backbone": "cnn6", "cl_splits": 2}}
    study = read_study(write_study(tmp_path, scenes_yaml, methods=methods, seeds=[0]), tmp_path)
    seconds = {cell.method: seconds_of(cell.recipe) for cell in study.cells}
    assert START < seconds["scratch"] < seconds["cl2"]
    assert seconds["six"] > START  # no detector can be put on it
    assert re.search(r"scratch_seed0 +not run +\d+\.\d\d h\n.*\n.*\n3 runs, about ", plan_table(study, study.cells))
