from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, write_yaml
from PIL import Image

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError


def add(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(path, "JPEG")


def rows(path: Path, *lines: tuple[object, ...]) -> None:
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes: two and one training images, two of val."""
    for name in ("train/n02/images/n02_0", "train/n02/images/n02_1", "train/n01/images/n01_0"):
        add(tmp_path / f"{name}.JPEG")
    rows(tmp_path / "train/n02/n02_boxes.txt", ("n02_0.JPEG", 0, 10, 63, 62), ("n02_1.JPEG", 63, 3, 63, 9))
    rows(tmp_path / "train/n01/n01_boxes.txt", ("n01_0.JPEG", 3, 4, 4, 5))
    for name in ("val_0", "val_1"):
        add(tmp_path / "val" / "images" / f"{name}.JPEG")
    rows(tmp_path / "val/val_annotations.txt", ("val_0.JPEG", "n01", 0, 0, 63, 63), ("val_1.JPEG", "n02", 1, 2, 31, 41))
    (tmp_path / "wnids.txt").write_text("n02\nn01\n")
    (tmp_path / "words.txt").write_text("n01\tcat\nn02\tdog\n")
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "tiny_imagenet", "val": None, "test": "val", "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_boxes_become_half_open_and_a_bad_one_leaves_its_image(root: Path) -> None:
    description = describe(root)
    assert description.names == ["n01", "n02"]
    found = read_split(description, "train")
    assert [record.boxes_xyxy.tolist() for record in found.records] == [[[3, 4, 5, 6]], [[0, 10, 64, 63]], []]
    assert [record.labels.tolist() for record in found.records] == [[0], [1], []]
    assert [record.classes.tolist() for record in found.records] == [[0], [1], [1]]  # type: ignore[union-attr]
    assert [(Path(problem.where).name, problem.what) for problem in found.problems] == [
        ("n02_boxes.txt:2", "box of zero size (63, 3, 63, 9)")
    ]


def test_val_is_a_list(root: Path) -> None:
    records = read_split(describe(root), "test", strict=True).records
    assert [record.boxes_xyxy.tolist() for record in records] == [[[0, 0, 64, 64]], [[1, 2, 32, 42]]]
    assert [record.classes.tolist() for record in records] == [[0], [1]]  # type: ignore[union-attr]


@pytest.mark.parametrize("box", [(1, 2, 3), (1, 2, 3, "x"), (), (70, 70, 80, 80)])
def test_damaged_box(root: Path, box: tuple[object, ...]) -> None:
    rows(root / "val/val_annotations.txt", ("val_0.JPEG", "n01", *box))
    found = read_split(describe(root), "test")
    assert len(found.problems) == 1
    assert found.records[0].classes.tolist() == [0]  # type: ignore[union-attr]


def test_missing_images(root: Path) -> None:
    rows(root / "val/val_annotations.txt", ("gone.JPEG", "n01", 0, 0, 9, 9), ("val_1.JPEG", "n02", 1, 2, 31, 41))
    found = read_split(describe(root), "test")
    assert (len(found.records), [Path(problem.where).name for problem in found.problems]) == (1, ["gone.JPEG"])
    lines = [(f"gone_{number}.JPEG", "n01", 0, 0, 9, 9) for number in range(100)]
    rows(root / "val/val_annotations.txt", ("val_1.JPEG", "n02", 1, 2, 31, 41), *lines)
    found = read_split(describe(root), "test")
    assert [problem.what for problem in found.problems] == ["100 images do not exist, the first is gone_0.JPEG"]


def test_class_outside_the_names_has_its_line(root: Path) -> None:
    with pytest.raises(UserError, match=r"val_annotations\.txt:2: label `n02` is not in `names`"):
        read_split(describe(root, names=["n01"]), "test")


def test_splits_that_are_not_there(root: Path) -> None:
    with pytest.raises(UserError, match="Tiny ImageNet has labels for `train` and `val`, not for `test`"):
        read_split(describe(root, test="test"), "test")
    (root / "val/val_annotations.txt").unlink()
    with pytest.raises(UserError, match=r"val_annotations\.txt: cannot be read"):
        read_split(describe(root), "test")
    (root / "wnids.txt").unlink()
    with pytest.raises(UserError, match=r"wnids\.txt: cannot be read"):
        describe(root)
    with pytest.raises(UserError, match=r"_boxes\.txt here"):
        read_split(describe(root, path=str(root / "val"), names=["n01"]), "train")


@pytest.mark.skipif(not (SHARED / "tiny_imagenet").exists(), reason="Tiny ImageNet is not beside this checkout")
def test_a_real_archive(tmp_path: Path) -> None:
    archives = [str(SHARED / "tiny_imagenet" / "tiny_imagenet_val.tar")]
    description = describe(tmp_path, path="tiny-imagenet-200", archives=archives)
    assert len(description.names) == 200
    assert description.names == sorted(description.names)
    found = read_split(description, "test")
    classes = np.concatenate([record.classes for record in found.records])  # type: ignore[misc]
    assert np.bincount(classes).tolist() == [50] * 200
    assert len(found.problems) == 41
    assert all("zero size" in problem.what for problem in found.problems)
    boxes = np.concatenate([record.boxes_xyxy for record in found.records])
    assert len(boxes) == 10_000 - 41
    assert (boxes[:, :2].min(), boxes[:, 2:].max()) == (0, 64)
    assert ((boxes[:, :2] == 0).all(1) & (boxes[:, 2:] >= 63).all(1)).sum() == 590
