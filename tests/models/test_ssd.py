from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torchvision.models.detection import ssd as peer
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from models.backbones import make_backbone
from models.darknet import DarkNet, DarkNetConfig
from models.ssd import CODES, MATCHED, NEGATIVES, SSD, SSDDecoder, SSDLoss, against_others, default_boxes, sides
from utils.boxes import Truth, cxcywh_to_xyxy
from utils.errors import UserError

CLASSES, SIDE = 3, 96


def raw_maps(imgsz: int = SIDE, classes: int = CLASSES, batch: int = 4) -> list[Tensor]:
    """Random predictions of every default box."""
    counts = default_boxes(imgsz).num_anchors_per_location()
    return [
        torch.randn(batch, count * (5 + classes), side, side) for count, side in zip(counts, sides(imgsz), strict=True)
    ]


def theirs(imgsz: int, maps: list[Tensor]) -> Tensor:
    """[N, 4] torchvision's default boxes."""
    images = ImageList(torch.zeros(1, 3, imgsz, imgsz), [(imgsz, imgsz)])
    found: Tensor = default_boxes(imgsz)(images, maps)[0]
    return found


def random_truth(draw: torch.Generator, count: int, batch: int) -> Truth:
    corners = torch.rand(count, 2, generator=draw) * SIDE * 0.6
    sizes = 4 + torch.rand(count, 2, generator=draw) * SIDE * 0.35
    label, sample = (torch.randint(0, top, (count,), generator=draw) for top in (CLASSES, batch))
    return Truth(torch.cat([corners, corners + sizes], 1), label, sample)


@pytest.mark.parametrize(("imgsz", "cells"), [(96, [12, 6, 3, 2, 1]), (320, [40, 20, 10, 5, 3, 2]), (32, [4, 2, 1])])
def test_default_boxes_are_those_of_torchvision(imgsz: int, cells: list[int]) -> None:
    assert sides(imgsz) == cells
    maps = raw_maps(imgsz, batch=1)
    own = cxcywh_to_xyxy(SSDDecoder(imgsz).defaults(maps))
    torch.testing.assert_close(own, theirs(imgsz, maps), atol=1e-3, rtol=0)
    assert sum(SSDDecoder(imgsz).counts(maps)) == len(own)


def test_sizes_are_those_of_ssd300() -> None:
    """With six maps the rule gives the scales that torchvision writes down for SSD300 on COCO."""
    assert default_boxes(320).scales == pytest.approx([0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05])
    assert default_boxes(320).aspect_ratios == [[2], [2, 3], [2, 3], [2, 3], [2], [2]]


@pytest.mark.parametrize("classes", [1, CLASSES])
def test_decodes_as_torchvision(classes: int) -> None:
    maps, decoder = raw_maps(classes=classes), SSDDecoder(SIDE)
    boxes, scores = decoder(maps)
    flat = decoder.flat(maps)
    wanted = BoxCoder(CODES).decode_single(flat[1, :, :4], theirs(SIDE, maps))
    torch.testing.assert_close(cxcywh_to_xyxy(boxes[1]), wanted, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(scores, flat[..., 4:].softmax(-1)[..., 1:], atol=1e-6, rtol=1e-5)
    own = decoder.predictions(maps)
    torch.testing.assert_close(own.objectness.sigmoid()[..., None] * own.classes.sigmoid(), scores)


@pytest.mark.parametrize("seed", range(5))
def test_loss_and_matching_are_those_of_torchvision(seed: int) -> None:
    draw, maps, decoder = torch.Generator().manual_seed(seed), raw_maps(), SSDDecoder(SIDE)
    truth = random_truth(draw, 9, 3)  # the fourth image has no box
    flat, anchors = decoder.flat(maps), theirs(SIDE, maps)
    targets, matches = [], []
    for index in range(len(flat)):
        mine = truth.sample == index
        targets.append({"boxes": truth.boxes_xyxy[mine], "labels": truth.labels[mine] + 1})
        overlap = box_iou(truth.boxes_xyxy[mine], anchors)
        matches.append(SSDMatcher(MATCHED)(overlap) if mine.any() else torch.full((len(anchors),), -1))
    settings = SimpleNamespace(box_coder=BoxCoder(CODES), neg_to_pos_ratio=NEGATIVES)
    heads = {"bbox_regression": flat[..., :4], "cls_logits": flat[..., 4:]}
    wanted = peer.SSD.compute_loss(settings, targets, heads, [anchors] * len(flat), matches)  # type: ignore[arg-type]
    found = SSDLoss(decoder)(maps, truth)
    torch.testing.assert_close(found["box"], wanted["bbox_regression"], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["class"], wanted["classification"], rtol=1e-4, atol=1e-4)


def test_images_without_boxes_teach_nothing() -> None:
    maps = [own.requires_grad_() for own in raw_maps()]
    terms = SSDLoss(SSDDecoder(SIDE))(maps, random_truth(torch.Generator(), 0, 1))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    assert loss.item() == 0
    assert all(own.grad is not None for own in maps)


def test_logits_against_the_others() -> None:
    logits = torch.randn(2, 5, 4)
    torch.testing.assert_close(against_others(logits).sigmoid(), logits.softmax(-1))
    assert (against_others(logits[..., :1]).sigmoid() == 1).all()


def test_network_has_a_map_for_every_size() -> None:
    model = SSD(DarkNet(DarkNetConfig(width=0.125)), CLASSES, SIDE)
    images = torch.rand(2, 3, SIDE, SIDE)
    own, wanted = model(images), raw_maps(batch=2)
    assert [raw.shape for raw in own] == [raw.shape for raw in wanted]
    assert [raw.shape[2:] for raw in model(torch.rand(2, 3, 64, SIDE))] == [(8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    SSDLoss(SSDDecoder(SIDE))(own, random_truth(torch.Generator().manual_seed(0), 4, 2))["class"].backward()
    assert all(parameter.grad is not None for parameter in model.predict.parameters())


def test_wants_taps() -> None:
    with pytest.raises(UserError, match="--backbone: CNN6 has no features at strides 8, 16 and 32"):
        SSD(make_backbone("cnn6", 0.125), CLASSES, SIDE)
