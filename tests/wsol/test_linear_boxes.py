from functools import partial

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from utils.errors import UserError
from wsol.linear_boxes import (
    PENALTIES,
    best_ridge,
    centre_box,
    descended,
    flattened,
    in_image,
    largest_eigenvalue,
    mean_box,
    parted,
    ridge,
    ridges,
)
from wsol.stored_maps import stored


def known(count: int, pixels: int, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps, boxes that depend on them linearly, and the weights."""
    draw = np.random.default_rng(seed)
    maps = draw.random((count, pixels))
    weights = draw.normal(size=(pixels, 4)) * 0.2 / np.sqrt(pixels)
    boxes = maps @ weights + [0.2, 0.3, 0.7, 0.8] + noise * draw.normal(size=(count, 4))
    return maps, boxes, weights


@pytest.mark.parametrize(("count", "pixels"), [(40, 90), (90, 40)])
def test_ridge_is_scikit_learns(count: int, pixels: int) -> None:
    maps, boxes, _ = known(count, pixels, 0.1)
    own, theirs = ridge(maps, boxes, 3.0), Ridge(3.0).fit(maps, boxes)
    np.testing.assert_allclose(own.weights, theirs.coef_.T, atol=1e-8)
    np.testing.assert_allclose(own.intercept, theirs.intercept_, atol=1e-8)


@pytest.mark.parametrize(("count", "pixels"), [(40, 90), (90, 40)])
def test_maps_in_a_file_give_the_same(count: int, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows at a time, in batches of another size, in any order."""
    maps, boxes, _ = known(count, pixels, 0.1)
    maps = maps.astype(np.float32)
    monkeypatch.setattr("wsol.stored_maps.BLOCK", 7 * 8 * pixels)
    with stored((maps[start : start + 13], boxes[start : start + 13]) for start in range(0, count, 13)) as (file, own):
        assert file.shape == maps.shape
        np.testing.assert_array_equal(own, boxes)
        np.testing.assert_array_equal(file[np.array([5, 0, 39])], maps[[5, 0, 39]])
        for fit in (best_ridge, partial(descended, iterations=50)):
            np.testing.assert_allclose(fit(file, own).weights, fit(maps, boxes).weights, rtol=1e-7, atol=1e-9)


def test_more_than_the_closed_form_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsol.linear_boxes.EQUATIONS", 30)
    with pytest.raises(UserError, match=r"--method: 40 maps of 50 pixels are too many for the closed form — add :sgd"):
        ridge(*known(40, 50)[:2], 1.0)


def test_all_maps_are_counted_before_any_penalty_is_solved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four fifths of them could be solved."""
    monkeypatch.setattr("wsol.linear_boxes.EQUATIONS", 35)
    monkeypatch.setattr("wsol.linear_boxes.solve", lambda *_, **__: pytest.fail("solved"))
    with pytest.raises(UserError, match=r"40 maps of 50 pixels are too many"):
        best_ridge(*known(40, 50)[:2])


def test_maps_of_one_group_are_held_out_together() -> None:
    """Copies of a map that was fitted to are known by heart, whatever the penalty."""
    maps, boxes, _ = (np.repeat(own, 4, 0) for own in known(60, 80, 0.3))
    groups = np.repeat(np.arange(60)[::-1], 4)
    for own in parted(groups, 0.2, 0):
        assert not set(groups[own]) & set(np.delete(groups, own))
    apart, together = (np.abs(best_ridge(maps, boxes, own).weights).sum() for own in (None, groups))
    assert together < apart / 10
    one, other = (np.concatenate(parted(own, 0.2, 0)) for own in (np.arange(9), np.arange(9)[::-1]))
    assert one.tolist() == other.tolist() == np.random.default_rng(0).permutation(9).tolist()


def test_a_linear_rule_is_found_again() -> None:
    maps, boxes, weights = known(400, 50)
    np.testing.assert_allclose(ridge(maps, boxes, 1e-9).weights, weights, atol=1e-6)
    np.testing.assert_allclose(best_ridge(maps, boxes)(maps), in_image(boxes), atol=1e-3)


def test_descent_comes_to_the_closed_form() -> None:
    maps, boxes, _ = known(3000, 10, 0.05)
    exact, own = ridge(maps, boxes, 0.0), descended(maps, boxes, iterations=8_000)
    errors = [float(((maps @ one.weights + one.intercept - boxes) ** 2).mean()) for one in (exact, own)]
    assert errors[0] <= errors[1] < 1.01 * errors[0]


def test_largest_eigenvalue() -> None:
    maps = known(50, 20)[0]
    assert largest_eigenvalue(maps) == pytest.approx(np.linalg.eigvalsh(maps.T @ maps / 50)[-1], rel=1e-6)


def test_constant_boxes() -> None:
    boxes = np.array([[0.1, 0.2, 0.5, 0.4], [0.3, 0.4, 0.5, 0.8]])
    np.testing.assert_allclose(mean_box(boxes), [0.2, 0.3, 0.5, 0.6])
    np.testing.assert_allclose(centre_box(boxes), [0.35, 0.35, 0.65, 0.65])


def test_maps_and_boxes_in_range() -> None:
    np.testing.assert_allclose(flattened(np.array([[[2.0, 4.0]], [[0.0, 0.0]]])), [[0.5, 1], [0, 0]])
    np.testing.assert_allclose(in_image(np.array([[0.9, 0.2, 0.5, 1.4]])), [[0.5, 0.2, 0.9, 1]])


def test_the_penalty_does_not_hang_on_the_order_of_the_classes() -> None:
    """Data sets list their images class by class: the last fifth may be a class by itself."""
    maps, boxes, _ = known(200, 60, 0.3)
    maps[160:] *= 0.02  # a class with hardly anything in its maps
    order = np.random.default_rng(1).permutation(200)
    mixed = best_ridge(maps[order], boxes[order]).weights
    last = [float(((own(maps[160:]) - boxes[160:]) ** 2).mean()) for own in ridges(maps[:160], boxes[:160], PENALTIES)]
    by_last_class = ridge(maps, boxes, PENALTIES[int(np.argmin(last))]).weights
    assert np.abs(best_ridge(maps, boxes).weights).sum() == pytest.approx(np.abs(mixed).sum(), rel=0.05)
    assert np.abs(by_last_class).sum() < 0.1 * np.abs(mixed).sum()
