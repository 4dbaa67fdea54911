from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from evaluation.classification import classification_metrics
from evaluation.rates import GRID, KINDS, rate_curves, save_rates


@pytest.mark.parametrize("single", [True, False])
def test_areas_are_the_metrics(single: bool) -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, 400)
    targets = np.eye(5)[labels] if single else (draw.random((400, 5)) < 0.3).astype(float)
    targets[:, 4] = 0  # a class that does not occur
    scores = targets * 1.5 + draw.normal(size=(400, 5))
    curves, metrics = rate_curves(scores, targets, single), classification_metrics(scores, targets, single)
    assert np.trapezoid(curves["roc"], GRID) == pytest.approx(metrics["auc"], abs=0.005)
    assert curves["precision_recall"][1:].mean() == pytest.approx(metrics["map"], abs=0.01)
    assert (np.diff(curves["roc"]) >= -1e-12).all()
    assert metrics["error"] == pytest.approx(1 - metrics["accuracy"])


def test_one_class_is_scikit_learns() -> None:
    draw = np.random.default_rng(1)
    held = draw.random(60) < 0.4
    ranks = np.round(held + draw.normal(size=60), 1)  # with ties
    curves = rate_curves(ranks[:, None], held[:, None].astype(float), False)
    assert np.trapezoid(curves["roc"], GRID) == pytest.approx(roc_auc_score(held, ranks), abs=0.01)
    exact = average_precision_score(held, ranks)
    assert curves["precision_recall"][1:].mean() == pytest.approx(exact, abs=0.02)
    perfect = rate_curves(held[:, None] * 2.0, held[:, None].astype(float), False)
    assert (perfect["roc"][1:] == 1).all()
    assert (perfect["precision_recall"] == 1).all()
    assert rate_curves(ranks[:, None], np.ones((60, 1)), False) == {}


def test_they_are_drawn(tmp_path: Path) -> None:
    for kind in KINDS:
        save_rates(kind, {"b1": [("one", [GRID, GRID**2])], "b2": [("other", [GRID])]}, tmp_path / f"{kind}.png")
        assert (tmp_path / f"{kind}.png").stat().st_size > 5000
