import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decode import Decoder
from models.loss import YOLOLoss, YOLOLossConfig
from models.yolov3 import STRIDES, scaled_anchors
from utils.boxes import Truth

CLASSES, SIDE = 3, 64


def raw_maps(batch: int, scale: float = 1.0) -> list[torch.Tensor]:
    return [scale * torch.randn(batch, 3 * (5 + CLASSES), SIDE // s, SIDE // s, dtype=torch.float64) for s in STRIDES]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit: float, target: float) -> float:
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(1 - sigmoid(logit))


def plain_iou(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    joint = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / joint


def best_anchors(size: tuple[float, float], anchors: list[tuple[float, float]], further: float) -> list[int]:
    """Indices of the positives' anchors: those over the threshold first, the best one last."""
    overlaps = []
    for w, h in anchors:
        common = min(w, size[0]) * min(h, size[1])
        overlaps.append(common / (w * h + size[0] * size[1] - common))
    best = max(range(9), key=lambda k: overlaps[k])
    return [k for k in range(9) if overlaps[k] > further and k != best] + [best]


def claims(truth: Truth, image: int, anchors: list[tuple[float, float]], further: float) -> dict[tuple[int, ...], int]:
    """(scale, anchor, row, column) → index of the true box that it answers for."""
    mine = [m for m in range(len(truth.labels)) if truth.sample[m] == image]
    found: dict[tuple[int, ...], int] = {}
    for rank in ("further", "best"):
        for m in mine:
            x1, y1, x2, y2 = truth.boxes_xyxy[m].tolist()
            chosen = best_anchors((x2 - x1, y2 - y1), anchors, further)
            for k in chosen[:-1] if rank == "further" else chosen[-1:]:
                stride = STRIDES[k // 3]
                found[k // 3, k % 3, int((y1 + y2) / 2 / stride), int((x1 + x2) / 2 / stride)] = m
    return found


def plain_criterion(
    maps: list[torch.Tensor], truth: Truth, anchors: list[tuple[float, float]], config: YOLOLossConfig
) -> dict[str, float]:
    """The criterion as loops over images, scales, anchors and cells."""
    batch = len(maps[0])
    terms = {"box": 0.0, "objectness": 0.0, "class": 0.0}
    for image in range(batch):
        positive = claims(truth, image, anchors, config.anchor_iou)
        mine = [
            box for box, sample in zip(truth.boxes_xyxy.tolist(), truth.sample.tolist(), strict=True) if sample == image
        ]
        for scale, stride in enumerate(STRIDES):
            side = SIDE // stride
            for slot in range(3):
                aw, ah = anchors[3 * scale + slot]
                for row in range(side):
                    for column in range(side):
                        cell = maps[scale][
                            image, slot * (5 + CLASSES) : (slot + 1) * (5 + CLASSES), row, column
                        ].tolist()
                        x, y = (column + sigmoid(cell[0])) * stride, (row + sigmoid(cell[1])) * stride
                        w, h = aw * math.exp(cell[2]), ah * math.exp(cell[3])
                        owner = positive.get((scale, slot, row, column))
                        if owner is None:
                            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                            if max((plain_iou(box, own) for own in mine), default=0.0) <= config.ignore_thresh:
                                terms["objectness"] += cross_entropy(cell[4], 0)
                            continue
                        terms["objectness"] += cross_entropy(cell[4], 1)
                        x1, y1, x2, y2 = truth.boxes_xyxy[owner].tolist()
                        weight = 2 - (x2 - x1) * (y2 - y1) / SIDE**2
                        terms["box"] += weight * (
                            cross_entropy(cell[0], (x1 + x2) / 2 / stride - column)
                            + cross_entropy(cell[1], (y1 + y2) / 2 / stride - row)
                            + 0.5 * (cell[2] - math.log((x2 - x1) / aw)) ** 2
                            + 0.5 * (cell[3] - math.log((y2 - y1) / ah)) ** 2
                        )
                        for label in range(CLASSES):
                            terms["class"] += cross_entropy(cell[5 + label], float(label == truth.labels[owner]))
    return {name: value / batch for name, value in terms.items()}


def random_truth(generator: torch.Generator, count: int, batch: int) -> Truth:
    corner = 40 * torch.rand(count, 2, generator=generator)
    size = 2 + 22 * torch.rand(count, 2, generator=generator)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    return Truth(torch.cat([corner, corner + size], 1), labels, torch.randint(batch, (count,), generator=generator))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(0, 12), further=st.sampled_from([1.0, 0.4]))
def test_equals_the_plain_loops(seed: int, count: int, further: float) -> None:
    torch.manual_seed(seed)
    anchors, config = scaled_anchors(SIDE), YOLOLossConfig(anchor_iou=further)
    maps, truth = raw_maps(2), random_truth(torch.Generator().manual_seed(seed), count, 2)
    got = YOLOLoss(Decoder(anchors), config)([raw.float() for raw in maps], truth)
    wanted = plain_criterion([raw.float() for raw in maps], truth, anchors, config)
    for name, value in wanted.items():
        assert got[name].item() == pytest.approx(value, rel=1e-5, abs=1e-5), name


def test_finite_and_differentiable_without_boxes() -> None:
    maps = [raw.float().requires_grad_() for raw in raw_maps(2)]
    terms = YOLOLoss(Decoder(scaled_anchors(SIDE)))(maps, random_truth(torch.Generator(), 0, 2))
    assert set(terms) == {"box", "objectness", "class"}
    assert terms["box"] == terms["class"] == 0
    torch.stack(list(terms.values())).sum().backward()
    assert all(raw.grad is not None and raw.grad.isfinite().all() for raw in maps)


def test_finite_for_wild_predictions() -> None:
    maps = [raw.float().requires_grad_() for raw in raw_maps(2, scale=1e3)]
    terms = YOLOLoss(Decoder(scaled_anchors(SIDE)))(maps, random_truth(torch.Generator().manual_seed(1), 5, 2))
    torch.stack(list(terms.values())).sum().backward()
    assert all(term.isfinite() for term in terms.values())
    assert all(raw.grad.isfinite().all() for raw in maps)


def test_one_image_and_a_batch_agree() -> None:
    maps = [raw.float() for raw in raw_maps(2)]
    truth = random_truth(torch.Generator().manual_seed(3), 6, 2)
    criterion = YOLOLoss(Decoder(scaled_anchors(SIDE)))
    together = criterion(maps, truth)
    alone = []
    for image in (0, 1):
        mine = truth.sample == image
        own = Truth(truth.boxes_xyxy[mine], truth.labels[mine], torch.zeros(int(mine.sum()), dtype=torch.long))
        alone.append(criterion([raw[image : image + 1] for raw in maps], own))
    for name, value in together.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)


def test_complete_iou_is_that_of_the_paper() -> None:
    """1 − IoU + squared distance of centres over the hull's diagonal + α v, for one box (arXiv 1911.08287, eq. 7-9)."""
    maps = [raw.float() for raw in raw_maps(1)]
    truth = Truth(torch.tensor([[20.0, 8, 44, 40]]), torch.tensor([1]), torch.tensor([0]))
    decoder = Decoder(scaled_anchors(SIDE))
    found = YOLOLoss(decoder, YOLOLossConfig(regression="ciou"))(maps, truth)["box"].item()
    (((scale, anchor, row, column), _),) = claims(truth, 0, scaled_anchors(SIDE), 1.0).items()
    x, y, w, h = maps[scale][0].view(3, 5 + CLASSES, SIDE // STRIDES[scale], -1)[anchor, :4, row, column].tolist()
    wide, high = (
        size * math.exp(raw) for size, raw in zip(scaled_anchors(SIDE)[3 * scale + anchor], (w, h), strict=True)
    )
    centre = ((column + sigmoid(x)) * STRIDES[scale], (row + sigmoid(y)) * STRIDES[scale])
    box = [centre[0] - wide / 2, centre[1] - high / 2, centre[0] + wide / 2, centre[1] + high / 2]
    true = truth.boxes_xyxy[0].tolist()
    iou = plain_iou(box, true)
    hull = (max(box[2], true[2]) - min(box[0], true[0])) ** 2 + (max(box[3], true[3]) - min(box[1], true[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(24 / 32) - math.atan(wide / high)) ** 2
    wanted = 1 - iou + ((centre[0] - 32) ** 2 + (centre[1] - 24) ** 2) / hull + v * v / (1 - iou + v)
    assert found == pytest.approx(wanted * (2 - 24 * 32 / SIDE**2), rel=1e-4)


def test_class_weights_count_by_the_true_class() -> None:
    maps = [raw.float() for raw in raw_maps(2)]
    truth = random_truth(torch.Generator().manual_seed(3), 6, 2)
    decoder = Decoder(scaled_anchors(SIDE))
    plain = YOLOLoss(decoder)(maps, truth)["class"]
    parts = [
        YOLOLoss(decoder, class_weights=torch.eye(CLASSES)[label])(maps, truth)["class"] for label in range(CLASSES)
    ]
    torch.testing.assert_close(sum(parts), plain)
    assert all(part > 0 for part in parts)
