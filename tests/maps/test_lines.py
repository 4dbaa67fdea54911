"""What is reported of a line, and maps that cost nothing to make."""

import numpy as np
import pytest
from skimage.filters import sobel

from maps.baselines import centre_map, edge_maps, random_maps
from maps.lines import Line, above, shown_name


def test_values_of_several_seeds_by_hand() -> None:
    """Two seeds, three cases, two cuts; one case has no map at the second cut, and the first cut is too coarse."""
    ious = np.array([[[0.1, 0.3], [0.3, np.nan], [0.5, 0.9]], [[0.2, 0.5], [0.6, np.nan], [0.7, 0.1]]])
    line = Line("cl6", "gradcam", (0, 1), (3, 6), {"iou": ious}, coarse=frozenset({3}))
    assert line.mean("iou") == pytest.approx([0.4, 0.45])
    deviation = line.deviation("iou")
    assert deviation is not None
    assert deviation == pytest.approx([np.std([0.3, 0.5], ddof=1), np.std([0.6, 0.3], ddof=1)])
    assert line.localised_at(0.2) == pytest.approx([4 / 6, 3 / 4]), "0.2 itself is not above"
    assert line.at_judged("iou").shape == (2, 3, 1)
    assert (line.judged, line.ends, line.trained) == ((6,), (1, 1), True)
    assert shown_name(line) == "cl6 (2 seeds)"
    one = Line("untrained, width 2", "gradcam", (0,), (3, 6), {"iou": ious[:1]}, coarse=frozenset({3, 6}))
    assert one.deviation("iou") is None
    assert (one.judged, one.ends, one.trained, shown_name(one)) == ((), (0, 1), False, one.name)
    assert np.isnan(above(np.array([np.nan]), 0.5)).all()


def test_the_centre_is_a_gaussian_of_a_quarter_of_each_side() -> None:
    own = centre_map(8, 16)
    assert own.shape == (8, 16)
    np.testing.assert_array_equal(own, own[::-1, ::-1])
    ys, xs = np.mgrid[:8, :16] + 0.5
    wanted = np.exp(-(((ys - 4) / 2) ** 2 + ((xs - 8) / 4) ** 2) / 2)
    np.testing.assert_allclose(own, wanted)


def test_edges_are_those_of_scikit_image_for_each_image_alone() -> None:
    images = np.random.default_rng(0).random((3, 3, 12, 20))
    images[1] = 0.5
    found = edge_maps(images)
    for own, image in zip(found, images, strict=True):
        np.testing.assert_allclose(own, sobel(image.mean(0)) * 4 * np.sqrt(2), atol=1e-12)
    assert not found[1].any(), "its neighbours have edges"
    np.testing.assert_allclose(edge_maps(images[:, :1]), edge_maps(np.repeat(images[:, :1], 3, 1)), atol=1e-12)


def test_random_maps_are_the_same_in_every_run() -> None:
    own = random_maps(4, 30, 50, seed=3)
    np.testing.assert_array_equal(own, random_maps(4, 30, 50, seed=3))
    assert not np.array_equal(own, random_maps(4, 30, 50, seed=4))
    assert own.mean() == pytest.approx(0.5, abs=0.02)
    assert 0 <= own.min() < 0.01 < 0.99 < own.max() < 1
