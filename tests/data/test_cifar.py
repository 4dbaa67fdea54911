import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, SHARED, write_yaml

from data.description import Description, load_description
from data.formats import read_split
from utils.errors import UserError

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUNDRED = [f"fine{number}" for number in range(100)]
PLANES = np.random.default_rng(0).integers(0, 256, (12, 3072), np.uint8)
LABELS = np.arange(12) % 10


def describe(root: Path, **changes: object) -> Description:
    keys = {"path": str(root), "format": "cifar", "val": None, "names": None}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def write_binary_10(root: Path) -> None:
    rows = np.concatenate([LABELS[:, None].astype(np.uint8), PLANES], 1)
    for number in range(5):
        rows[2 * number : 2 * number + 2].tofile(root / f"data_batch_{number + 1}.bin")
    rows[10:].tofile(root / "test_batch.bin")
    (root / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")


def write_binary_100(root: Path) -> None:
    rows = np.concatenate([np.full((12, 1), 77, np.uint8), LABELS[:, None].astype(np.uint8), PLANES], 1)
    rows[:10].tofile(root / "train.bin")
    rows[10:].tofile(root / "test.bin")
    (root / "fine_label_names.txt").write_text("\n".join(HUNDRED))


def python2(value: Any) -> Any:
    """What Python 2's str are when they are read as bytes."""
    if isinstance(value, dict):
        return {python2(key): python2(item) for key, item in value.items()}
    if isinstance(value, list):
        return [python2(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def dump(path: Path, value: Any, protocol: int) -> None:
    path.write_bytes(pickle.dumps(python2(value) if protocol == 2 else value, protocol))


def write_python_10(root: Path, protocol: int) -> None:
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        content = {"data": PLANES[part], "labels": LABELS[part].tolist(), "filenames": ["a.png", "b.png"]}
        dump(root / f"data_batch_{number + 1}", content, protocol)
    dump(root / "test_batch", {"data": PLANES[10:], "labels": LABELS[10:].tolist()}, protocol)
    dump(root / "batches.meta", {"label_names": TEN, "num_vis": 3072}, protocol)


def write_python_100(root: Path, protocol: int) -> None:
    for name, part in (("train", slice(10)), ("test", slice(10, 12))):
        content = {"data": PLANES[part], "fine_labels": LABELS[part].tolist(), "coarse_labels": [7] * 12}
        dump(root / name, content, protocol)
    dump(root / "meta", {"fine_label_names": HUNDRED, "coarse_label_names": ["c"] * 20}, protocol)


def write_npz(root: Path, **changes: np.ndarray) -> None:
    images = PLANES.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    labels = LABELS.astype(np.uint8)
    content = {"x_train": images[:10], "y_train": labels[:10], "x_test": images[10:], "y_test": labels[10:]}
    np.savez_compressed(root / "part.npz", **(content | {"classes": np.array(TEN)} | changes))


WRITERS = {
    "binary 10": (write_binary_10, TEN),
    "binary 100": (write_binary_100, HUNDRED),
    "python 10": (lambda root: write_python_10(root, 2), TEN),
    "python 10, new": (lambda root: write_python_10(root, 5), TEN),
    "python 100": (lambda root: write_python_100(root, 2), HUNDRED),
    "npz": (write_npz, TEN),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_published_form_says_the_same(tmp_path: Path, kind: str) -> None:
    write, names = WRITERS[kind]
    write(tmp_path)
    description = describe(tmp_path)
    assert description.names == names
    train, test = (read_split(description, split, strict=True).records for split in ("train", "test"))
    assert [record.classes.tolist() for record in train + test] == [[label] for label in LABELS]  # type: ignore[union-attr]
    for record, planes in zip(train + test, PLANES, strict=True):
        assert record.pixels is not None
        assert record.size_hw == record.pixels.shape[:2] == (32, 32)
        assert record.pixels[5, 7].tolist() == planes.reshape(3, 32, 32)[:, 5, 7].tolist()
    assert test[1].image.name.endswith("#1")
    assert test[1].boxes_xyxy.shape == (0, 4)


def test_names_of_the_yaml_set_the_order(tmp_path: Path) -> None:
    write_binary_10(tmp_path)
    records = read_split(describe(tmp_path, names=TEN[::-1]), "test").records
    assert [record.classes.tolist() for record in records] == [[9], [8]]  # type: ignore[union-attr]


def test_class_outside_the_names(tmp_path: Path) -> None:
    write_binary_10(tmp_path)
    with pytest.raises(UserError, match=r"data_batch_1\.bin: label `airplane` is not in `names`"):
        read_split(describe(tmp_path, names=TEN[1:]), "train")


def test_binary_file_cut_short(tmp_path: Path) -> None:
    write_binary_10(tmp_path)
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"data_batch_3\.bin: 6145 bytes are no whole number of rows of 3073"):
        read_split(describe(tmp_path), "train")
    path.unlink()
    with pytest.raises(UserError, match=r"data_batch_3\.bin: the file does not exist"):
        read_split(describe(tmp_path), "train")


def test_label_out_of_range_names_the_row(tmp_path: Path) -> None:
    write_npz(tmp_path, y_test=np.array([1, 10]))
    with pytest.raises(UserError, match=r"part\.npz#1: label 10 with 10 classes"):
        read_split(describe(tmp_path), "test")


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("where", ["batches.meta", "test_batch"])
def test_a_pickle_runs_nothing(tmp_path: Path, where: str) -> None:
    write_python_10(tmp_path, 2)
    (tmp_path / where).write_bytes(pickle.dumps({"data": Harm(tmp_path / "harm")}))
    with pytest.raises(UserError, match=r"is no pickle of plain values and arrays \(it asks for \w+\.mkdir\)"):
        read_split(describe(tmp_path), "test")
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([1, 2], "holds a list instead of a dict"),
        ({"labels": [1]}, "`data` is not uint8"),
        ({"data": PLANES.astype(float), "labels": [1] * 12}, "`data` is not uint8"),
        ({"data": PLANES}, "`labels` is no list"),
        ({"data": PLANES, "labels": ["1"] * 12}, "`labels` is no list"),
        ({"data": PLANES, "labels": [1]}, r"labels \[1\] for 12 images"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, content: Any, what: str) -> None:
    write_python_10(tmp_path, 2)
    dump(tmp_path / "test_batch", content, 2)
    with pytest.raises(UserError, match=what):
        read_split(describe(tmp_path), "test")


@pytest.mark.parametrize("damage", [b"", b"\x80\x04garbage", pickle.dumps({"label_names": TEN})[:-9]])
def test_damaged_pickles(tmp_path: Path, damage: bytes) -> None:
    write_python_10(tmp_path, 2)
    (tmp_path / "batches.meta").write_bytes(damage)
    with pytest.raises(UserError, match="is no pickle"):
        describe(tmp_path)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"x_test": np.zeros((2, 32, 32), np.uint8)}, "instead of uint8"),
        ({"x_test": np.zeros((2, 32, 32, 3))}, "images of float64"),
        ({"y_test": np.zeros(3, int)}, r"labels \[3\] for 2 images"),
        ({"y_test": np.zeros(2)}, "float64 labels"),
        ({"y_test": np.array([{}, {}])}, "`y_test` cannot be read"),
    ],
)
def test_npz_of_something_else(tmp_path: Path, changes: dict[str, np.ndarray], what: str) -> None:
    write_npz(tmp_path, **changes)
    with pytest.raises(UserError, match=what):
        read_split(describe(tmp_path), "test")


def test_npz_without_names_or_damaged(tmp_path: Path) -> None:
    np.savez(tmp_path / "part.npz", x_train=PLANES)
    with pytest.raises(UserError, match="no array `classes`"):
        describe(tmp_path)
    content = (tmp_path / "part.npz").read_bytes()
    (tmp_path / "part.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="`classes` cannot be read"):
        describe(tmp_path)
    (tmp_path / "other.npz").touch()
    with pytest.raises(UserError, match=r"several \.npz files: other\.npz, part\.npz"):
        describe(tmp_path)


def test_no_cifar(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no CIFAR files here"):
        describe(tmp_path)
    write_binary_10(tmp_path)
    with pytest.raises(UserError, match="CIFAR has no split `valid`"):
        read_split(describe(tmp_path, val="valid"), "val")


@pytest.mark.skipif(not (SHARED / "cifar10").exists(), reason="the CIFAR-10 part is not beside this checkout")
def test_real_part() -> None:
    description = load_description(ROOT / "data" / "cifar10.yaml")
    assert description.names == TEN
    for split, each in (("train", 1000), ("test", 200)):
        found = read_split(description, split, strict=True)
        assert found.summary() == f"{split}: {10 * each} images, 10 classes, 0 left out"
        classes = np.concatenate([record.classes for record in found.records])  # type: ignore[misc]
        assert np.bincount(classes).tolist() == [each] * 10
        if split == "train":
            mean = np.mean([record.pixels.mean((0, 1)) for record in found.records], 0)  # type: ignore[union-attr]
            np.testing.assert_allclose(mean, [125.2, 122.8, 113.9], atol=0.06)
