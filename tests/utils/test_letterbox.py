"""There and back: where a pixel and a box of a picture are in the square, and the other way round."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.ops import box_iou

from utils.boxes import cxcywh_to_xyxy, shape_iou
from utils.letterbox import FILL, Letterbox, letterboxed

SIZES = [(40, 100), (100, 40), (64, 64), (33, 97), (400, 150), (1, 50)]


@pytest.mark.parametrize("size_hw", SIZES)
def test_scores_come_back_to_the_pixels_that_they_are_of(size_hw: tuple[int, int]) -> None:
    """A ramp over the picture, in its own pixels: half a cell would show."""
    height, width = size_hw
    ys, xs = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    fit = Letterbox.fit(size_hw, 64)
    rows, columns = fit.size_hw
    square = torch.full((2, 64, 64), -1e6)
    inner = torch.stack(torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij"))
    scale = torch.tensor([height / rows, width / columns]).view(2, 1, 1)
    square[:, fit.top : fit.top + rows, fit.left : fit.left + columns] = inner * scale
    found = fit.unboxed(square, size_hw)
    assert found.shape == (2, height, width)
    reach = scale / 2 + 1e-3  # beyond the middle of the outermost cells all is as there
    for own, wanted, side, edge in zip(found, (ys, xs), size_hw, reach.flatten().tolist(), strict=True):
        torch.testing.assert_close(own, wanted.clamp(edge, side - edge), atol=2e-2, rtol=1e-4)


@pytest.mark.parametrize("size_hw", SIZES)
def test_boxes_come_back_and_are_clipped(size_hw: tuple[int, int]) -> None:
    height, width = size_hw
    fit = Letterbox.fit(size_hw, 64)
    whole = torch.tensor([[fit.left, fit.top, fit.left + fit.size_hw[1], fit.top + fit.size_hw[0]]]).float()
    assert fit.back(whole, size_hw).tolist() == [[0, 0, width, height]]
    assert fit.back(torch.tensor([[-9.0, -9, 99, 99]]), size_hw).tolist() == [[0, 0, width, height]]
    left_half = torch.tensor([[0, 0, width / 2, height]])
    boxes = tv_tensors.BoundingBoxes(left_half, format="XYXY", canvas_size=size_hw)  # type: ignore[call-overload]
    torch.testing.assert_close(fit.back(letterboxed(boxes, 64).as_subclass(torch.Tensor), size_hw), left_half)


def test_what_is_around_a_picture_is_grey() -> None:
    found = letterboxed(torch.zeros(3, 20, 64, dtype=torch.uint8), 64)
    assert found.shape == (3, 64, 64)
    assert (found == FILL).all((0, 2)).tolist() == [True] * 22 + [False] * 20 + [True] * 22


def test_a_picture_of_that_size_stays_as_it_is_and_its_boxes_are_clipped() -> None:
    picture = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
    assert torch.equal(letterboxed(picture, 64), picture)
    boxes = tv_tensors.BoundingBoxes([[-5.0, 10, 80, 90]], format="XYXY", canvas_size=(64, 64))  # type: ignore[call-overload]
    assert letterboxed(boxes, 64).tolist() == [[0, 10, 64, 64]]


def test_shapes_overlap_as_boxes_on_one_centre_do() -> None:
    one, other = torch.rand(5, 2, generator=torch.Generator().manual_seed(0)) * 9 + 1, torch.tensor([[3.0, 4], [8, 1]])
    boxes = [cxcywh_to_xyxy(torch.cat([torch.zeros_like(own), own], 1)) for own in (one, other)]
    torch.testing.assert_close(shape_iou(one, other), box_iou(*boxes))
