from collections.abc import Callable
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.stats import binomtest, bootstrap, norm, ttest_1samp
from skimage.filters import threshold_otsu
from skimage.measure import label, regionprops
from sklearn.metrics import jaccard_score

from maps import boxes_from_maps as boxes
from maps.binary import PERCENTILES, highest, iou_by_size, ranks, region_size
from maps.granulometry import coarseness, disk, mean_size, radii_for, spectrum, surviving_columns, surviving_disks
from maps.kinds import Evidence
from maps.measures import SWEEP, Rule, measure, measure_regions, sweep
from maps.overlap import (
    box_mask,
    chance_iou,
    coverage,
    furthest_above_chance,
    iou_ceiling,
    mass_accuracy,
    pointing,
    precision,
    rank_accuracy,
    region_iou,
)
from maps.shown_maps import shown_table
from maps.statistics import Resamples, compare, holm, mcnemar, sign_test
from utils.errors import UserError

DRAW = np.random.default_rng(0)
Measure = Callable[..., dict[str, np.ndarray]]


def test_without_ties_the_region_is_what_lies_above_the_percentile() -> None:
    maps = DRAW.random((5, 16, 16))
    for percentile in (50, 80, 93.75):
        found = highest(maps, region_size(256, percentile))
        for one, own in zip(found, maps, strict=True):
            assert np.array_equal(one, own > np.percentile(own, percentile))


def test_area_is_exact_under_ties_and_finer_values_decide() -> None:
    raw = DRAW.normal(size=(4, 20, 20))
    rectified = np.maximum(raw, 0)
    found = highest(rectified, 300, within=raw)
    assert found.sum((1, 2)).tolist() == [300] * 4
    assert np.array_equal(found, highest(raw, 300))
    flat = highest(np.zeros((3, 10, 10)), np.array([0, 50, 100]))
    assert flat.sum((1, 2)).tolist() == [0, 50, 100]
    assert not np.array_equal(highest(np.zeros((1, 10, 10)), 50), highest(np.zeros((1, 10, 10)), 50, seed=1))
    assert flat[1].reshape(-1)[:50].sum() < 40, "ties are not decided by place"
    assert np.array_equal(highest(rectified, 60), highest(np.exp(3 * rectified + 1), 60))


def test_order_is_that_of_stable_sorts() -> None:
    """The slow twin of sorting whole numbers."""
    raw = DRAW.normal(size=(6, 20, 30)).astype(np.float32).round(1)
    raw[0], raw[1, ::2], raw[2] = 0, -0.0, raw[2] * -1e-30
    maps = np.maximum(raw, 0)
    flat, within = maps.reshape(6, -1), raw.reshape(6, -1)
    shuffled = np.broadcast_to(np.random.default_rng(3).permutation(600), flat.shape)
    for values, keys in (((maps,), (flat,)), ((maps, raw), (within, flat)), ((raw,), (within,))):
        order = shuffled
        for key in keys:
            falling = np.argsort(-np.take_along_axis(key, order, 1), axis=1, kind="stable")
            order = np.take_along_axis(order, falling, 1)
        assert np.array_equal(ranks(*values, seed=3).reshape(6, -1), np.argsort(order, 1))


def test_all_sizes_at_once_equal_one_after_another() -> None:
    maps = np.maximum(DRAW.normal(size=(6, 24, 16)), 0)
    truth = DRAW.random(maps.shape) < np.array([0, 0.1, 0.3, 0.5, 0.9, 1])[:, None, None]
    counts = [0, 1, *(region_size(384, percentile) for percentile in PERCENTILES), 384]
    found = iou_by_size(ranks(maps), truth, counts)
    for column, count in enumerate(counts):
        np.testing.assert_allclose(found[:, column], region_iou(highest(maps, count), truth))


def test_overlap_by_hand() -> None:
    truth = np.stack([box_mask(np.array([[0, 0, 4, 4]]), 8, 8), box_mask(np.zeros((0, 4)), 8, 8)])
    region = np.stack([box_mask(np.array([[2, 0, 6, 4]]), 8, 8)] * 2)
    assert region_iou(region, truth).tolist() == [pytest.approx(8 / 24), 0]
    assert coverage(region, truth)[0] == 0.5
    assert np.isnan(coverage(region, truth)[1])
    assert precision(region, truth).tolist() == [0.5, 0]
    assert np.isnan(precision(truth, truth)[1])
    assert box_mask(np.array([[0.4, 0, 1.6, 1]]), 2, 3).tolist() == [[True, True, False], [False] * 3]
    assert box_mask(np.array([[0, 0, 1, 1], [2, 1, 3, 2]]), 2, 3).sum() == 2
    peak = np.zeros((2, 8, 8))
    peak[:, 0, 0] = peak[:, 7, 7] = 3
    assert pointing(peak, truth).tolist() == [0.5, 0]
    assert mass_accuracy(peak, truth).tolist() == [0.5, 0]
    assert np.isnan(mass_accuracy(-peak, truth)[0])
    assert rank_accuracy(highest(peak, truth.sum((1, 2))), truth)[0] >= 1 / 16


def test_ceiling_and_chance() -> None:
    assert iou_ceiling(0.1, 0.2) == pytest.approx(0.5)
    regions = DRAW.random((4000, 12, 12)).argsort(-1) < 3
    truth = np.broadcast_to(box_mask(np.array([[0, 0, 6, 6]]), 12, 12), regions.shape)
    assert region_iou(regions, truth).mean() == pytest.approx(chance_iou(0.25, 0.25), abs=0.01)


def test_where_boxes_fill_a_picture_the_choice_is_not_the_whole_picture() -> None:
    """Maps that show the inner 30 % of boxes of 60 %, and noise: the mean IoU alone would take nearly everything."""
    noise = DRAW.random((400, 20, 20))
    truth = np.broadcast_to(box_mask(np.array([[2, 2, 18, 17]]), 20, 20), noise.shape)
    inner = box_mask(np.array([[4, 4, 15, 15]]), 20, 20)
    counts = [region_size(400, percentile) for percentile in PERCENTILES]
    shares = truth.mean((1, 2))
    for maps, best in ((noise + inner, {65, 70, 75}), (noise + 0.2 * inner, set(range(50, 95, 5)))):
        means = dict(zip(PERCENTILES, iou_by_size(ranks(maps), truth, counts).mean(0).tolist(), strict=True))
        assert max(means, key=lambda own: means[own]) <= 40
        assert furthest_above_chance(means, shares) in best


@pytest.mark.parametrize("way", [surviving_disks, surviving_columns, spectrum])
def test_openings_equal_scipy(way: Callable[[np.ndarray, list[int]], np.ndarray]) -> None:
    regions = ndimage.gaussian_filter(DRAW.normal(size=(6, 40, 64)), (0, 2, 2)) > 0
    regions[0], regions[1], regions[2, :, 32:] = False, True, True
    radii = [0, 1, 2, 5, 8, 9, 12, 19, 20, 30]  # a disk of radius 20 is higher than the image
    found = way(regions, radii)
    for one, own in zip(regions, found, strict=True):
        for radius, left in zip(radii, own, strict=True):
            assert left == ndimage.binary_opening(np.pad(one, 1), disk(radius).astype(bool)).sum()


def test_granulometry() -> None:
    regions = ndimage.gaussian_filter(DRAW.normal(size=(3, 64, 64)), (0, 2, 2)) > 0
    regions[0] = False
    found = spectrum(regions, range(8))
    assert np.array_equal(coarseness(found), found.mean(1))
    assert np.isnan(mean_size(found, range(8))[0])
    assert radii_for(256) == tuple(range(15))


def spots(draw: np.random.RandomState, count: int, sigma: float, side: int = 256) -> np.ndarray:
    """Where there are many blurred points."""
    image = np.zeros((side, side))
    row, column = (side * draw.random_sample((2, count))).astype(int)
    image[row, column] = 1
    blurred = ndimage.gaussian_filter(image, sigma)
    return np.asarray(blurred > blurred.mean())


def test_the_authors_notebook() -> None:
    """Its last line prints [23333. 9936.66666667], for two sets of points after seed 1."""
    draw = np.random.RandomState(1)
    regions = np.stack([spots(draw, 8**2, 256 / 8), spots(draw, 20**2, 256 / 80)])
    np.testing.assert_allclose(coarseness(spectrum(regions, range(15))), [23333.0, 9936 + 2 / 3])


def test_boxes_equal_skimage() -> None:
    maps = ndimage.gaussian_filter(DRAW.normal(size=(20, 48, 40)), (0, 3, 3))
    for name, rule in boxes.RULES.items():
        for one, own in zip(boxes.boxes_from_maps(maps, rule), maps, strict=True):
            region = rule(own)
            if name == "otsu":
                steps = np.round((own - own.min()) / np.ptp(own) * 255).astype(np.uint8)
                assert np.array_equal(region, steps > threshold_otsu(steps))
            largest = max(regionprops(label(region, connectivity=2)), key=lambda part: part.area)
            y1, x1, y2, x2 = largest.bbox
            assert one is not None
            assert one.tolist() == [x1, y1, x2, y2]


def test_maps_without_a_box() -> None:
    maps = np.stack([np.zeros((9, 9)), np.ones((9, 9)), np.eye(9)])
    for rule in boxes.RULES.values():
        nothing, same, diagonal = boxes.boxes_from_maps(maps, rule)
        assert nothing is None
        assert same is None
        assert diagonal is not None
    assert boxes.boxes_from_maps(maps, boxes.above_otsu)[2].tolist() == [0, 0, 9, 9]  # type: ignore[union-attr]


def test_one_high_pixel_and_equal_components() -> None:
    one = np.zeros((8, 8))
    one[3, 5] = 1
    assert boxes.boxes_from_maps(one[None], boxes.above_share())[0].tolist() == [5, 3, 6, 4]  # type: ignore[union-attr]
    one[0, 0] = 0.9
    assert boxes.boxes_from_maps(one[None], boxes.above_share())[0].tolist() == [5, 3, 6, 4]  # type: ignore[union-attr]


def test_many_maps_are_those_one_after_another() -> None:
    maps = ndimage.gaussian_filter(DRAW.normal(size=(30, 24, 18)), (0, 1.5, 1.5)).round(1)
    for rule in boxes.RULES.values():
        together = boxes.boxes_from_maps(maps, rule)
        for one, found in zip(maps, together, strict=True):
            (alone,) = boxes.boxes_from_maps(one[None], rule)
            assert np.array_equal(alone, found)
    assert boxes.boxes_from_maps(maps[:0], boxes.above_otsu) == []


def test_corloc_is_strict_and_by_class() -> None:
    found = [np.array([0, 0, 10, 10.0]), np.array([0, 0, 10, 5.0]), None, np.array([0, 0, 10, 10.0])]
    truth = [np.array([[0, 0, 10, 10.0]])] * 4
    ious = boxes.best_ious(found, truth)
    assert ious.tolist() == [1, 0.5, 0, 1]
    mean, own = boxes.corloc(ious, np.array([0, 0, 1, 3]), 4)
    assert own[[0, 1, 3]].tolist() == [0.5, 0, 1]
    assert np.isnan(own[2])
    assert mean == pytest.approx(0.5)
    assert boxes.gt_known_accuracy(ious) == 0.75


def test_interval_equals_scipy() -> None:
    """Of skewed values, BCa on the side of the tail and Student's t on the other."""
    values = np.random.default_rng(7).gamma(1.0, size=60)
    low, high = Resamples(60, draws=20_000).interval(values[None])
    other = bootstrap((values,), np.mean, method="BCa", n_resamples=20_000, rng=np.random.default_rng(1))
    student = ttest_1samp(values, 0).confidence_interval()
    assert [low, high] == pytest.approx([student.low, other.confidence_interval.high], abs=0.01)
    columns = Resamples(60, draws=500).interval(np.stack([values, values * 2], 1)[None])
    assert columns.shape == (2, 2)
    np.testing.assert_allclose(columns[:, 1], 2 * columns[:, 0])


def test_clusters_widen() -> None:
    patient = np.repeat(np.arange(20), 5)
    values = DRAW.normal(size=20)[patient] + 0.01 * DRAW.normal(size=100)
    alone, together = (np.ptp(Resamples(100, own, draws=2000).interval(values[None])) for own in (None, patient))
    assert together > 1.7 * alone


def test_seeds_alone_have_student_s_t() -> None:
    """Where all images are alike, what is left is the textbook's interval of the seeds' means."""
    means = np.array([0.1, 0.5, 0.3])
    low, high = Resamples(50, draws=1).interval(np.repeat(means[:, None], 50, 1))
    other = ttest_1samp(means, 0).confidence_interval()
    assert (low, high) == pytest.approx((max(0, other.low), other.high))
    same = DRAW.normal(size=(1, 50)).repeat(3, 0)
    other = ttest_1samp(same[0], 0).confidence_interval()
    assert Resamples(50, draws=1).interval(same).tolist() == pytest.approx([other.low, other.high])


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("patients", [60, 120])
@pytest.mark.parametrize("training", [0.0, 0.05, 0.15])
def test_coverage_over_seeds_and_images(seeds: int, patients: int, training: float) -> None:
    """Nominal 95 % covers 93 % at least: means, shares and paired differences, whatever varies most."""
    draw, trials, images = np.random.default_rng(seeds), 1500, 120
    clusters = np.arange(images) * patients // images

    def side(own: float) -> np.ndarray:
        """[seeds, images, trials]: what training, patient and picture make of a network."""
        of_seed = draw.normal(own, training, (seeds, 1, trials))
        return of_seed + draw.normal(0, 0.2, (seeds, images, trials))

    shared = draw.normal(0, 0.3, (patients, trials))[clusters] + draw.normal(0, 0.2, (images, trials))
    spread = np.sqrt(training**2 + 0.3**2 + 2 * 0.2**2)
    first, second = side(0.2) + shared, side(0.1) + 0.5 * shared
    resamples = Resamples(images, clusters.tolist(), draws=1)
    cases = {
        "means": (first, 0.2),
        "shares": ((first > 0).astype(float), norm.cdf(0.2 / spread)),
        "differences": (first - second, 0.1),
        "differences of some": (np.where(draw.random(first.shape) < 0.3, np.nan, first - second), 0.1),
    }
    for name, (values, true) in cases.items():
        low, high = resamples.interval(values)
        assert ((low <= true) & (true <= high)).mean() >= 0.93, name


@pytest.mark.parametrize("seeds", [1, 3])
def test_values_that_no_seed_has_are_as_those_that_were_never_asked_for(seeds: int) -> None:
    values, clusters = DRAW.normal(0.1, 1, (seeds, 40, 2)), np.arange(40) // 2
    gaps = values.copy()
    gaps[:, :10] = np.nan
    asked, few = (Resamples(len(own), own.tolist(), draws=400) for own in (clusters, clusters[10:]))
    found, whole = asked.interval(gaps), few.interval(values[:, 10:])
    # One seed is resampled, and a resample may have any number of those that are there.
    np.testing.assert_allclose(found, whole, atol=0.1 if seeds == 1 else 1e-12)
    one, other = (
        compare(apart[..., 0], np.zeros(2), own.tolist())
        for apart, own in ((gaps, clusters), (values[:, 10:], clusters[10:]))
    )
    assert astuple(replace(one, interval=0)) == pytest.approx(astuple(replace(other, interval=0)), nan_ok=True)


def test_resampled_seeds_would_cover_too_little() -> None:
    """What the intervals were before: three seeds drawn with replacement, where training decides."""
    draw, hits = np.random.default_rng(0), 0
    for _ in range(400):
        means = draw.normal(0, 1, 3)
        low, high = np.quantile(means[draw.integers(0, 3, (500, 3))].mean(1), [0.025, 0.975])
        hits += low <= 0 <= high
    assert hits / 400 < 0.8


@pytest.mark.parametrize("patients", [5, 12, 40])
def test_coverage_of_the_interval_of_one_seed(patients: int) -> None:
    """Nominal 95 % covers 93 % at least: means, shares and paired differences over patients with one to four pictures.

    The standard error of a share of 1,000 trials is 0.008; the bar is one below. BCa alone covers 84 % with five.
    """
    draw, trials = np.random.default_rng(patients), 1000
    clusters = np.repeat(np.arange(patients), draw.integers(1, 5, patients))
    patient = draw.normal(0, 0.3, (patients, trials))[clusters]
    values = 0.1 + patient + draw.normal(0, 0.3, patient.shape)
    chance = draw.beta(2, 2, (patients, trials))[clusters]
    skewed = draw.gamma(1, 1, (patients, trials))[clusters] - 1
    cases = {
        "means": (values, 0.1),
        "shares": ((draw.random(chance.shape) < chance).astype(float), 0.5),
        "differences": (values - 0.3 * skewed, 0.1),
    }
    for name, (own, true) in cases.items():
        low, high = Resamples(len(clusters), clusters.tolist(), draws=400).interval(own[None])
        assert ((low <= true) & (true <= high)).mean() >= 0.93 - (0.93 * 0.07 / trials) ** 0.5, name


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("patients", "known"), [(1, False), (4, False), (5, True)])
def test_fewer_than_five_patients_have_no_interval(seeds: int, patients: int, known: bool) -> None:
    """Resamples of a single one are all the same, which is no certainty; values that are not there do not count."""
    values = DRAW.normal(1, 1, (seeds, 40, 2))
    bounds = Resamples(40, (np.arange(40) % patients).tolist(), draws=50).interval(values)
    assert np.isfinite(bounds).all() == np.isfinite(bounds).any() == known
    values[:, patients:, 0] = np.nan
    some = Resamples(40, draws=50).interval(values)
    assert np.isfinite(some).all(0).tolist() == [known, True]
    weights = np.repeat(np.arange(40)[:, None] < patients, 2, 1).astype(float)
    assert np.isfinite(Resamples(40, draws=50).interval(np.ones((seeds, 40, 2)), weights=weights)).all() == known


def test_one_resample_is_no_interval() -> None:
    assert np.isnan(Resamples(40, draws=1).interval(DRAW.normal(size=(1, 40)))).all()


def test_comparison() -> None:
    first, second = np.array([0.5, 0.6, 0.7, 0.2, 0.4]), np.array([0.4, 0.5, 0.7, 0.3, 0.1])
    found = compare(first - second, Resamples(5, draws=500).interval((first - second)[None]))
    assert (found.above, found.ties) == (0.75, pytest.approx(0.2))
    assert found.sign == pytest.approx(0.625)
    assert found.mean == pytest.approx(0.08)
    assert found.interval[0] <= found.mean <= found.interval[1]
    patients = compare(first - second, np.zeros(2), ["a", "a", "b", "c", "c"])
    assert patients.sign == sign_test(np.array([0.1, 0, 0.1]))
    assert compare(np.stack([first - second] * 2), np.zeros(2)).above == 0.75
    same = compare(first - first, Resamples(5, draws=100).interval((first - first)[None]))
    assert (same.wilcoxon, same.sign, same.ties) == (1, 1, 1)
    assert np.isnan(same.above)


def test_mcnemar_and_holm() -> None:
    first, second = np.array([1, 1, 1, 1, 0, 1], bool), np.array([0, 0, 0, 0, 1, 1], bool)
    assert mcnemar(first, second) == pytest.approx(12 / 32)
    assert mcnemar(first, first) == 1
    assert mcnemar(first, second, [0, 0, 0, 0, 1, 1]) == 1  # one patient each way
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])


def measured(maps: np.ndarray, boxes: list[list[float]], by: Measure = measure) -> dict[str, np.ndarray]:
    """Of maps [N, H, W] against one and the same boxes."""
    own = np.array(boxes, np.float32).reshape(-1, 4)
    truth = np.stack([box_mask(own, *maps.shape[1:])] * len(maps))
    return by(Evidence(torch.from_numpy(maps)), truth, [own] * len(maps), Rule(80))


def test_maps_that_say_nothing_are_wrong_and_counted() -> None:
    maps = DRAW.random((4, 20, 20))
    maps[0], maps[1], maps[2, 3, 3] = 0, 7, np.nan
    values = measured(maps, [[2, 2, 12, 12]])
    assert values["degenerate"].tolist() == [1, 1, 1, 0]
    for name in ("iou", "iou_50", "box_iou", "coverage", "pointing", "mass", "rank"):
        assert (values[name][:3] == 0).all()
        assert 0 < values[name][3] <= 1 or name == "pointing"
    for name in ("coarseness", "mean_size", "survivors"):
        assert np.isnan(values[name]).reshape(4, -1).all(1).tolist() == [True, True, True, False], (
            "no region, no grains"
        )
    alone = measured(maps, [[2, 2, 12, 12]], by=sweep)
    assert list(alone) == list(SWEEP)
    assert all(np.array_equal(own, values[name]) for name, own in alone.items())


def test_boxes_of_all_sizes() -> None:
    maps = DRAW.random((2, 20, 20))
    whole = measured(maps, [[0, 0, 20, 20]])
    assert np.allclose(whole["iou"], 0.2)
    assert np.allclose(whole["iou_50"], 0.5)
    assert all((whole[name] == 1).all() for name in ("pointing", "mass", "rank"))
    maps[:, 4, 7] = 2
    pixel = measured(maps, [[7, 4, 8, 5]])
    assert np.allclose(pixel["iou"], 1 / 80)
    assert all((pixel[name] == 1).all() for name in ("coverage", "pointing", "rank"))
    several = measured(maps, [[0, 0, 20, 10], [0, 10, 20, 20]])
    assert np.allclose(several["iou"], whole["iou"])


def test_measures_do_not_care_for_scale() -> None:
    maps = DRAW.random((6, 24, 24))
    one, other = measured(maps, [[3, 3, 14, 20]]), measured(np.exp(5 * maps) - 3, [[3, 3, 14, 20]])
    for name in ("iou", "iou_95", "coverage", "pointing", "rank", "coarseness"):
        assert np.array_equal(one[name], other[name])


def test_iou_equals_scikit_learn() -> None:
    regions, truth = DRAW.random((2, 5, 16, 16)) < 0.3
    wanted = [jaccard_score(a.ravel(), b.ravel()) for a, b in zip(truth, regions, strict=True)]
    np.testing.assert_allclose(region_iou(regions, truth), wanted)
    assert measure_regions(regions, truth)["iou"].tolist() == region_iou(regions, truth).tolist()
    assert measure_regions(np.zeros_like(regions), truth)["precision"].tolist() == [0] * 5


def test_differences_of_the_maps_that_show_something(tmp_path: Path) -> None:
    """Three cases, two seeds: an empty map on either side takes the seed out, in all seeds the case."""
    names = ["gradcam/cl6/seed0/b1", "gradcam/cl6/seed1/b1", "gradcam/e2e/seed0/b1", "gradcam/e2e/seed1/b1"]
    values = {
        "degenerate": [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]],
        "iou": [[0.5, 0, 0.3, 0.9], [0.2, 0.4, 0.1, 0.3], [0, 0.5, 0.5, 0]],
    }
    for name, rows in values.items():
        lines = [["image", "class", *names], *(["a.png", "cat", *map(str, row)] for row in rows)]
        (tmp_path / f"{name}.csv").write_text("\n".join(map(",".join, lines)))
    (_, row), note = shown_table(tmp_path, "gradcam", "cl6", "e2e", draws=100)
    assert row[:6] == ["b1", "33.3%", "16.7%", "66.7%", "0.367", "0.233"]
    assert row[6:] == ["+0.1333", "100.0%", "0.0%"], "no interval of two cases"
    assert "each is drawn by itself" in note
    with pytest.raises(UserError, match="no gradcam of cl6 and cl3"):
        shown_table(tmp_path, "gradcam", "cl6", "cl3")
    with pytest.raises(UserError, match="no values by image"):
        shown_table(tmp_path / "x", "gradcam", "cl6", "e2e")
    for path in (tmp_path / "iou.csv", tmp_path / "degenerate.csv"):
        path.write_text(path.read_text().replace("/cl6/", "/cl6 timm/resnet18/"))
    assert shown_table(tmp_path, "gradcam", "cl6 timm/resnet18", "e2e", draws=100)[0][1] == row
    for damaged in ("", "gradcam/cl6/seed0/b1\nmuch\n", "image,gradcam/cl6/seed0/b1\na.png\n", "gradcam/b1\n1\n"):
        (tmp_path / "iou.csv").write_text(damaged)
        with pytest.raises(UserError, match=r"iou\.csv: no values by image"):
            shown_table(tmp_path, "gradcam", "cl6", "e2e")


def test_seeds_that_disagree_are_no_certain_difference(tmp_path: Path) -> None:
    """Three seeds that are +0.15, +0.10 and −0.12 apart; one side has two more, and is in another order."""
    draw, apart = np.random.default_rng(0), {"seed1": 0.10, "seed0": 0.15, "seed2": -0.12}
    other = {seed: draw.random(60).round(3) for seed in ("seed0", "seed1", "seed2", "seed3", "seed4")}
    iou = {f"gradcam/e2e/{seed}/b1": own for seed, own in other.items()}
    iou |= {f"gradcam/cl6/{seed}/b1": other[seed] + own for seed, own in apart.items()}
    patients = [f"p{case // 4}" for case in range(60)]

    def written(columns: dict[str, np.ndarray], groups: list[str]) -> tuple[list[str], str]:
        for name, scale in (("degenerate", 0), ("iou", 1)):
            rows = zip(groups, *(scale * own for own in columns.values()), strict=True)
            lines = [["group", *columns], *(list(map(str, row)) for row in rows)]
            (tmp_path / f"{name}.csv").write_text("\n".join(map(",".join, lines)))
        (_, row), note = shown_table(tmp_path, "gradcam", "cl6", "e2e", draws=500)
        return row, note

    row, note = written(iou, patients)
    differences = np.repeat(np.array([[0.10], [0.15], [-0.12]]), 60, 1)
    low, high = Resamples(60, patients).interval(differences[:, :, None])[:, 0]
    assert row[6] == f"{differences.mean():+.4f} [{low:+.4f}, {high:+.4f}]"
    assert low < 0 < high
    assert note.startswith("95 % intervals over seed1, seed0, seed2 and the cases; those of one patient, or image, are")
    one = {f"gradcam/{line}/seed0/b1": draw.random(60) for line in ("cl6", "e2e")}
    assert written(one, patients)[0][6] != written(one, [str(case) for case in range(60)])[0][6], "patients are drawn"
    with pytest.raises(UserError, match=r"cl6 has seed0, e2e seed1 — give lines that have a seed in common"):
        written({name.replace("e2e/seed0", "e2e/seed1"): own for name, own in one.items()}, patients)


def test_weighted_means_stay_among_their_values() -> None:
    draw = np.random.default_rng(0)
    hits = (draw.random((2, 30, 3)) < 0.4).astype(float)
    clusters = np.arange(30) // 3
    weights = np.zeros((30, 3))
    weights[:, 0], weights[:14, 1], weights[5, 2] = 1, 2, 3  # every image; those of five patients; one image
    resamples = Resamples(30, clusters.tolist(), draws=500)
    low, high = resamples.interval(hits, weights=weights)
    assert (low[:2] >= 0).all()
    assert (high[:2] <= 1).all()
    np.testing.assert_array_equal([low[0], high[0]], resamples.interval(hits)[:, 0])
    assert np.isnan([low[2], high[2]]).all(), "one patient says nothing of others"


@pytest.mark.parametrize("seeds", [1, 2])
def test_fractions_that_are_all_one_or_all_zero_have_the_exact_bound(seeds: int) -> None:
    """Of as many patients as count: all ten, and five of them. What does not count may be anything."""
    values = np.stack([np.ones((seeds, 30)), np.ones((seeds, 30)), np.zeros((seeds, 30))], 2)
    weights = np.ones((30, 3))
    weights[15:, 1], values[:, 15:, 1] = 0, 0.5
    resamples = Resamples(30, (np.arange(30) // 3).tolist(), draws=100)
    all_ten, five = (binomtest(count, count).proportion_ci(0.95, "exact").low for count in (10, 5))
    low, high = resamples.interval(values, weights=weights)
    assert low.tolist() == pytest.approx([all_ten, five, 0])
    assert high.tolist() == pytest.approx([1, 1, 1 - all_ten])
    apart = resamples.interval(values, weights=weights, differences=np.array([False, False, True]))
    np.testing.assert_array_equal(apart[:, :2], [low[:2], high[:2]])
    assert apart[:, 2].tolist() == [0, 0]


def test_differences_are_not_cut_off_at_zero() -> None:
    values, resamples = np.array([[1.0, 0, 0, 0, 0, 0]]), Resamples(6, draws=500)
    student = ttest_1samp(values[0], 0).confidence_interval()
    assert resamples.interval(values, differences=True)[0] == pytest.approx(student.low, abs=0.05)
    assert resamples.interval(values)[0] == 0
