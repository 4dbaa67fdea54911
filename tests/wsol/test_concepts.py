import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import Script, Writer, write_yaml
from PIL import Image

from data import dmri_phantom, sample_questions
from data import written as written_words
from utils.errors import UserError
from wsol import concepts


@pytest.fixture
def captioned(tmp_path: Path) -> Path:
    """Twelve pictures: a bright square is called a moon; a caption with half of the phrase is neither."""
    draw, images, captions = np.random.default_rng(0), [], []
    for number in range(12):
        pixels = draw.integers(0, 60, (32, 32, 3), np.uint8)
        text = ("A bright moon.", "A dark wood", "A moon over the sea")[number % 3]
        if number % 3 == 0:
            pixels[8:24, 8:24] = 255
        Image.fromarray(pixels).save(tmp_path / f"{number:012d}.jpg")
        images.append({"id": number, "file_name": f"{number:012d}.jpg"})
        captions.append({"image_id": number, "id": number, "caption": text})
    (tmp_path / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    keys = {"path": str(tmp_path), "format": "coco_captions", "train": "captions.json", "val": None}
    return write_yaml(tmp_path / "d.yaml", **keys, test="captions.json", names=["bright moon", "owl"])


def test_tags_of_boxes(
    script: Script, written: Writer, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("--json", tmp_path / "concepts.json", "--pictures", tmp_path / "page.jpg", "--training", 7)
    script(concepts, "--weights", written("cl6", head="gap"), "--data", scenes_yaml, "--tags", "3", "5", *files)
    content = json.loads((tmp_path / "concepts.json").read_text())
    assert content["training"] == 7
    assert [own["concept"] for own in content["concepts"]] == ["3", "5"]
    assert all(0 < own["precision"] <= 1 and own["training"] for own in content["concepts"])
    assert all(0 < own["covered"] < 0.5 and 0 <= own["pointed"] <= 1 for own in content["concepts"])
    assert np.asarray(Image.open(tmp_path / "page.jpg")).std() > 0
    said = capsys.readouterr().out
    assert "7 of 8 training images" in said
    assert "pointed" in said


def test_tags_of_images(script: Script, written: Writer, corners_yaml: Path, tmp_path: Path) -> None:
    """A bright corner is found in features of random weights; without boxes nothing is said of places."""
    file = written("cl6", data=corners_yaml, imgsz=32, head="gap")
    script(concepts, "--weights", file, "--data", corners_yaml, "--json", tmp_path / "concepts.json")
    content = json.loads((tmp_path / "concepts.json").read_text())
    assert [own["concept"] for own in content["concepts"]] == ["nw", "ne", "sw", "se"]
    assert {own["boxes"] for own in content["concepts"]} == {None}
    assert np.mean([own["precision"] - own["chance"] for own in content["concepts"]]) > 0


def test_phrases_of_captions(
    script: Script, written: Writer, captioned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written("cl6", data=captioned, imgsz=32, head="gap")
    script(concepts, "--weights", file, "--data", captioned, "--json", tmp_path / "concepts.json")
    assert "not learned, because no training image has it, or none is without its words: owl" in capsys.readouterr().out
    (found,) = json.loads((tmp_path / "concepts.json").read_text())["concepts"]
    assert (found["concept"], found["training"], found["related"], found["held_out"]) == ("bright moon", 4, 4, 4)
    assert found["precision"] > 0.99
    (tmp_path / f"{3:012d}.jpg").unlink()
    with pytest.raises(UserError, match=r"captions of 1 pictures that do not exist, such as .*3\.jpg"):
        script(concepts, "--weights", file, "--data", captioned)


def test_printed_words(script: Script, written: Writer, tmp_path: Path) -> None:
    written_words.write(tmp_path / "words", texts=6, others=6)
    keys = {"path": str(tmp_path / "words"), "format": "folder_boxes", "train": "train", "val": None, "names": None}
    data = write_yaml(tmp_path / "words.yaml", **keys, test="test")
    file, more = written("cl6", data=data, head="gap"), ("--tags", "text", "--json", tmp_path / "a.json")
    script(concepts, "--weights", file, "--data", data, *more)
    (found,) = json.loads((tmp_path / "a.json").read_text())["concepts"]
    assert (found["training"], found["held_out"]) == (6, 2)
    assert 0 < found["covered"] < 0.4


def test_wrong_tags(script: Script, written: Writer, scenes_yaml: Path) -> None:
    with pytest.raises(UserError, match="--tags"):
        script(concepts, "--weights", written("cl6"), "--data", scenes_yaml, "--tags", "cat")


@pytest.mark.parametrize("module", [written_words, sample_questions, dmri_phantom])
def test_a_folder_with_something_in_it_is_not_replaced(module: ModuleType, script: Script, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UserError, match="holds something, which would be lost"):
        script(module, "--folder", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
