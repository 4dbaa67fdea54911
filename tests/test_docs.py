"""The page for a person's own data, followed word by word."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT, Script

import detect
import export
import train
import val
from data import check
from data.description import load_description
from data.formats import read_split
from utils.boxes import xyxy_to_cxcywh

PAGE = (ROOT / "docs" / "own_data.md").read_text()
SCRIPTS = {"train.py": train, "val.py": val, "detect.py": detect, "export.py": export, "data.check": check}
DIGITS = [*"0123456789"]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def place(folder: Path, scenes_yaml: Path, kind: str) -> None:
    """A person's folder, out of built-in scenes."""
    (folder / "photos").mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, record in enumerate(read_split(load_description(scenes_yaml), "train").records * 2):
        stem = "one" if number == 0 else f"picture {number}"
        (folder / "photos" / f"{stem}.jpg").write_bytes(record.image.read_bytes())
        if kind == "voc":
            notes = record.image.parent.parent / "Annotations" / f"{record.image.stem}.xml"
            text = notes.read_text().replace(record.image.name, f"{stem}.jpg")
            (folder / "labels" / f"{stem}.xml").write_text(text)
        else:
            shares = xyxy_to_cxcywh(torch.from_numpy(record.boxes_xyxy)) / torch.tensor(record.size_hw[::-1] * 2)
            rows = zip(record.labels.tolist(), shares.tolist(), strict=True)
            text = "".join(f"{label} {' '.join(map(str, box))}\n" for label, box in rows)
            (folder / "labels" / f"{stem}.txt").write_text(text)


@pytest.mark.usefixtures("older_exporter")
@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_own_data(
    kind: str,
    scenes_yaml: Path,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place(tmp_path / "mine", scenes_yaml, kind)
    voc, changes = map(yaml.safe_load, blocks("yaml"))
    content = (voc if kind == "voc" else voc | changes) | {"names": DIGITS}
    (tmp_path / "mine" / "data.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.chdir(tmp_path)
    for command in "".join(blocks("bash")).splitlines():
        name, *flags = shlex.split(command.removeprefix("python ").removeprefix("-m "))
        if "--epochs 100" in command:
            flags.append("--dry-run")  # the one that takes hours
        if name != "export.py" or kind == "yolo":  # once is enough
            script(SCRIPTS[name], *flags)
    assert ("largest difference" in capsys.readouterr().out) == (kind == "yolo")
    assert list((tmp_path / "runs" / "check").rglob("*.jpg"))
    assert (tmp_path / "runs" / "val" / "exp" / "predictions.jpg").exists()
    assert len(list((tmp_path / "runs" / "detect" / "exp2" / "labels").glob("*.txt"))) == 16
    (python,) = blocks("python")
    exec(compile(python, "own_data.md", "exec"), {})


def test_page_is_one_page() -> None:
    assert len(PAGE.splitlines()) < 120
