"""The page on adding to the project, followed word by word."""

import csv
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import DIGITS, ROOT, Script
from torch import nn

import train
import val
from data.description import load_description
from data.formats import FORMATS, read_split
from evaluation.classification import METRICS
from evaluation.detection_figures import FIGURES
from maps import explain
from maps.detector_kinds import DETECTOR_MAPS
from maps.kinds import MAPS
from maps.measures import MEASURES
from models.backbones import BACKBONES
from models.heads import HEADS
from utils import plugins
from utils.errors import UserError
from wsol.methods import METHODS

PAGE = (ROOT / "docs" / "extending.md").read_text()
SCRIPTS = {"train.py": train, "val.py": val}
TABLES = (BACKBONES, HEADS, MAPS, DETECTOR_MAPS, MEASURES, METRICS, FIGURES, METHODS, FORMATS)
ADDED = ("tiny", "middle", "darkness", "outside", "top2", "map60", "left-half", "rows")


@pytest.fixture
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is imported here is in the tables here alone."""
    monkeypatch.setattr(plugins, "LOADED", {})
    before = [dict(table) for table in TABLES]
    yield
    for table, own in zip(TABLES, before, strict=True):
        table.clear()
        table.update(own)


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def write_rows(folder: Path, scenes_yaml: Path) -> None:
    """The built-in scenes as the page's format has them."""
    description = load_description(scenes_yaml)
    for split in ("train", "val", "test"):
        with (folder / f"{split}.csv").open("w") as file:
            for record in read_split(description, split).records:
                for label, box in zip(record.labels, record.boxes_xyxy.tolist(), strict=True):
                    csv.writer(file).writerow([record.image, DIGITS[label], *box])
    content = {"path": ".", "format": "rows", "train": "train.csv", "val": "val.csv", "test": "test.csv"}
    (folder / "rows.yaml").write_text(yaml.safe_dump(content | {"names": DIGITS}))


@pytest.mark.usefixtures("_as_before")
def test_one_of_each_kind(
    scenes_yaml: Path,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("\n\n".join(blocks("python")))
    write_rows(tmp_path, scenes_yaml)
    small = ["--width", "0.5", "--imgsz", "64", "--device", "cpu", "--precision", "fp32", "--workers", "0"]
    said = ""
    for command in "".join(blocks("bash")).splitlines():
        name, *flags = shlex.split(command.removeprefix("python "))
        if "--help" in flags:
            with pytest.raises(SystemExit):
                script(SCRIPTS[name], *flags)
        else:
            more = small if name == "train.py" else ["--device", "cpu", "--bootstrap", 20]
            script(SCRIPTS[name], *flags, *more)
        said += capsys.readouterr().out
    assert "{darknet53,cnn6" in said
    assert re.search(r"--backbone \{[^}]*\btiny\b", said)
    assert ",middle}" in said
    folder = tmp_path / "runs" / "val"
    assert "map60" in json.loads((folder / "exp" / "metrics.json").read_text())
    assert "top-2 accuracy" in (folder / "exp2" / "accuracy.md").read_text()
    report = json.loads((folder / "exp3" / "localise.json").read_text())
    assert {"darkness", "baseline"} == {line["map"] for line in report["lines"]}
    assert all("outside" in line["measures"] for line in report["lines"])
    page = (folder / "exp3" / "report.html").read_text()
    assert "darkness of the image" in page
    assert "fraction of the region outside" in page
    rows = json.loads((folder / "exp4" / "localisers.json").read_text())["rows"]
    assert "left-half" in {row["method"] for row in rows}
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(explain(model, "0", images=images, kinds="darkness")["darkness", "0"], 1 - images.mean(1))
    added = [name for table in TABLES for name in table if name in ADDED]
    assert sorted(added) == sorted(ADDED)
    with pytest.raises(SystemExit):
        script(val, "--help", "--import", "mine.py")
    assert "left-half" in "".join(capsys.readouterr().out.split()), "argparse breaks lines at hyphens"


@pytest.mark.usefixtures("_as_before")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('hello')", "prints while it is imported: 'hello'"),
        ("import torch\ntorch.ones(1, requires_grad=True).sum().backward()", "trains while it is imported"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("def f(:", "SyntaxError"),
        (
            "from models.backbones import BACKBONES\nBACKBONES.add(BACKBONES['cnn6'])",
            "there is a backbone 'cnn6' already",
        ),
    ],
)
def test_what_may_not_be_imported(text: str, message: str, tmp_path: Path, script: Script) -> None:
    file = tmp_path / "odd.py"
    file.write_text(text)
    with pytest.raises(UserError, match=re.escape(message)):
        script(train, "--import", file, "--dry-run")


ADDS = """
from dataclasses import replace
from models.backbones import BACKBONES
BACKBONES.add(replace(BACKBONES["cnn6"], name="mine", title="{title}"))
"""


@pytest.mark.usefixtures("_as_before")
def test_an_edited_import_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    for title in ("one", "one", "two"):
        file.write_text(ADDS.format(title=title))
        plugins.load([file])
        assert BACKBONES["mine"].title == title
    file.write_text("")
    plugins.load([file])
    assert "mine" not in BACKBONES


@pytest.mark.usefixtures("_as_before")
def test_an_import_that_fails_halfway_adds_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(ADDS + "1 / 0")
    for _ in range(2):
        with pytest.raises(UserError, match="ZeroDivisionError"):
            plugins.load([file])
        assert "mine" not in BACKBONES
    file.write_text(ADDS)
    plugins.load([file])
    assert "mine" in BACKBONES


def test_a_missing_import_is_named(script: Script, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        script(train, "--import", tmp_path / "none.py")
