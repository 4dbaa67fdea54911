import pytest
import torch
from torch import Tensor

from models.yolov1 import COORD, NO_OBJECT, YOLOv1Loss, cell_truth, decode
from utils.boxes import Truth

SIDE, CELLS, BOXES, CLASSES = 70, 7, 2, 3


def truth_of(boxes: list[list[float]], labels: list[int], sample: list[int]) -> Truth:
    return Truth(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.tensor(labels), torch.tensor(sample))


def iou(one: list[float], other: list[float]) -> float:
    """Of boxes cx, cy, w, h."""

    def overlap(axis: int) -> float:
        low = max(one[axis] - one[axis + 2] / 2, other[axis] - other[axis + 2] / 2)
        return max(0.0, min(one[axis] + one[axis + 2] / 2, other[axis] + other[axis + 2] / 2) - low)

    shared = overlap(0) * overlap(1)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def by_hand(raw: Tensor, truth: Truth) -> dict[str, float]:
    """Equation 3 of the YOLOv1 paper in loops; no two boxes share a cell."""
    terms = dict.fromkeys(("centre", "size", "object", "no_object", "classes"), 0.0)
    for image in range(len(raw)):
        for row in range(CELLS):
            for column in range(CELLS):
                own = raw[image, :, row, column].tolist()
                responsible = None
                for box, label, sample in zip(
                    *(own.tolist() for own in (truth.boxes_xyxy, truth.labels, truth.sample)), strict=True
                ):
                    cx, cy = (box[0] + box[2]) / 2 / SIDE * CELLS, (box[1] + box[3]) / 2 / SIDE * CELLS
                    if sample != image or (int(cx), int(cy)) != (column, row):
                        continue
                    w, h = (box[2] - box[0]) / SIDE, (box[3] - box[1]) / SIDE
                    x, y = cx - column, cy - row
                    ious = []
                    for b in range(BOXES):
                        px, py, pw, ph, _ = own[5 * b : 5 * b + 5]
                        found = [px / CELLS, py / CELLS, max(pw, 0) ** 2, max(ph, 0) ** 2]
                        ious.append(iou(found, [x / CELLS, y / CELLS, w, h]))
                    responsible = ious.index(max(ious))
                    px, py, pw, ph, c = own[5 * responsible : 5 * responsible + 5]
                    terms["centre"] += COORD * ((px - x) ** 2 + (py - y) ** 2)
                    terms["size"] += COORD * ((pw - w**0.5) ** 2 + (ph - h**0.5) ** 2)
                    terms["object"] += (c - max(ious)) ** 2
                    for cls in range(CLASSES):
                        terms["classes"] += (own[5 * BOXES + cls] - (cls == label)) ** 2
                for b in range(BOXES):
                    if b != responsible:
                        terms["no_object"] += NO_OBJECT * own[5 * b + 4] ** 2
    return {name: value / len(raw) for name, value in terms.items()}


def test_equals_the_loops() -> None:
    truth = truth_of([[5, 5, 25, 30], [40, 12, 66, 69], [1, 1, 69, 69], [50, 50, 60, 55]], [0, 2, 1, 1], [0, 0, 1, 2])
    raw = torch.rand(3, 5 * BOXES + CLASSES, CELLS, CELLS) - 0.2
    found = YOLOv1Loss(BOXES, CLASSES)(raw, cell_truth(truth, 3, CELLS, SIDE))
    assert {name: float(term) for name, term in found.items()} == pytest.approx(by_hand(raw, truth), rel=1e-5)


def test_perfect_is_zero_and_comes_back() -> None:
    truth = truth_of([[7, 14, 35, 49]], [1], [0])
    cells = cell_truth(truth, 1, CELLS, SIDE)
    raw = torch.zeros(1, 5 * BOXES + CLASSES, CELLS, CELLS)
    _, row, column = cells.has.nonzero()[0].tolist()
    x, y, w, h = cells.boxes[0, row, column].tolist()
    raw[0, 5:10, row, column] = torch.tensor([x, y, w**0.5, h**0.5, 1])
    raw[0, 5 * BOXES + 1, row, column] = 1
    assert sum(term.item() for term in YOLOv1Loss(BOXES, CLASSES)(raw, cells).values()) == pytest.approx(0, abs=1e-10)
    (found,) = decode(raw, SIDE)
    torch.testing.assert_close(found.boxes_xyxy[found.scores.argmax()], truth.boxes_xyxy[0])
    assert found.labels[found.scores.argmax()] == 1


def test_the_largest_box_keeps_its_cell_and_the_last_pixel_has_one() -> None:
    truth = truth_of([[20, 20, 50, 50], [33, 33, 37, 37], [69.5, 69.5, 70.5, 70.5]], [2, 0, 1], [0, 0, 0])
    cells = cell_truth(truth, 1, CELLS, SIDE)
    assert cells.labels[0, 3, 3] == 2
    assert cells.has[0, 6, 6]
    assert cells.has.sum() == 2


def test_only_the_responsible_box_learns_a_place() -> None:
    truth = truth_of([[7, 14, 35, 49]], [0], [0])
    raw = torch.rand(1, 5 * BOXES, CELLS, CELLS, requires_grad=True)
    terms = YOLOv1Loss(BOXES)(raw, cell_truth(truth, 1, CELLS, SIDE))
    (gradient,) = torch.autograd.grad(terms["centre"] + terms["size"], raw)
    assert (gradient.unflatten(1, (BOXES, 5)).abs().sum((2, 3, 4)) > 0).sum() == 1
    (gradient,) = torch.autograd.grad(YOLOv1Loss(BOXES)(raw, cell_truth(truth, 1, CELLS, SIDE))["object"], raw)
    assert (gradient.unflatten(1, (BOXES, 5))[:, :, :4] == 0).all(), "the IoU is a target, not a way to move the box"


def test_images_without_boxes() -> None:
    raw = torch.rand(2, 5 * BOXES, CELLS, CELLS, requires_grad=True)
    terms = YOLOv1Loss(BOXES)(raw, cell_truth(truth_of([], [], []), 2, CELLS, SIDE))
    assert {name for name, term in terms.items() if term.item()} == {"no_object"}
    torch.stack(list(terms.values())).sum().backward()
    assert raw.grad is not None


def test_learns_by_heart() -> None:
    torch.manual_seed(0)
    draw = torch.rand(8, 2)
    boxes = torch.cat([draw * 30, draw * 30 + 15 + 25 * torch.rand(8, 2)], 1)
    truth = Truth(boxes, torch.zeros(8, dtype=torch.long), torch.arange(8))
    cells, loss = cell_truth(truth, 8, CELLS, SIDE), YOLOv1Loss(BOXES)
    raw = torch.nn.Parameter(0.1 * torch.rand(8, loss.channels, CELLS, CELLS))
    optimizer = torch.optim.Adam([raw], 0.03)
    for _ in range(150):
        optimizer.zero_grad()
        torch.stack(list(loss(raw, cells).values())).sum().backward()
        optimizer.step()
    for found, box in zip(decode(raw, SIDE), boxes, strict=True):
        torch.testing.assert_close(found.boxes_xyxy[found.scores.argmax()], box, atol=0.7, rtol=0)
