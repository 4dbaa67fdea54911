from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from models import load_detector, weights_files
from models.darknet import DarkNet, DarkNetConfig
from models.darknet_weights import (
    Header,
    count_classes,
    floats,
    is_darknet,
    read_darknet,
    read_header,
    tensors,
    write_darknet,
)
from models.detectors import Settings
from models.yolov3 import YOLOv3
from training.backbone import reuse_backbone
from utils.config import Recipe
from utils.errors import UserError
from utils.files import digest_file


def tiny(classes: int = 3) -> YOLOv3:
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.0625)), classes)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            for tensor in (part.running_mean, part.running_var, part.weight, part.bias):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 2)
    return model


@pytest.mark.parametrize(
    "header", [Header(0, 2, 5, 2**40), Header(0, 1, 0, 77), Header(1000, 0, 0, 3), Header(1, 0, 0, 9)]
)
def test_read_and_written_back_is_the_same_file(tmp_path: Path, header: Header) -> None:
    path, model = tmp_path / "a.weights", tiny()
    write_darknet(path, model, header)
    other = tiny()
    assert read_darknet(path, other) == header
    assert all(torch.equal(a, b) for a, b in zip(tensors(model), tensors(other), strict=True))
    write_darknet(tmp_path / "b.weights", other, header)
    assert (tmp_path / "b.weights").read_bytes() == path.read_bytes()
    x = torch.rand(1, 3, 64, 64)
    assert all(torch.equal(a, b) for a, b in zip(model.eval()(x), other.eval()(x), strict=True))


@pytest.mark.parametrize(
    ("header", "size"), [(Header(0, 2, 0, 0), 20), (Header(0, 1, 0, 0), 16), (Header(1000, 5, 0, 0), 16)]
)
def test_size_of_the_header(tmp_path: Path, header: Header, size: int) -> None:
    backbone = DarkNet(DarkNetConfig(width=0.0625))
    write_darknet(tmp_path / "a", backbone, header)
    assert (tmp_path / "a").stat().st_size == size + 4 * floats(backbone)


def test_published_sizes() -> None:
    """darknet53.conv.74 is 162,482,580 bytes, yolov3.weights 248,007,048."""
    with torch.device("meta"):
        backbone, model = DarkNet(), YOLOv3(DarkNet(), 80)
    assert len([tensor for tensor in tensors(backbone) if tensor.ndim == 4]) == 52
    assert len([tensor for tensor in tensors(model) if tensor.ndim == 4]) == 75
    assert 20 + 4 * floats(backbone) == 162_482_580
    assert 20 + 4 * floats(model) == 248_007_048


def test_layout(tmp_path: Path) -> None:
    """The first convolution's BatchNorm bias comes first; the last numbers are the finest prediction's weights."""
    model = tiny()
    write_darknet(tmp_path / "a", model)
    values = np.fromfile(tmp_path / "a", "<f4", offset=20)
    stem = model.backbone.blocks[0].stem
    count = len(stem.norm.bias)
    for number, tensor in enumerate((stem.norm.bias, stem.norm.weight, stem.norm.running_mean, stem.norm.running_var)):
        assert (values[number * count : (number + 1) * count] == tensor.detach().numpy()).all()
    last = model.heads[0].predict.weight.detach().numpy().ravel()
    assert (values[-last.size :] == last).all()
    coarse = model.heads[2].predict
    at = floats(model.backbone) + sum(
        tensor.numel() for part in (model.neck.top, model.heads[2].expand) for tensor in part.state_dict().values()
        if tensor.is_floating_point()
    )  # fmt: skip
    assert (values[at : at + len(coarse.bias)] == coarse.bias.detach().numpy()).all()


@pytest.mark.parametrize(
    ("change", "what"), [(-4, "cut short"), (4, "of a larger network"), (-(10**9), "bytes are no darknet")]
)
def test_wrong_sizes_are_told_and_load_nothing(tmp_path: Path, change: int, what: str) -> None:
    path, model = tmp_path / "a.weights", tiny()
    write_darknet(path, tiny())
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + b"\0" * change)
    before = [tensor.clone() for tensor in tensors(model)]
    with pytest.raises(UserError, match=what) as caught:
        read_darknet(path, model)
    if abs(change) == 4:
        assert f"{len(content) + change:,} bytes instead of {len(content):,}" in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(before, tensors(model), strict=True))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such weight file"):
        read_header(tmp_path / "none.weights")


def test_files_are_known_by_their_names() -> None:
    names = ("yolov3.weights", "darknet53.conv.74", "best.pt", "a.conv.pt", "a.74")
    assert [is_darknet(Path(name)) for name in names] == [True, True, False, False, False]


def sparse(path: Path, classes: int) -> Path:
    """A file of YOLOv3's size, all zeros."""
    with torch.device("meta"):
        model = YOLOv3(DarkNet(), classes)
    write_darknet(path, DarkNet(DarkNetConfig(width=0.0625)), Header(0, 2, 0, 1))
    with path.open("r+b") as file:
        file.truncate(20)
        file.truncate(20 + 4 * floats(model))
    digest_file(path).unlink()
    return path


def test_a_note_beside_a_file_tells_whether_it_is_whole(tmp_path: Path) -> None:
    path, model = tmp_path / "a.weights", DarkNet(DarkNetConfig(width=0.0625))
    write_darknet(path, model)
    whole = path.read_bytes()
    path.write_bytes(whole[:999] + bytes([whole[999] ^ 1]) + whole[1000:])
    with pytest.raises(UserError, match=r"damaged: its SHA-256 is not the one in a\.weights\.sha256"):
        read_darknet(path, model)
    digest_file(path).unlink()
    read_darknet(path, model)
    path.write_bytes(whole[:20] + np.full(len(whole) // 4 - 5, -1, "<f4").tobytes())
    with pytest.raises(UserError, match="variances below 0"):
        read_darknet(path, model)


@pytest.mark.parametrize("classes", [1, 20, 80, 3])
def test_classes_are_told_by_the_size(tmp_path: Path, classes: int) -> None:
    path = sparse(tmp_path / "a.weights", classes)
    assert count_classes(path) == classes
    with path.open("ab") as file:
        file.write(b"1234")
    with pytest.raises(UserError, match=r"are no YOLOv3 of any number of classes; for COCO's 80 .* 248,007,048"):
        count_classes(path)


def test_published_names(tmp_path: Path) -> None:
    detector = load_detector(sparse(tmp_path / "a.weights", 20))
    assert detector.names[14] == "person"
    assert (len(detector.names), detector.imgsz) == (20, 416)
    assert detector.decoder.anchors[0].tolist() == [10, 13]


@pytest.mark.parametrize("names", [["cat", "dog", "cow"], ["0", "1", "2"]])
def test_names_count_where_they_are_published(names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes that are numbered because nobody knows them are not other classes than those of the data."""
    own = SimpleNamespace(model=tiny(), names=names, imgsz=416, settings=Settings(3, 416, ((10, 13),) * 9))
    monkeypatch.setattr(weights_files, "load_darknet", lambda _: own)
    content = weights_files.of_darknet(Path("a.weights"), "darknet53", 1)
    assert content.get("names") == (names if names[0] == "cat" else None)
    assert (content["anchors"][0], content["imgsz"]) == ((10, 13), 416)


def test_a_backbone_of_darknet_is_reused(tmp_path: Path) -> None:
    source = DarkNet()
    write_darknet(tmp_path / "darknet53.conv.74", source)
    recipe = Recipe.model_validate({"weights": tmp_path / "darknet53.conv.74", "reuse_upto": "b11"})
    backbone = DarkNet()
    reuse_backbone(backbone, tmp_path / "darknet53.conv.74", recipe)
    same = [
        torch.equal(a, b) for a, b in zip(source.state_dict().values(), backbone.state_dict().values(), strict=True)
    ]
    inside = [int(name.split(".")[1]) < 11 for name in source.state_dict()]
    assert all(a for a, reused in zip(same, inside, strict=True) if reused)
    assert not all(same)
