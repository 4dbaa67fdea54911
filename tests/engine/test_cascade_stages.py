import pytest
import torch
from sklearn.metrics import roc_auc_score

from engine.cascade import classification_metrics, presence
from utils.boxes import Truth


def test_presence_counts_an_image_once() -> None:
    truth = Truth(torch.zeros(4, 4), torch.tensor([2, 2, 0, 1]), torch.tensor([0, 0, 0, 2]))
    assert presence(truth, 3, 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_metrics_by_hand() -> None:
    targets = torch.tensor([[1.0, 0], [0, 0], [1, 0], [0, 0]])
    logits = torch.tensor([[2.0, 0], [1, 0], [0.5, 0], [-1, 0]])
    got = classification_metrics(logits, targets)
    # The second class occurs nowhere and counts for nothing. Of the four pairs of the first, three are in order.
    assert got["auc"] == pytest.approx(0.75)
    assert got["auc"] == pytest.approx(roc_auc_score(targets[:, 0], logits[:, 0]))
    assert got["map"] == pytest.approx((1 + 2 / 3) / 2)
    assert got["loss"] == pytest.approx(torch.nn.functional.binary_cross_entropy_with_logits(logits, targets).item())


def test_no_class_that_varies() -> None:
    assert classification_metrics(torch.zeros(3, 2), torch.ones(3, 2))["auc"] == 0
