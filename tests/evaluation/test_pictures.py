import numpy as np
import torch
from test_evaluate import found, record

from evaluation.pictures import of_asked, one_box_a_place


def test_what_is_found_on_difficult_boxes_is_no_error() -> None:
    """Boxes 0 and 1 count, 2 is difficult; the last detection is on both 1 and 2, the one before on no box."""
    truth = record([[0.0, 0, 10, 10], [50, 50, 90, 90], [55, 50, 95, 90]], [0, 1, 1], [False, False, True])
    boxes = [[0.0, 0, 10, 10], [75, 50, 95, 90], [200, 200, 220, 220], [53, 50, 92, 90]]
    kept = of_asked(found(boxes, [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1]), truth)
    np.testing.assert_allclose(kept.scores, [0.9, 0.7, 0.6])
    assert len(of_asked(found(boxes, [0.9] * 4, [0] * 4), record([], [])).scores) == 4
    assert len(of_asked(found([], [], []), truth).scores) == 0


def test_one_box_stays_at_each_place() -> None:
    boxes = [[0.0, 0, 10, 10], [0, 0, 10, 11], [50, 50, 90, 90], [0, 0, 10, 10]]
    kept = one_box_a_place(found(boxes, [0.8, 0.9, 0.3, 0.2], [0, 1, 0, 0]), 0.25)
    assert kept.labels.tolist() == [1, 0]
    assert torch.equal(kept.boxes_xyxy, torch.tensor([boxes[1], boxes[2]]))
