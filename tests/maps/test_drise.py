import numpy as np
import pytest
import torch
from torch import Tensor

from maps.detector_network import Answers
from maps.drise import CELLS, SHOWN, Masks, drise, similarities

HEIGHT, WIDTH = 40, 48


def answers_to(images: Tensor) -> Answers:
    """Two boxes; the score of the first is how bright a patch of its is."""
    bright = images[:, :, 8:20, 10:22].mean((1, 2, 3))
    boxes = torch.tensor([[8.0, 6, 24, 22], [30, 20, 44, 36]]).expand(len(images), 2, 4)
    objectness = torch.stack([20 * bright - 12, torch.full_like(bright, -1.0)], 1)
    classes = torch.tensor([[2.0, -2, 0], [-1, 1, 3]]).expand(len(images), 2, 3)
    return Answers(boxes, objectness, classes, torch.tensor([8, 16]))


@pytest.fixture
def masks() -> Masks:
    return Masks.draw(300, 0)


def test_masks_are_those_of_rise(masks: Masks) -> None:
    shown = masks.at(0, len(masks), HEIGHT, WIDTH)
    assert shown.shape == (300, HEIGHT, WIDTH)
    assert 0 <= float(shown.min()) < 0.01
    assert 0.99 < float(shown.max()) <= 1
    assert float(shown.mean()) == pytest.approx(SHOWN, abs=0.02)
    assert float(shown.mean(0).std()) < 0.05, "no place is shown more often"
    steps = (shown[:, 1:] - shown[:, :-1]).abs().amax()
    assert float(steps) <= CELLS / HEIGHT + 1e-5, "cells run into each other"
    few = Masks.draw(20, 0)
    assert torch.equal(few.grids, masks.grids[:20])
    assert torch.equal(few.at(3, 9, HEIGHT, WIDTH), shown[3:9])
    assert not torch.equal(Masks.draw(20, 1).grids, few.grids)


def slow_twin(image: Tensor, box: Tensor, classes: Tensor, masks: Masks) -> np.ndarray:
    """The paper's algorithm, a mask and a prediction at a time."""
    total = np.zeros((HEIGHT, WIDTH))
    for mask in masks.at(0, len(masks), HEIGHT, WIDTH):
        answers, best = answers_to((image * mask)[None]), 0.0
        for own, objectness, logits in zip(
            answers.boxes_xyxy[0].tolist(), answers.objectness[0].tolist(), answers.classes[0].numpy(), strict=True
        ):
            a, b = own, box.tolist()
            width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            both = max(width, 0) * max(height, 0)
            iou = both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
            p = 1 / (1 + np.exp(-logits.astype(float)))
            q = classes.numpy().astype(float)
            cosine = (p * q).sum() / np.sqrt((p**2).sum() * (q**2).sum())
            best = max(best, iou * cosine / (1 + np.exp(-objectness)))
        total += best * mask.numpy()
    return total / (len(masks) * SHOWN)


def test_all_detections_of_an_image_as_one_by_one(masks: Masks) -> None:
    image = torch.rand(3, HEIGHT, WIDTH)
    boxes = torch.tensor([[8.0, 8, 24, 22], [28, 20, 44, 36]])
    classes = torch.tensor([[1.0, 0, 0], [0.2, 0.9, 0.4]])
    few = Masks(masks.grids[:40], masks.shifts[:40])
    found = drise(answers_to, image, boxes, classes, few)
    for own, box, one in zip(found, boxes, classes, strict=True):
        np.testing.assert_allclose(own.numpy(), slow_twin(image, box, one, few), rtol=1e-4)


def test_the_map_peaks_where_the_detector_looks() -> None:
    image = torch.ones(3, HEIGHT, WIDTH)
    many = Masks.draw(1500, 0)
    found = drise(answers_to, image, torch.tensor([[8.0, 6, 24, 22]]), torch.tensor([[1.0, 0, 0]]), many)[0]
    row, column = divmod(int(found.argmax()), WIDTH)
    assert 8 <= row < 20
    assert 10 <= column < 22
    inside = found[8:20, 10:22].mean()
    outside = found.clone()
    outside[4:24, 6:26] = torch.nan
    assert inside > outside.nanmean() + 4 * outside[~outside.isnan()].std()


def test_similarity_is_one_of_a_sure_twin() -> None:
    boxes = torch.tensor([[[0.0, 0, 4, 4], [0, 0, 4, 8]]])
    answers = Answers(boxes, torch.tensor([[50.0, 0]]), torch.tensor([[[50.0, -50], [50, -50]]]), torch.tensor([8, 8]))
    own = similarities(answers, torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 8]]), torch.tensor([[1.0, 0], [1, 0]]))
    torch.testing.assert_close(own, torch.tensor([[1.0, 0.5]]))
