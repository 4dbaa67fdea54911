import torch

from models.darknet import DarkNet, DarkNetConfig
from models.decode import Decoder
from models.loss import YOLOLoss
from models.yolov3 import YOLOv3, scaled_anchors
from utils.boxes import Truth


def test_parameter_count_with_twenty_classes() -> None:
    assert sum(p.numel() for p in YOLOv3(DarkNet(), 20).parameters()) == 61_626_049


def test_raw_map_shapes_in_both_modes() -> None:
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), classes=3)
    wanted = [(2, 24, 8, 12), (2, 24, 4, 6), (2, 24, 2, 3)]
    for mode in (True, False):
        assert [tuple(raw.shape) for raw in model.train(mode)(torch.rand(2, 3, 64, 96))] == wanted


def test_every_parameter_gets_a_gradient() -> None:
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), classes=3)
    criterion = YOLOLoss(Decoder(scaled_anchors(64)))
    boxes = torch.tensor([[2.0, 2, 8, 9], [10, 10, 30, 34], [4, 4, 60, 60]])
    truth = Truth(boxes, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    torch.stack(list(criterion(model(torch.rand(2, 3, 64, 64)), truth).values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient for {name}"
        assert parameter.grad.abs().sum() > 0, f"zero gradient for {name}"


def test_frozen_backbone_gets_none() -> None:
    model = YOLOv3(DarkNet(DarkNetConfig(width=0.125)), classes=3)
    model.backbone.freeze(19)
    model.train()
    before = {name: buffer.clone() for name, buffer in model.backbone.blocks[:19].named_buffers()}
    sum(raw.sum() for raw in model(torch.rand(2, 3, 64, 64))).backward()
    assert all(p.grad is None for p in model.backbone.blocks[:19].parameters())
    assert all(p.grad is not None for p in model.backbone.blocks[19:].parameters())
    assert all(torch.equal(b, before[n]) for n, b in model.backbone.blocks[:19].named_buffers())
