import math

import pytest
import torch
from torchvision.ops import nms

from models.decode import FEW_CANDIDATES, Decoder, Thresholds, flatten_maps, strongest, suppress
from models.yolov3 import scaled_anchors


def empty_maps(classes: int = 2) -> list[torch.Tensor]:
    return [torch.zeros(1, 3 * (5 + classes), 64 // s, 96 // s) for s in (8, 16, 32)]


def test_hand_computed_boxes() -> None:
    maps = empty_maps()
    maps[1][0, 7:14, 2, 5] = torch.tensor([math.log(3), 0, math.log(2), -math.log(4), math.log(9), math.log(4), -30])
    boxes, scores = Decoder(scaled_anchors(416))(maps)
    # Stride 16, second anchor (62 × 45), row 2, column 5: sigmoid(log 3) = 3/4, sigmoid(0) = 1/2.
    index = 3 * 8 * 12 + 1 * 4 * 6 + 2 * 6 + 5
    torch.testing.assert_close(boxes[0, index], torch.tensor([(5 + 0.75) * 16, (2 + 0.5) * 16, 62 * 2, 45 / 4]))
    torch.testing.assert_close(scores[0, index], torch.tensor([0.9 * 0.8, 0.0]), atol=1e-6, rtol=0)
    # Untouched, first cell of all: the middle of the cell, the size of the anchor.
    torch.testing.assert_close(boxes[0, 0], torch.tensor([4.0, 4.0, 10.0, 13.0]))


def test_flat_order_is_scale_anchor_row_column() -> None:
    maps = empty_maps()
    maps[2][0, 14 + 4, 1, 2] = 7.0  # stride 32, third anchor, objectness
    flat = flatten_maps(maps)
    assert flat.shape == (1, 3 * (96 + 24 + 6), 7)
    assert flat[0, 3 * (96 + 24) + 2 * 6 + 1 * 3 + 2, 4] == 7.0


def test_huge_sizes_stay_finite() -> None:
    maps = [torch.full_like(raw, 1e4) for raw in empty_maps()]
    boxes, scores = Decoder(scaled_anchors(64))(maps)
    assert boxes.isfinite().all()
    assert scores.isfinite().all()


def test_nine_anchors_are_wanted() -> None:
    with pytest.raises(ValueError, match="8 anchors"):
        Decoder(scaled_anchors(64)[:8])


def test_suppression_within_a_class_only() -> None:
    boxes = torch.tensor([[50.0, 50, 20, 20], [51, 50, 20, 20], [51, 50, 20, 20], [100, 100, 10, 10]])
    scores = torch.tensor([[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.0, 0.001]])
    found = suppress(boxes, scores, Thresholds(0.25, 0.45, 10, multi_label=False))
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))
    torch.testing.assert_close(found.boxes_xyxy[0], torch.tensor([40.0, 40, 60, 60]))


def test_multi_label_reports_a_box_for_each_class() -> None:
    boxes, scores = torch.tensor([[50.0, 50, 20, 20]]), torch.tensor([[0.6, 0.5]])
    for multi_label, count in ((True, 2), (False, 1)):
        found = suppress(boxes, scores, Thresholds(0.1, 0.5, 10, multi_label))
        assert len(found.scores) == count


def test_nothing_above_the_threshold() -> None:
    for count, multi_label in ((5, True), (0, True), (0, False)):
        found = suppress(torch.rand(count, 4), torch.zeros(count, 3), Thresholds(0.1, 0.5, 10, multi_label))
        assert found.boxes_xyxy.shape == (0, 4)


def test_only_the_classes_that_are_asked_for() -> None:
    boxes, scores = (
        torch.tensor([[50.0, 50, 20, 20], [150, 50, 20, 20]]),
        torch.tensor([[0.9, 0.2, 0.6], [0.1, 0.8, 0.7]]),
    )
    found = suppress(boxes, scores, Thresholds(0.25, 0.45, multi_label=False, classes=(1, 2)))
    assert found.labels.tolist() == [1], "the best class of the other box is not asked for"
    assert found.scores.tolist() == pytest.approx([0.8])
    every = suppress(boxes, scores, Thresholds(0.25, 0.45, classes=(1, 2)))
    assert every.labels.tolist() == [1, 2, 2]


def test_agnostic_suppression_looks_across_classes() -> None:
    boxes, scores = torch.tensor([[50.0, 50, 20, 20], [51, 50, 20, 20]]), torch.tensor([[0.9, 0.0], [0.0, 0.8]])
    assert len(suppress(boxes, scores, Thresholds(0.25)).scores) == 2
    assert suppress(boxes, scores, Thresholds(0.25, agnostic=True)).labels.tolist() == [0]


@pytest.mark.parametrize("count", [1, 40, 700, FEW_CANDIDATES + 50])
@pytest.mark.parametrize("classes", [1, 7, 80])
def test_suppression_equals_one_class_after_another(count: int, classes: int) -> None:
    corner = torch.rand(count, 2) * 300
    boxes = torch.cat([corner, corner + 5 + torch.rand(count, 2) * 60], 1)
    scores, labels = torch.randperm(count) / count, torch.randint(classes, (count,))
    members = [(labels == label).nonzero()[:, 0] for label in range(classes)]
    wanted = torch.cat([own[nms(boxes[own], scores[own], 0.5)] for own in members])
    assert strongest(boxes, scores, labels, 0.5).tolist() == wanted[scores[wanted].argsort(descending=True)].tolist()


def test_few_boxes_with_a_score_are_picked_out() -> None:
    boxes, scores = torch.rand(500, 4) * 50 + 60, torch.rand(500, 12) ** 40
    found = suppress(boxes, scores, Thresholds(0.1, 1.0, 10_000))
    assert sorted(found.scores.tolist()) == sorted(scores[scores > 0.1].tolist())
