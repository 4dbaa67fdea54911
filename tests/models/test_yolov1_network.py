import pytest
import torch

from models.backbones import make_backbone
from models.darknet import DarkNet, DarkNetConfig
from models.yolov1_network import BOXES, CELLS, CellDecoder, CellLoss, YOLOv1, straight_logit
from utils.boxes import Truth, xyxy_to_cxcywh
from utils.errors import UserError

CLASSES, SIDE = 3, 224


def small(imgsz: int = SIDE) -> YOLOv1:
    return YOLOv1(DarkNet(DarkNetConfig(width=0.0625)), CLASSES, imgsz)


def test_is_the_papers_at_full_width() -> None:
    """Four convolutions of 1,024 channels, 4,096 hidden units, 7 × 7 × 30 numbers for Pascal VOC at 448 px."""
    with torch.device("meta"):
        model = YOLOv1(DarkNet(), 20, 448)
        (raw,) = model(torch.empty(2, 3, 448, 448))
    assert raw.shape == (2, 30, 7, 7)
    shapes = [tuple(own.shape) for own in model.connected.parameters() if own.ndim == 2]
    assert shapes == [(4096, 7 * 7 * 1024), (7 * 7 * 30, 4096)]
    assert [tuple(own.shape) for own in model.convolutions.parameters() if own.ndim == 4] == [(1024, 1024, 3, 3)] * 4


def test_seven_cells_at_either_size() -> None:
    for imgsz in (224, 448):
        (raw,) = small(imgsz)(torch.rand(1, 3, imgsz, imgsz))
        assert raw.shape == (1, 5 * BOXES + CLASSES, CELLS, CELLS)
    assert YOLOv1(make_backbone("cnn6", 0.0625), 1, 224).taps == (6,)


@pytest.mark.parametrize("imgsz", [96, 416])
def test_other_sizes_are_refused(imgsz: int) -> None:
    with pytest.raises(UserError, match=rf"{imgsz // 32} × {imgsz // 32} — give 224 or 448"):
        small(imgsz)


def test_drops_out_while_it_learns_only() -> None:
    model, images = small(), torch.rand(2, 3, SIDE, SIDE)
    features = [own.detach() for own in model.backbone.eval().at(images, model.taps)]
    assert not torch.equal(model.raw(features)[0], model.raw(features)[0])
    model.eval()
    assert torch.equal(model.raw(features)[0], model.raw(features)[0])


def test_what_is_true_comes_back() -> None:
    """Cells that say what the truth is have no loss, and give its boxes with score 1."""
    truth = Truth(torch.tensor([[20.0, 30, 90, 200], [150, 10, 220, 60]]), torch.tensor([2, 0]), torch.tensor([0, 0]))
    raw = torch.zeros(1, 5 * BOXES + CLASSES, CELLS, CELLS)
    for box, label in zip(xyxy_to_cxcywh(truth.boxes_xyxy) / SIDE, truth.labels, strict=True):
        column, row = (box[:2] * CELLS).long().tolist()
        within = box[:2] * CELLS - torch.tensor([column, row])
        raw[0, :5, row, column] = torch.cat([within, box[2:].sqrt(), torch.ones(1)])
        raw[0, 5 * BOXES + label, row, column] = 1
    decoder = CellDecoder(SIDE)
    assert sum(term.item() for term in CellLoss(decoder, CLASSES)([raw], truth).values()) == pytest.approx(0, abs=1e-8)
    boxes, scores = decoder([raw])
    assert boxes.shape == (1, decoder.counts([raw])[0], 4)
    best = scores[0].amax(1).topk(2)
    torch.testing.assert_close(best.values, torch.ones(2))
    found = {int(scores[0, at].argmax()): boxes[0, at] for at in best.indices}
    for box, label in zip(truth.boxes_xyxy, truth.labels.tolist(), strict=True):
        torch.testing.assert_close(found[label], xyxy_to_cxcywh(box), atol=1e-3, rtol=0)


def test_predictions_are_the_logits_of_the_parts() -> None:
    raw, decoder = torch.rand(2, 5 * BOXES + CLASSES, CELLS, CELLS) * 1.4 - 0.2, CellDecoder(SIDE)
    own = decoder.predictions([raw])
    boxes, confidence, classes = decoder.parts([raw])
    torch.testing.assert_close(own.boxes_cxcywh, boxes)
    torch.testing.assert_close(own.objectness.sigmoid()[..., None], confidence, atol=1e-3, rtol=0)
    torch.testing.assert_close(own.classes.sigmoid(), classes, atol=1e-3, rtol=0)
    share = torch.tensor([-0.5, 0.5, 2.0], requires_grad=True)
    straight_logit(share).sum().backward()
    assert share.grad is not None
    assert (share.grad > 0).all()
