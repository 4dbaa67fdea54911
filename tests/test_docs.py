"""What README and documentation show is what the project does."""

import importlib
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from benchmarks.table import table
from maps.detector_brief import brief_table, read_report
from models.backbones import make_backbone
from models.plan import make_plan, plan_table
from studies import across, reference, reference_flags
from studies.verdicts import difference_table, verdict_table
from utils.errors import UserError
from utils.flags import recipe_flags
from utils.recipes import build, read_yaml
from utils.tables import NAMES
from utils.text import as_markdown

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted(DOCS.glob("*.md"))} | {"README.md": README}
SITE = (ROOT / "mkdocs.yml").read_text()
SCRIPTS = ("train", "val", "detect", "export", "study")
COMMANDS = sorted(
    {
        (script, arguments.split("  #")[0].strip())
        for text in PAGES.values()
        for script, arguments in re.findall(r"^python (\w+)\.py(.*)$", text, re.MULTILINE)
    }
)
MODULES = sorted({name for text in PAGES.values() for name in re.findall(r"python -m ([a-z_.]*[a-z])\b(?!\.…)", text)})
LINKS = sorted(
    {
        (name, target)
        for name, text in PAGES.items()
        if name not in ("changelog.md", "ledger.md", "zoo.md")
        for target in re.findall(r"\]\((?!http|#)([^)#]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    }
)


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 1500


def test_readme_table_is_the_generated_one() -> None:
    parts = (ROOT / "results" / "cifar10_cnn6" / "accuracy.md").read_text().split("\n\n")
    assert next(part for part in parts if part.startswith("| top-1 accuracy")) in README


def test_plan_is_the_printed_one() -> None:
    backbone = make_backbone("darknet53")
    assert plan_table(make_plan(backbone, 3, 256), backbone.taps) in PAGES["cascade.md"]


@pytest.mark.parametrize("path", sorted((ROOT / "results").glob("*.json")), ids=lambda path: path.stem)
def test_cost_tables_are_the_generated_ones(path: Path) -> None:
    made = path.with_suffix(".md")
    if made.exists() and made.read_text().startswith("| figure"):
        assert table(path.read_text().splitlines()) + "\n" == made.read_text()


def test_verdicts_are_those_of_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    called = re.search(r"`python -m studies\.verdicts (results[^`]*)`", PAGES["found_maps.md"])
    assert called
    made = verdict_table([Path(folder) for folder in called[1].split()])
    assert made + "\n" == (ROOT / "results" / "verdicts.md").read_text()
    with pytest.raises(UserError, match=r"localise\.json: cannot be read: No such file"):
        verdict_table([ROOT / "results"])


def test_differences_are_those_of_the_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    called = re.findall(r"`python -m studies\.verdicts --differences (\w+) ([^`]*)`", PAGES["found_maps.md"])
    assert len(called) == 2
    for measure, given in called:
        folders = [Path(folder) for folder in given.split()]
        published = folders[0].parent.with_suffix(".md")
        assert difference_table(folders, measure) + "\n" == published.read_text()


def test_differences_of_detectors_are_those_of_the_studies() -> None:
    called = re.search(r"`python -m studies\.across ([^`]*)`", PAGES["table1.md"])
    assert called
    path = ROOT / called[1]
    made = across.table(build(across.AcrossYaml, read_yaml(path), path), ROOT / "results", ROOT / "configs" / "studies")
    assert made.strip() in PAGES["table1.md"]


def test_maps_of_detectors_are_those_of_the_report() -> None:
    called = re.search(r"`python -m maps\.detector_brief ([^`]*)`", PAGES["found_maps.md"])
    assert called
    made = as_markdown(brief_table(read_report(ROOT / called[1])))
    assert made.strip() == (ROOT / "results" / "detector_maps" / "brief.md").read_text().strip()


def test_reference_is_made_from_tables_and_models() -> None:
    assert PAGES["reference.md"] == reference.page()
    assert NAMES.read_text() == reference.names()
    assert PAGES["flags.md"] == reference_flags.flags_page()
    assert PAGES["recipe_keys.md"] == reference_flags.recipe_page()


def test_reference_has_every_flag_and_key() -> None:
    for command in SCRIPTS:
        for action in reference_flags.parser_of(command)._actions:
            assert all(f"`{name}`" in PAGES["flags.md"] for name in action.option_strings)
    for flag, _, key, _ in recipe_flags():
        assert f"| `{key}` | `{flag}` |" in PAGES["recipe_keys.md"]


@pytest.mark.parametrize("module", ["training", "deployment", "maps", "models"])
def test_reference_has_every_public_function(module: str) -> None:
    for name in importlib.import_module(module).__all__:
        assert re.search(rf"^::: [a-z_.]*\b{name}$", PAGES["api.md"], re.MULTILINE), f"{module}.{name}"


def test_reference_has_what_guides_import() -> None:
    lines = re.findall(
        r"^from ((?:models|data|maps|wsol|evaluation|training|deployment)[\w.]*) import (.+)$",
        "\n".join(text for name, text in PAGES.items() if name not in ("extending.md", "api.md")),
        re.MULTILINE,
    )
    names = {name.strip() for _, own in lines for name in own.split(",")}
    assert {"load_segmenter", "finite_differences"} <= names
    assert not [name for name in names if not re.search(rf"^::: [a-z_.]*\b{name}$", PAGES["api.md"], re.MULTILINE)]


@pytest.mark.parametrize(("page", "target"), LINKS)
def test_links_lead_somewhere(page: str, target: str) -> None:
    folder = ROOT if page == "README.md" or target.startswith("/") else DOCS
    assert (folder / target.lstrip("/")).exists()


def test_every_page_is_in_the_navigation() -> None:
    assert {name for name in PAGES if name != "README.md"} == set(
        re.findall(r"- ([a-z_0-9]+\.md)$", SITE, re.MULTILINE)
    )


@pytest.mark.parametrize(("name", "arguments"), COMMANDS)
def test_commands_are_understood(name: str, arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *shlex.split(arguments, comments=True)])
    if "--import" not in arguments:  # the page on extending is followed word by word in a test of its own
        importlib.import_module(name).parse()


@pytest.mark.parametrize("module", MODULES)
def test_modules_are_there(module: str) -> None:
    if not module.startswith(("pip", "venv", "http")):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").exists()


def test_commands_are_found() -> None:
    assert {name for name, _ in COMMANDS} == set(SCRIPTS)


def numbers_in(content: object) -> Iterator[str]:
    """Every number of a json, as pages have it."""
    if isinstance(content, dict | list):
        for own in content.values() if isinstance(content, dict) else content:
            yield from numbers_in(own)
    elif isinstance(content, int | float):
        yield f"{content:.3f}"


def test_fractions_of_a_page_are_those_of_its_files() -> None:
    folder = ROOT / "results" / "cam"
    known = {number for path in folder.glob("*.json") for number in numbers_in(json.loads(path.read_text()))}
    page = re.sub(r"`[^`]*`", "", (folder / "README.md").read_text())
    found = re.findall(r"\b0\.\d{3}\b", page)
    assert len(found) > 20
    assert not [number for number in found if number not in known]


def figures_in(text: str) -> set[str]:
    """`mean ± spread` and `mean [low, high]`, with one kind of signs."""
    plain = text.replace("−", "-").replace("+", "")
    return set(re.findall(r"-?\d\.\d{3} (?:± \d\.\d{3}|\[[-\d.]+, [-\d.]+\])", plain))


def test_figures_of_the_readme_are_those_of_the_pages() -> None:
    linked = [ROOT / target for own, target in LINKS if own == "README.md" and target.endswith(".md")]
    tables = [ROOT / "results" / "cifar10_cnn6" / "accuracy.md", ROOT / "results" / "vocs_maps.md"]
    found = figures_in(README)
    assert len(found) > 20
    assert found <= figures_in("\n".join(path.read_text() for path in linked + tables))
