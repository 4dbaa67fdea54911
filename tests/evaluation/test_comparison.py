import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Script
from PIL import Image

import val
from evaluation.comparison import Entry, Line, lines_of, save_plot, table
from evaluation.resampled import Matches, Sampled, draws_of, figures, left_out, one_class, over_seeds
from utils.errors import UserError

RECALLS, TRIALS = np.linspace(0, 1, 101), 200


@pytest.fixture
def files(overfitted: Path, tmp_path: Path) -> list[Path]:
    """The detector of the shared run as cl3 and as e2e of two seeds; e2e has lost a part of its weights."""
    own, found = overfitted / "train" / "exp" / "weights" / "best.pt", []
    for name in ("cl3_seed0", "cl3_seed1", "e2e_seed0", "e2e_seed1"):
        path = tmp_path / name / "weights" / "best.pt"
        path.parent.mkdir(parents=True)
        shutil.copyfile(own, path)
        if name.startswith("e2e"):
            content = torch.load(path, weights_only=True)
            worse = next(key for key in reversed(content["model"]) if content["model"][key].ndim == 4)
            content["model"][worse] *= 0.9
            torch.save(content, path)
        found.append(path)
    return found


def test_one_detector_with_intervals(overfitted: Path, script: Script, tmp_path: Path) -> None:
    weights = overfitted / "train" / "exp" / "weights" / "best.pt"
    script(val, "--map", "--weights", weights, "--project", tmp_path, "--bootstrap", 50, "--device", "cpu")
    metrics = json.loads((tmp_path / "val" / "exp" / "metrics.json").read_text())
    low, high = metrics["intervals"]["map50"]
    assert metrics["intervals"]["draws"] == 50
    assert low <= metrics["map50"] <= high
    assert f"[{low:.3f}, {high:.3f}]" in (tmp_path / "val" / "exp" / "summary.txt").read_text()


def test_detectors_are_compared_in_pairs(
    files: list[Path], script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--project", tmp_path, "--bootstrap", 50, "--device", "cpu", "--json", tmp_path / "c.json")
    script(val, "--map", "--weights", *files, *given)
    folder = tmp_path / "val" / "exp"
    content = json.loads((folder / "comparison.json").read_text())
    assert content == json.loads((tmp_path / "c.json").read_text())
    assert [(run["line"], run["seed"]) for run in content["runs"]] == [
        ("cl3", "0"), ("cl3", "1"), ("e2e", "0"), ("e2e", "1"),
    ]  # fmt: skip
    apart = content["differences"]["e2e"]["map50"]
    means = [content["lines"][name]["map50"]["mean"] for name in ("e2e", "cl3")]
    assert apart["mean"] == pytest.approx(means[0] - means[1])
    assert apart["low"] <= apart["mean"] <= apart["high"]
    assert "map50, minus cl3" in capsys.readouterr().out
    assert np.asarray(Image.open(folder / "comparison.png")).std() > 0
    with pytest.raises(UserError, match="cl3 seed 0 twice"):
        script(val, "--map", "--weights", files[0], files[0], *given)
    with pytest.raises(UserError, match="e2e has the seeds 0, cl3 0, 1"):
        script(val, "--map", "--weights", *files[:3], *given)
    assert "mAP50" not in capsys.readouterr().out, "refused before anything is judged"
    with pytest.raises(UserError, match="cl3_seed0 and cl3 would be one row"):
        lines_of([files[0], tmp_path / "cl3.pt"])
    deep = torch.load(files[2], weights_only=True) | {"levels": [0.0, 4095.0]}
    torch.save(deep, files[2])
    with pytest.raises(UserError, match=r"levels are \[0\.0, 4095\.0\], but none in"):
        script(val, "--map", "--weights", files[0], files[2], *given)


def pictures(draw: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """[count] boxes in each image, and how easy it is."""
    return draw.integers(0, 4, count), draw.normal(0.7, 0.15, count)


def found_in(draw: np.random.Generator, boxes: np.ndarray, easy: np.ndarray, shift: float) -> Matches:
    """What a detector finds of one class: most boxes, and nothing where there is something else, less sure."""
    hits = draw.binomial(boxes, (easy + shift).clip(0.05, 0.95))
    image = np.concatenate([np.repeat(np.arange(len(boxes)), own) for own in (hits, draw.poisson(1.0, len(boxes)))])
    right = np.arange(len(image)) < hits.sum()
    order = np.argsort(-(draw.normal(0, 1, len(image)) + right), kind="stable")
    right, image = right[order], image[order]
    return Matches(right[None], ~right[None], image, boxes.astype(float))


def sampled(own: Matches, draws: int) -> Sampled:
    groups = np.arange(len(own.demanded))
    parts = [np.ones((1, len(groups))), draws_of(groups, draws), left_out(groups, 60)]
    values = [figures(np.repeat(one_class(own, weights, RECALLS)[:, None], 6, 2))[:, 1:2] for weights in parts]
    return Sampled(("map50",), values[0][0], values[1], values[2])


def test_several_seeds_need_images_too() -> None:
    """Each of three seeds alone has no interval on three images; nor have they together."""
    draw = np.random.default_rng(0)
    few, many = ([sampled(found_in(draw, *pictures(draw, count), 0.0), 50) for _ in range(3)] for count in (3, 40))
    assert np.isnan(over_seeds(few)[1]).all()
    bounds = over_seeds(many)[1]
    for own in many:
        own.drawn[7] = np.nan  # a draw without a box
    np.testing.assert_allclose(over_seeds(many)[1], bounds, atol=0.02)
    for own in many:
        own.drawn[:20] = np.nan
    assert np.isnan(over_seeds(many)[1]).all()


def test_bounds_stay_within_what_is_possible() -> None:
    """Two seeds that are far apart: Student's t alone reaches to 1.59."""
    draw, left = np.random.default_rng(0), np.zeros((20, 1))
    runs = [Sampled(("map",), np.array([own]), draw.normal(own, 0.01, (50, 1)), left) for own in (0.9, 1.0)]
    mean, (low, high) = over_seeds(runs)
    assert mean == pytest.approx(0.95)
    assert low == pytest.approx(0.95 - 12.7062 * 0.05, abs=1e-3)
    assert high == 1
    zero = Sampled(("map",), np.zeros(1), np.zeros((50, 1)), left)
    apart = [zero.minus(runs[0]), runs[1].minus(zero)]
    assert np.ravel(over_seeds(apart)[1]).tolist() == [-1, 1]


def test_no_difference_where_a_backbone_had_learnt_nothing(tmp_path: Path) -> None:
    """Detectors on the very same backbone are compared all the same."""
    draw = np.random.default_rng(0)
    own = {"": sampled(found_in(draw, *pictures(draw, 40), 0.0), 50)}
    taught, untaught = ({"": {"judged_by": "auc", "auc": auc, "learnt": float(auc > 0.6)}} for auc in (0.9, 0.53))
    lines = [
        Line("cl3", own, untaught),
        Line("e2e", own, taught),
        Line("scratch", own, {"": {}}),
        Line("lr", own, untaught),
    ]
    why = "not tested: the classifiers learnt nothing (AUC 0.53)"
    assert [row[-1] for row in table(lines, ("map50",))[1:3]] == ["–", why]
    assert [row[-1] for row in table(lines, ("map50",))[3:]] == [why, "+0.000 [+0.000, +0.000]"]
    assert table(lines[1:3], ("map50",))[-1][-1] == "+0.000 [+0.000, +0.000]"
    save_plot(lines[:2], tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()


def test_a_single_resample_is_no_interval() -> None:
    own = Sampled(("map",), np.ones(1), np.ones((1, 1)), np.ones((20, 1)))
    assert np.isnan(own.interval()).all()
    assert np.isnan(over_seeds([own, own])[1]).all()


def test_a_figure_that_no_box_allows_is_a_dash() -> None:
    nothing = float("nan")
    shown = [
        str(own) for own in (Entry(nothing, nothing, nothing), Entry(0.25, nothing, nothing), Entry(-0.1, -0.2, 0))
    ]
    assert shown == ["–", "+0.250", "-0.100 [-0.200, +0.000]"]


def test_without_resamples_there_are_no_intervals(
    files: list[Path], script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--project", tmp_path, "--device", "cpu", "--weights", files[0], files[2])
    script(val, "--map", *given, "--bootstrap", 0)
    printed = capsys.readouterr().out
    assert "no intervals: nothing was resampled" in printed
    assert "95 %" not in printed


@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_coverage_of_average_precision(seeds: int) -> None:
    """Nominal 95 % covers 93 % at least, over images and seeds."""
    draw = np.random.default_rng(seeds)
    shifts = draw.normal(0, 0.05, 200) if seeds > 1 else np.zeros(1)
    large = (found_in(draw, *pictures(draw, 3000), shift) for shift in shifts[:60])
    true = np.mean([one_class(own, np.ones((1, 3000)), RECALLS)[0, 0] for own in large])
    hits = []
    for _ in range(TRIALS):
        shared = pictures(draw, 60 if seeds > 1 else 200)
        _, (low, high) = over_seeds([sampled(found_in(draw, *shared, draw.choice(shifts)), 200) for _ in range(seeds)])
        hits.append(low[0] <= true <= high[0])
    assert np.mean(hits) >= 0.93 - 2 * (0.95 * 0.05 / TRIALS) ** 0.5, "so far is what so few trials can say"
