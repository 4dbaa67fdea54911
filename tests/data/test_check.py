import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, SHARED, Script, write_yaml
from PIL import Image
from warm import Warm

from data import check
from data.description import load_description
from data.records import Split, make_record


def test_counts_names_and_draws(scenes: Path, scenes_yaml: Path, tmp_path: Path, script: Script,
                                capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    script(check, scenes_yaml, "--project", tmp_path)
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines() if "images," in line] == ["train", "val", "test"]
    assert "  images from 256×256 to 256×256 pixels" in said
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdecimal()]
    assert len(rows) == 30
    boxes = sum(text.count("<object>") for text in (path.read_text() for path in (scenes / "Annotations").iterdir()))
    assert sum(int(row[1]) for row in rows) == boxes
    folder = tmp_path / "check" / "exp"
    assert {path.name for path in folder.iterdir()} == {"train.jpg", "val.jpg", "test.jpg", "problems.txt"}
    with Image.open(folder / "train.jpg") as page:
        assert page.width > 1000


def test_names_that_are_no_utf_8(tmp_path: Path) -> None:
    """As old archives and network drives have them."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"this file system takes no such name: {error}")
    for name in ("a", "b"):
        Image.fromarray(np.zeros((20, 40, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    yaml = write_yaml(folder / "d.yaml", path=".", train=".", val=None, test=None, names=["a"], format="yolo")
    said, errors = tmp_path / "said", tmp_path / "errors"
    command = [ROOT / "data" / "check.py", yaml, "--project", tmp_path / "runs"]
    ended = Warm(*command, environment=os.environ, stdout=said, stderr=errors).end()
    assert (ended, errors.read_bytes()) == (0, b"")
    assert b"2 images, 1 box" in said.read_bytes()
    assert "caf\\udce9" in (tmp_path / "runs" / "check" / "exp" / "problems.txt").read_text()


def test_pictures_without_a_number(tmp_path: Path) -> None:
    Image.fromarray(np.full((9, 9), np.nan, np.float32)).save(tmp_path / "a.tif")
    description = load_description(write_yaml(tmp_path / "d.yaml", path=str(tmp_path)))
    split = Split("train", description, [make_record(tmp_path / "a.tif", (9, 9))])
    assert check.values(split) == ["  1 picture has no value that is a number"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
@pytest.mark.parametrize(("name", "images"), [("raccoon", (140, 20, 40)), ("coco_voc20", (137, 100))])
def test_real_sets(name: str, images: tuple[int, ...], tmp_path: Path, script: Script,
                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    script(check, ROOT / "data" / f"{name}.yaml", "--project", tmp_path, "--strict")
    counts = [line.split()[1] for line in capsys.readouterr().out.splitlines() if "images," in line]
    assert tuple(map(int, counts)) == images
    assert not (tmp_path / "check" / "exp" / "problems.txt").read_text()
