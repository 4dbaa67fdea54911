"""What the README shows is what the project does."""

import importlib
import re
import shlex
import sys

import pytest
from conftest import ROOT

from benchmarks.table import table
from models.backbones import make_backbone
from models.plan import make_plan, plan_table

README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^python ([a-z]+)\.py(.*)$", README, re.MULTILINE)


def test_plan_is_the_printed_one() -> None:
    backbone = make_backbone("darknet53")
    assert plan_table(make_plan(backbone, 3, 256), backbone.taps) in README


def test_seeds_table_is_the_generated_one() -> None:
    assert (ROOT / "results" / "sample_seeds.md").read_text().strip() in README


@pytest.mark.parametrize("name", ["cifar10_cnn6", "tiny_imagenet_cnn6"])
def test_study_table_is_the_generated_one(name: str) -> None:
    report = (ROOT / "results" / name / "accuracy.md").read_text()
    table = next(part for part in report.split("\n\n") if part.startswith("| top-1 accuracy"))
    assert table in README


def test_cost_table_is_the_generated_one() -> None:
    assert table((ROOT / "results" / "cascade.json").read_text().splitlines()) in README


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
