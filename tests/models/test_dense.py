import math
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.backbones import make_backbone
from models.dense import ClassMaps
from models.heads import make_head
from models.plan import shapes_at
from utils.errors import UserError

SIDE = 41  # gives OverFeat's last pool 9 × 9 cells, of which it makes 3 × 3


def overfeat_like() -> Backbone:
    """Without padding; a last pool of 3 × 3 at stride 3, on features four pixels apart."""
    first = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    second = nn.Sequential(OrderedDict(conv=nn.Conv2d(8, 6, 1), act=nn.ReLU(inplace=True), pool=nn.MaxPool2d(3, 3)))
    return Backbone([first, second], [8, 6], (1, 1), ()).eval()


def slow(network: nn.Module, images: Tensor, side: int, step: int) -> dict[tuple[int, int], Tensor]:
    """Logits of every crop of a size, cut out and looked at by itself, by its corner."""
    rows, columns = (range(0, size - side + 1, step) for size in images.shape[2:])
    return {(y, x): network(images[..., y : y + side, x : x + side]) for y in rows for x in columns}


@torch.no_grad()
def test_every_offset_is_the_crop_that_begins_there() -> None:
    backbone = overfeat_like()
    shape = shapes_at(backbone, (SIDE, SIDE))[-1]
    assert shape == (6, 3, 3)
    head = make_head("marquez", shape, 4).eval()
    images = torch.rand(2, 3, SIDE + 20, SIDE + 12)
    (found,) = ClassMaps(backbone, [2], [head], [shape], SIDE)(images)
    own = iter(found.unbind(2))
    wanted = slow(nn.Sequential(*backbone.blocks, head), images, SIDE, 4)
    assert len(wanted) == found.shape[2] == 6 * 4
    for down in range(3):
        for right in range(3):
            for y in range(4 * down, 21, 12):
                for x in range(4 * right, 13, 12):
                    torch.testing.assert_close(next(own), wanted[y, x], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "width", "cuts", "offsets"),
    [("cnn6", 0.0625, [2, 6], (2, 2)), ("torchvision/resnet18", 1.0, [4, 8], (2, 2)), ("darknet53", 0.125, [11], (2,))],
)
@torch.no_grad()
def test_the_only_window_of_a_picture_of_its_size_is_the_classifier(
    name: str, width: float, cuts: list[int], offsets: tuple[int, ...]
) -> None:
    """At offset 0 of the last pool, strided convolution or residual block that reduces: others begin outside."""
    backbone = make_backbone(name, width).eval()
    shapes = [shapes_at(backbone, (64, 64))[cut - 1] for cut in cuts]
    heads = [make_head("author", shape, 3).eval() for shape in shapes]
    maps, images = ClassMaps(backbone, cuts, heads, shapes, 64), torch.rand(2, 3, 64, 64)
    assert tuple(maps.strides[at] for at in maps.last) == offsets
    features = backbone.at(images, cuts)
    for own, head, place in zip(maps(images), heads, features, strict=True):
        torch.testing.assert_close(own, head(place)[..., None], atol=1e-5, rtol=1e-4)
    steps = [math.prod(maps.strides[:at]) for at in maps.last]
    larger = [(40 // step + 1) * (24 // step + 1) for step in steps]
    assert [own.shape[2] for own in maps(torch.rand(1, 3, 104, 88))] == larger


def test_what_has_no_class_maps() -> None:
    backbone = make_backbone("cnn6", 0.0625).eval()
    shape = shapes_at(backbone, (64, 64))[-1]
    with pytest.raises(UserError, match="no convolution takes the place of a linear layer"):
        ClassMaps(backbone, [6], [make_head("mlp_sr", shape, 3).eval()], [shape], 64)

    class OneSize(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.zeros(64, 64)

    stuck = Backbone([nn.Sequential(nn.Conv2d(3, 2, 1), OneSize())], [2], (1,), ()).eval()
    with pytest.raises(UserError, match="the backbone takes no pictures of 192 px"):
        ClassMaps(stuck, [1], [make_head("gap", (2, 64, 64), 3).eval()], [(2, 64, 64)], 64)
