import json
from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml
from PIL import Image

from data.captions import contains, words
from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

IMAGES = [
    {"id": 7, "file_name": "000000000007.jpg"},
    {"id": 8, "file_name": "000000000008.jpg"},
    {"id": 9, "file_name": "no.jpg"},
]
CAPTIONS = [(7, "A dog, out of a window."), (7, "Dogs' day"), (8, "the Dog runs out")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for own in IMAGES[:2]:
        Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(tmp_path / "images" / str(own["file_name"]))
    save(tmp_path, IMAGES, CAPTIONS)
    return tmp_path


def save(root: Path, images: object, captions: list[tuple[int, str]]) -> None:
    entries = [{"id": place, "image_id": image, "caption": text} for place, (image, text) in enumerate(captions)]
    (root / "captions.json").write_text(json.dumps({"images": images, "annotations": entries}))


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "coco_captions", "train": "captions.json", "val": None, "test": None}
    keys |= {"images": "images", "names": ["a dog", "dog", "out of"]}
    return load_description(write_yaml(root / "d.yaml", **keys | changes))


def test_phrases_are_classes(root: Path) -> None:
    found = read_split(describe(root), "train", strict=True).records
    assert [own.classes.tolist() for own in found] == [[0, 1, 2], [1]]  # type: ignore[union-attr]
    assert [own.captions for own in found] == [("A dog, out of a window.", "Dogs' day"), ("the Dog runs out",)]


def test_ids_of_either_type(root: Path) -> None:
    save(root, [own | {"id": str(own["id"])} for own in IMAGES], CAPTIONS)
    assert [len(own.captions) for own in read_split(describe(root), "train").records] == [2, 1]


def test_words_follow_each_other() -> None:
    assert words("It's a dog's Day!") == ["it's", "a", "dog's", "day"]
    assert contains(["a", "dog", "runs"], ["dog", "runs"])
    assert not contains(["dog", "a", "runs"], ["dog", "runs"])


@pytest.mark.parametrize(
    ("images", "captions", "what"),
    [
        (IMAGES, [(9, "gone")], "captions of 1 pictures that do not exist, such as .*no.jpg"),
        (IMAGES, [(11, "who?")], "1 images have captions and no entry, such as 11"),
        (None, CAPTIONS, "no list `images`"),
    ],
)
def test_captions_that_fit_nothing(root: Path, images: object, captions: list[tuple[int, str]], what: str) -> None:
    save(root, images, captions)
    with pytest.raises(UserError, match=what):
        read_split(describe(root), "train")


def test_no_captions(root: Path) -> None:
    (root / "captions.json").write_text("{")
    with pytest.raises(UserError, match="is not valid JSON"):
        read_split(describe(root), "train")
    (root / "captions.json").write_text('{"images": [], "annotations": [{"id": 1}]}')
    with pytest.raises(UserError, match="entry 0 is without image_id and caption"):
        read_split(describe(root), "train")


def test_a_part_of_a_json(root: Path) -> None:
    parts = {7: "train", 8: "val", 9: "test"}
    save(root, [own | {"split": parts[int(str(own["id"]))]} for own in IMAGES], CAPTIONS)
    own = describe(root, train="captions.json#train", val="captions.json#val")
    assert [[record.number for record in read_split(own, name).records] for name in ("train", "val")] == [[7], [8]]


def test_no_such_json(root: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.json: there is no such file"):
        read_split(describe(root, train="gone.json", names=["dog"]), "train")
