import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Script, Writer, write_yaml
from PIL import Image

from data.description import load_description
from data.formats import read_split
from data.masks import with_masks
from data.records import make_record
from evaluation.accuracy import read_backbones
from utils.errors import UserError
from wsol import informative


@pytest.fixture
def scenes_csv(scenes: Path, tmp_path: Path) -> Path:
    """Every other picture is called a desk."""
    names = sorted(path.stem for path in (scenes / "JPEGImages").glob("*.jpg"))
    rows = [f"{name},{'desk' if number % 2 else 'wall'}" for number, name in enumerate(names)]
    (tmp_path / "scenes.csv").write_text("\n".join(["image,scene", *rows]))
    return tmp_path / "scenes.csv"


def test_scenes_of_a_csv(
    script: Script,
    written: Writer,
    scenes_yaml: Path,
    scenes_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = ("--json", tmp_path / "a.json", "--pictures", tmp_path / "a.jpg", "--masks", "--training", 6)
    file = written("e2e", k=1, head="author")
    script(informative, "--weights", file, "--data", scenes_yaml, "--scenes", scenes_csv, *files)
    found = json.loads((tmp_path / "a.json").read_text())["scenes"]
    assert set(found) <= {"desk", "wall"}
    for own in (one for objects in found.values() for one in objects):
        assert 0 <= own["overlapping"] <= own["frequency"] <= 1
    assert np.asarray(Image.open(tmp_path / "a.jpg")).std() > 0
    assert "6 training and 4 held-out images of 2 scenes" in capsys.readouterr().out


def test_the_networks_own_classes(script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path) -> None:
    script(informative, "--weights", written("e2e", k=1, head="gap"), "--data", scenes_yaml, "--json", tmp_path / "a")
    assert json.loads((tmp_path / "a").read_text())["scenes"]
    with pytest.raises(UserError, match="its classifier has no class maps"):
        script(informative, "--weights", written("e2e", k=1), "--data", scenes_yaml)


def test_images_without_objects_are_images_of_their_scene(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path
) -> None:
    """The same pictures, half of them without their boxes: no object is as frequent as before."""
    file, found = written("e2e", k=1, head="gap"), []
    for empty in (0, 2):
        root = tmp_path / f"{empty}"
        shutil.copytree(read_split(load_description(scenes_yaml), "test").description.root, root)
        for path in sorted((root / "Annotations").glob("test_*.xml"))[:empty]:
            path.write_text(re.sub(r"<object>.*</object>", "", path.read_text(), flags=re.DOTALL))
        data = write_yaml(tmp_path / f"{empty}.yaml", path=str(root))
        script(informative, "--weights", file, "--data", data, "--json", root / "a.json")
        rows = json.loads((root / "a.json").read_text())["scenes"].values()
        found.append(sum(one["frequency"] for own in rows for one in own))
    assert 0 < found[1] < found[0]


def test_masks_lie_where_the_boxes_do(written: Writer, scenes_yaml: Path) -> None:
    """The built-in scenes are square: their masks only change their size."""
    view = read_backbones([written("e2e", k=1)])[0].view
    record = with_masks(read_split(load_description(scenes_yaml), "test")).records[0]
    mask = informative.mask_at(record, view)
    assert mask is not None
    assert mask.shape == (view.imgsz, view.imgsz)
    for box, label in zip(record.boxes_xyxy * view.imgsz / record.size_hw[0], record.labels, strict=True):
        x1, y1, x2, y2 = box.round().astype(int)
        assert (mask[y1:y2, x1:x2] == label + 1).mean() > 0.2


@pytest.mark.parametrize("text", ["image,scene\nelse,desk\n", "picture,place\n", ""])
def test_a_csv_that_fits_nothing(text: str, written: Writer, scenes_yaml: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text(text)
    records = read_split(load_description(scenes_yaml), "test").records
    with pytest.raises(UserError, match="names the scene of an image"):
        informative.read_scenes(tmp_path / "s.csv", records, tmp_path)


def test_names_in_several_folders(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("train/text/0001.jpg", "train/other/0001.jpg", "train/other/2.5.jpg")]
    records, csv = [make_record(path, (9, 9)) for path in places], tmp_path / "s.csv"
    csv.write_text("image,scene\ntrain/text/0001.jpg,desk\ntrain\\other\\0001,wall\n2.5,desk\n")
    assert informative.read_scenes(csv, records, tmp_path) == dict(zip(places, ("desk", "wall", "desk"), strict=True))
    csv.write_text("image,scene\n0001.jpg,desk\n")
    with pytest.raises(UserError, match=r"s.csv:2: `0001.jpg` is the name of 2 images — .* as train/text/0001.jpg"):
        informative.read_scenes(csv, records, tmp_path)
