import errno
import pickle
import random
import subprocess
import zipfile
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from models.backbones import make_backbone
from models.trained import load_trained
from models.yolov3 import YOLOv3
from training.backbone import reuse_backbone
from training.check import show_cuts
from training.inputs import gather
from training.loop import Position
from utils import checkpoint
from utils.config import Recipe
from utils.contents import Within
from utils.errors import UserError


class Innocent:
    """Stands for code in a pickle."""


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"kind": "detector", "names": ["a"], "model": {"w": torch.arange(3.0)}})
    plain = torch.load(path, weights_only=True)
    content = checkpoint.load(path, "detector")
    assert torch.equal(content["model"]["w"], plain["model"]["w"])
    assert content["names"] == ["a"]
    assert content["commit"]
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


def spoil(path: Path, how: str) -> None:
    checkpoint.save(path, {"kind": "detector", "model": {"w": torch.zeros(1000)}})
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "bare pickle":
        path.write_bytes(pickle.dumps(Innocent()))
    elif how == "pickle":
        torch.save({"kind": "detector", "model": Innocent()}, path)
    elif how == "text":
        path.write_text("hello")
    elif how == "empty":
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("truncated", "truncated"),
        ("bare pickle", "pickle"),
        ("pickle", "pickle"),
        ("text", "is not a checkpoint"),
        ("empty", "is not a checkpoint"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, how: str, what: str) -> None:
    spoil(tmp_path / "a.pt", how)
    with pytest.raises(UserError, match=what) as error:
        checkpoint.load(tmp_path / "a.pt", "detector")
    assert "\n" not in str(error.value)


def test_a_changed_byte_is_seen_wherever_it_is(tmp_path: Path) -> None:
    """Anything but the padding between two parts, which says nothing."""
    path, draw = tmp_path / "a.pt", random.Random(0)
    checkpoint.save(path, {"kind": "detector", "names": ["a"], "model": {"w": torch.arange(200.0)}})
    whole, refused = path.read_bytes(), 0
    for at in draw.sample(range(len(whole)), 150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
        try:
            found = checkpoint.load(path, "detector")
        except UserError:
            refused += 1
        else:
            assert torch.equal(found["model"]["w"], torch.arange(200.0))
            assert found["names"] == ["a"]
    assert refused > 100


def test_an_archive_that_unfolds_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.save(tmp_path / "a.pt", {"kind": "detector", "model": {"w": torch.zeros(5_000_000)}})
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as source,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in source.namelist():
            bomb.writestr(name, source.read(name))
    assert (tmp_path / "b.pt").stat().st_size < 100_000
    monkeypatch.setenv("CASCADE_MAX_CHECKPOINT", "0.01")
    checkpoint.load(tmp_path / "a.pt", "detector")
    with pytest.raises(UserError, match=r"unpacks to 0\.0.* GiB, more than 0\.01; read it with --max-checkpoint"):
        checkpoint.load(tmp_path / "b.pt", "detector")


NINE = [[1.0, 2.0]] * 9


@pytest.mark.parametrize(
    ("kind", "key", "value", "what"),
    [
        ("detector", "anchors", NINE[1:], "`anchors` is .* at least 9 items"),
        ("detector", "anchors", [*NINE[1:], [1.0, float("nan")]], "`anchors.8.1` is nan"),
        ("detector", "names", [], "`names` is"),
        ("detector", "names", "cat", "`names` is 'cat'"),
        ("detector", "imgsz", 33, "`imgsz` is 33"),
        ("detector", "imgsz", 2**30, "`imgsz` is 1073741824"),
        ("detector", "width", -1.0, "`width` is -1"),
        ("detector", "recipe", {"data": 3}, "`recipe.data` is 3"),
        ("detector", "model", {"w": torch.tensor([1, float("nan")])}, r"`model\.w` holds numbers that are not finite"),
        ("detector", "model", {"w": torch.zeros(1).expand(2**40)}, r"`model\.w` is no plain tensor"),
        ("backbone", "splits", [[0, 3, 4]], r"`splits\.0` is"),
        ("backbone", "heads", [{}, {}], "holds 1 splits, 2 heads"),
        ("training", "position", {"task": "detector", "within": {"epoch": -1}}, r"`position\.within\.epoch` is -1"),
        ("training", "position", {"task": "detector", "within": {"else": 1}}, r"`position\.within\.else` is 1"),
    ],
)
def test_values_are_validated(tmp_path: Path, kind: str, key: str, value: object, what: str) -> None:
    path = tmp_path / "a.pt"
    torch.save({"kind": kind, "splits": [[0, 3]], key: value}, path)
    with pytest.raises(UserError, match=what) as error:
        checkpoint.load(path, kind)
    assert "\n" not in str(error.value)


def test_a_position_has_what_the_loop_notes() -> None:
    assert set(Within.model_fields) == {field.name for field in fields(Position)}


def test_what_is_not_there_is_one_line(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "a.pt", {"kind": "detector"})
    with pytest.raises(UserError, match=r"a\.pt: has no `decode`: an older version wrote it"):
        load_trained(tmp_path / "a.pt")


def test_missing_and_other_kinds(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / "b.pt", "detector")
    checkpoint.save(tmp_path / "a.pt", {"kind": "backbone"})
    with pytest.raises(UserError, match="holds `backbone`, not `detector`"):
        checkpoint.load(tmp_path / "a.pt", "detector")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"kind": "detector", "epoch": 1})
    with pytest.raises((AttributeError, pickle.PicklingError, TypeError)):
        checkpoint.save(path, {"kind": "detector", "epoch": 2, "bad": lambda: None})
    assert checkpoint.load(path, "detector")["epoch"] == 1
    assert [item.name for item in tmp_path.iterdir()] == ["a.pt"]


@pytest.fixture
def backbone_file(tmp_path: Path) -> Path:
    backbone = make_backbone("darknet53", 0.125)
    path = tmp_path / "backbone_cl3.pt"
    content = {"method": "cl3", "splits": [[0, 11], [11, 19], [19, 23]], "model": backbone.state_dict()}
    checkpoint.save(path, {"kind": "backbone", "backbone": "darknet53", "width": 0.125, **content})
    return path


@pytest.mark.parametrize(("upto", "count"), [("b11", 11), ("b19", 19), ("b23", 23)])
def test_reuse_up_to_a_tap(backbone_file: Path, upto: str, count: int) -> None:
    stored = checkpoint.load(backbone_file, "backbone")["model"]
    model = YOLOv3(make_backbone("darknet53", 0.125), 3)
    reuse_backbone(model.backbone, backbone_file, Recipe(width=0.125, reuse_upto=upto, freeze=True))
    same = [torch.equal(p, stored[n]) for n, p in model.backbone.named_parameters() if p.ndim == 4]
    first = sum(p.ndim == 4 for block in model.backbone.blocks[:count] for p in block.parameters())
    assert same == [True] * first + [False] * (52 - first)
    assert model.backbone.frozen == count


def test_reuse_up_to_where_no_sub_module_ends(backbone_file: Path) -> None:
    with pytest.raises(UserError, match=r"no sub-module of backbone_cl3\.pt ends at b12 — give one of b11, b19, b23"):
        reuse_backbone(make_backbone("darknet53", 0.125), backbone_file, Recipe(width=0.125, reuse_upto="b12"))


def test_reuse_is_checked_before_anything_is_trained(backbone_file: Path, scenes_yaml: Path) -> None:
    what = r"no sub-module of backbone_cl3\.pt ends at b12"
    with pytest.raises(UserError, match=what):
        gather(Recipe(data=scenes_yaml, weights=backbone_file, width=0.125, reuse_upto="b12"), download=False)
    with pytest.raises(UserError, match="no sub-module of CL_3 ends at b50"):
        show_cuts(Recipe(data=scenes_yaml, reuse_upto="b50"), make_backbone("darknet53", 0.125))
    with pytest.raises(UserError, match="no sub-module of CL_1 ends at b50"):
        show_cuts(Recipe(data=scenes_yaml, cl_splits=1, reuse_upto="b50"), make_backbone("darknet53", 0.125))


def test_weights_of_another_width_or_backbone(backbone_file: Path) -> None:
    with pytest.raises(UserError, match=r"width is 0\.125, not 1\.0"):
        reuse_backbone(make_backbone("darknet53", 0.25), backbone_file, Recipe())


def test_weights_of_another_class_count() -> None:
    three, four = (YOLOv3(make_backbone("darknet53", 0.125), classes) for classes in (3, 4))
    with pytest.raises(UserError, match="another width or class count"):
        checkpoint.load_state(four, three.state_dict(), "x.pt")
    with pytest.raises(UserError, match=r"has no `backbone\."):
        checkpoint.load_state(four, four.backbone.state_dict(), "x.pt")


def test_what_nobody_may_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path / "a.pt", {"kind": "detector"})

    def forbidden(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(checkpoint, "start_of", forbidden)  # root may read whatever it wants
    with pytest.raises(UserError, match=r"a\.pt: cannot be read: Permission denied"):
        checkpoint.load(tmp_path / "a.pt", "detector")
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoint.load(tmp_path / ("a" * 300 + ".pt"), "detector")
    assert not checkpoint.kind_of(tmp_path / ("a" * 300 + ".pt"))


def test_the_commit_is_that_of_the_project_not_of_what_it_lies_in(tmp_path: Path) -> None:
    git = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    git(["git", "init", "-q"])
    git(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "first"])
    (tmp_path / "unpacked").mkdir()
    assert checkpoint.commit_of(tmp_path) == git(["git", "rev-parse", "HEAD"]).stdout.strip()
    assert not checkpoint.commit_of(tmp_path / "unpacked")


def test_values_of_numpy_are_refused_before_they_are_written(tmp_path: Path) -> None:
    """They pass for numbers, and torch reads them again as code only."""
    with pytest.raises(TypeError, match=r"\.metrics\[1\]\.auc is of <class 'numpy.float64'>"):
        checkpoint.save(tmp_path / "a.pt", {"metrics": [{"auc": 0.5}, {"auc": np.float64(0.5)}]})
    assert not list(tmp_path.iterdir())
