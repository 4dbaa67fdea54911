import numpy as np
import pytest
from scipy.stats import bootstrap

from evaluation.intervals import bca_bounds


def parts(values: np.ndarray, draws: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[columns] means of values [n, columns], [draws, columns] of resamples, [n, columns] without one each."""
    picked = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    left = (values.sum(0) - values) / (len(values) - 1)
    return values.mean(0), values[picked].mean(1), left


def test_bounds_are_those_of_scipy() -> None:
    """Of a skewed and of a symmetrical sample, by columns."""
    draw = np.random.default_rng(1)
    values = np.stack([draw.lognormal(0, 1, 40), draw.normal(0, 1, 40)], 1)
    low, high = bca_bounds(*parts(values, 20_000), 0.95)
    for column in range(2):
        own = bootstrap((values[:, column],), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(2))
        np.testing.assert_allclose([low[column], high[column]], own.confidence_interval, atol=0.02)


def test_resamples_without_a_value_do_not_count() -> None:
    whole, drawn, left = parts(np.random.default_rng(1).normal(0, 1, (30, 1)), 2000)
    bounds = bca_bounds(whole, drawn, left, 0.9)
    gaps = np.insert(drawn, np.arange(0, 2000, 10), np.nan, 0)
    missing = np.insert(left, 3, np.nan, 0)
    np.testing.assert_allclose(bca_bounds(whole, gaps, missing, 0.9), bounds)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_what_never_varies_has_no_width(value: float) -> None:
    own = np.full((50, 1), value)
    assert bca_bounds(own[0], own, own[:10], 0.95).ravel().tolist() == [value, value]
