"""What the README shows is what the project does."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks.table import table
from maps.detector_brief import brief_table, read_report
from models.backbones import make_backbone
from models.plan import make_plan, plan_table
from studies.verdicts import verdict_table
from utils.errors import UserError
from utils.text import as_markdown

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python ([a-z]+)\.py(.*)$", README, re.MULTILINE)


def test_plan_is_the_printed_one() -> None:
    backbone = make_backbone("darknet53")
    assert plan_table(make_plan(backbone, 3, 256), backbone.taps) in README


@pytest.mark.parametrize(
    ("file", "head"),
    [
        ("sample_seeds/README.md", "| method"),
        ("cifar10_cnn6/accuracy.md", "| top-1 accuracy"),
        ("tiny_imagenet_maps/accuracy.md", "| top-1 accuracy"),
    ],
)
def test_study_table_is_the_generated_one(file: str, head: str) -> None:
    parts = (ROOT / "results" / file).read_text().split("\n\n")
    assert next(part for part in parts if part.startswith(head)) in README


def test_verdicts_are_those_of_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    called = re.search(r"`python -m studies\.verdicts ([^`]*)`", README)
    assert called
    assert verdict_table([Path(folder) for folder in called[1].split()]) in README
    with pytest.raises(UserError, match="no report on maps"):
        verdict_table([ROOT / "results"])


def test_maps_of_detectors_are_those_of_the_report() -> None:
    called = re.search(r"`python -m maps\.detector_brief ([^`]*)`", README)
    assert called
    assert as_markdown(brief_table(read_report(ROOT / called[1]))) in README


@pytest.mark.parametrize("name", ["cascade", "maps", "localisers", "detector", "step"])
def test_cost_table_is_the_generated_one(name: str) -> None:
    assert table((ROOT / "results" / f"{name}.json").read_text().splitlines()) in README


def test_demo_output_is_the_kept_one() -> None:
    assert (ROOT / "results" / "sample" / "summary.txt").read_text().rstrip() in README


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http)([^)#]+)\)", README))))
def test_links_lead_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_commands_are_understood(name: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(arguments, comments=True)])
    importlib.import_module(name).parse()


def test_commands_are_found() -> None:
    assert {name for name, _ in COMMANDS} == {"train", "val", "detect", "export", "study"}
