"""One table over tasks, from what the runs and a report left."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_studies import say_learnt, write_study

from studies.gate import Lesson
from studies.page import study_page
from studies.recipe import Study, read_study
from studies.runs import State, commands, figures_file, report_command, values_file
from studies.table import results
from studies.tasks import tasks_table
from utils.errors import UserError
from utils.files import make_folder

METHODS = {
    "boxes_cl2": {"cl_splits": 2, "baselines": ["e2e"]},
    "boxes_e2e": {"from": "boxes_cl2/backbone_e2e.pt"},
    "masks_cl2": {"task": "segment", "fcn": "fcn32s", "from": "boxes_cl2/backbone_cl2.pt"},
    "masks_e2e": {"task": "segment", "fcn": "fcn32s", "from": "boxes_cl2/backbone_e2e.pt"},
}
ROWS = {
    "detector": {"methods": "boxes", "measure": "map50"},
    "FCN-32s": {"methods": "masks", "measure": "miou"},
    "windows": {"methods": "boxes", "report": "found", "method": "overfeat", "measure": "iou", "lines": ["cl2", "e2e"]},
}
TASKS = {"columns": ["cl2", "e2e"], "differences": [["cl2", "e2e"]], "rows": ROWS}
REPORTS = {"found": {"kind": "localise", "runs": ["boxes_cl2_*"], "method": ["overfeat"]}}
TABLE = {"measures": ["map50", "miou"]}


def made(folder: Path, data: Path, **changes: object) -> Study:
    own = {"methods": METHODS, "table": TABLE, "tasks": TASKS, "reports": REPORTS} | changes
    return read_study(write_study(folder, data, **own), folder)


def test_every_task_is_judged_by_its_own(scenes_yaml: Path, tmp_path: Path) -> None:
    study = made(tmp_path, scenes_yaml)
    words = {cell.name: commands(study, cell) for cell in study.cells}
    assert words["boxes_e2e_seed0"]["judge"][2] == "--map"
    assert words["masks_e2e_seed1"]["judge"][2] == "--segment"
    assert "--json" in report_command(study, "found")
    assert "--json" not in report_command(made(tmp_path, scenes_yaml, tasks=None), "found")


def test_the_table_has_means_and_differences_of_pairs(scenes_yaml: Path, tmp_path: Path) -> None:
    study = made(tmp_path, scenes_yaml)
    reached = {"boxes_cl2": (0.5, 0.7), "boxes_e2e": (0.4, 0.5), "masks_cl2": (0.2, 0.2), "masks_e2e": (0.3,)}
    for cell in study.cells:
        say_learnt(study, cell)
        if cell.seed < len(reached[cell.method]):
            path = values_file(study, cell)
            make_folder(path.parent)
            value = reached[cell.method][cell.seed]
            path.write_text(json.dumps({"map50": value} if "boxes" in cell.name else {"miou": value}))
    assert study.settings.tasks
    lines = tasks_table(study, study.settings.tasks, results(study)).splitlines()
    assert lines[0] == "| task | measure | cl2 | e2e | cl2 minus e2e |"
    apart = np.array([0.1, 0.2])
    reach = 12.7062 * apart.std(ddof=1) / np.sqrt(2)  # Student's t of one degree of freedom
    text = f"{apart.mean():+.3f} [{apart.mean() - reach:+.3f}, {apart.mean() + reach:+.3f}]"
    assert lines[2] == f"| detector | map50 | 0.600 ± 0.141 | 0.450 ± 0.071 | {text} |"
    assert lines[3] == "| FCN-32s | miou | 0.200 ± 0.000 | 0.300 | – |"
    assert lines[4] == "| windows | iou | – | – | – |"
    rows = [
        {"method": "overfeat", "line": line, "by_seed": {str(seed): {"iou": own} for seed, own in enumerate(values)}}
        for line, values in {"cl2": (0.5, 0.6), "e2e": (0.4, 0.4), "untrained": (0.1,)}.items()
    ]
    figures_file(study, "found").write_text(
        json.dumps({"rows": [*rows, {"method": "pixels", "line": "–", "by_seed": {}}]})
    )
    page = study_page(study, results(study))
    assert "| windows | iou | 0.550 ± 0.071 | 0.400 ± 0.000 | +0.150 [" in page


def test_no_difference_from_classifiers_that_learnt_nothing(scenes_yaml: Path, tmp_path: Path) -> None:
    study = made(tmp_path, scenes_yaml)
    assert study.settings.tasks
    found = [
        replace(own, values={"map50": 0.5}, lesson=Lesson("accuracy", 0.3, learnt="e2e" not in own.cell.method))
        for own in results(study)
    ]
    line = tasks_table(study, study.settings.tasks, found).splitlines()[2]
    assert line.endswith("| 0.500 ± 0.000 | not tested: the classifiers learnt nothing (top-1 0.30) |")


def test_the_page_says_how_many_seeds_are_done(
    scenes_yaml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = made(tmp_path, scenes_yaml)
    monkeypatch.setattr("studies.table.state", lambda _, cell: State.OPEN if cell.seed else State.DONE)
    assert "over the seeds that are done (1 of 2 with every run); differences" in study_page(study, results(study))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"columns": ["cl2", "e2f"]}, "names boxes_e2f, which the study does not have"),
        ({"differences": [["cl2", "cl3"]]}, "differences of cl3, none of cl2, e2e"),
        ({"rows": {"a": ROWS["detector"] | {"measure": "map75"}}}, "names map75"),
        ({"rows": {"a": ROWS["windows"] | {"report": "lost"}}}, "names lost"),
        ({"rows": {"a": ROWS["windows"] | {"methods": "boxen"}}}, "names boxen_cl2"),
        ({"rows": {"a": ROWS["windows"] | {"measure": "corloc"}}}, "names corloc"),
        ({"rows": {"a": ROWS["windows"] | {"lines": ["cl2"]}}}, "give `lines` as many networks"),
    ],
)
def test_wrong_tasks(scenes_yaml: Path, tmp_path: Path, changes: dict[str, object], what: str) -> None:
    tasks = TASKS | {"differences": []} | changes
    with pytest.raises(UserError, match=what):
        made(tmp_path, scenes_yaml, tasks=tasks)
