import pytest

from training.schedule import drops, exhausted, learning_rate
from utils.config import Phase, Pretrain, Recipe
from utils.errors import UserError
from utils.recipes import build


def test_rate_warms_up_and_falls() -> None:
    phase = Phase(lr=1.0, lr_final=0.1, warmup=0.1)
    rates = [learning_rate(phase, step, 100, []) for step in range(100)]
    assert rates[0] < rates[5] < rates[10] == max(rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.1, abs=0.001)


def test_linear_falls_evenly_after_the_warm_up() -> None:
    phase = Phase(lr=1.0, lr_final=0.2, warmup=0.1, schedule="linear")
    assert [learning_rate(phase, step, 100, []) for step in (10, 55)] == pytest.approx([1, 0.6])
    assert learning_rate(phase, 99, 100, []) == pytest.approx(0.2, abs=0.01)


def test_steps_are_those_of_darknet() -> None:
    phase = Phase(lr=1.0, warmup=0.01, schedule="steps")
    rates = [learning_rate(phase, step, 500, []) for step in (5, 399, 400, 449, 450, 499)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_authors_cosine_starts_at_the_full_rate_and_ends_at_none() -> None:
    phase = Phase(lr=0.005, lr_final=0, warmup=0)
    assert learning_rate(phase, 0, 600, []) == 0.005
    assert learning_rate(phase, 300, 600, []) == pytest.approx(0.0025)
    assert learning_rate(phase, 599, 600, []) < 1e-7


PLATEAU = Phase(lr=0.01, schedule="plateau", patience=10)


def test_plateau_falls_when_five_epochs_are_no_better_than_the_five_before() -> None:
    rising = [0.1 * epoch for epoch in range(30)]
    assert drops(rising, 10) == 0
    flat = [0.5] * 30
    # Judged at 10, then ten epochs after each fall.
    assert [drops(flat[:epochs], 10) for epochs in (9, 10, 19, 20, 30)] == [0, 1, 1, 2, 3]
    assert learning_rate(PLATEAU, 7, 1000, flat[:20]) == pytest.approx(1e-4)


def test_plateau_ends_at_the_fourth_fall() -> None:
    flat = [0.5] * 40
    assert [exhausted(PLATEAU, flat[:epochs]) for epochs in (39, 40)] == [False, True]


def test_early_stopping_counts_validations_since_the_first_best() -> None:
    phase = Phase(patience=2)
    assert not exhausted(phase, [0.1, 0.3, 0.2])
    assert exhausted(phase, [0.1, 0.3, 0.2, 0.3]), "as good is not better"
    assert not exhausted(phase, [0.1, 0.3, 0.2, 0.4])
    assert not exhausted(Phase(), [0.5] * 50)


def test_early_stopping_waits_for_the_first_find() -> None:
    phase = Phase(patience=2)
    assert not exhausted(phase, [0.0] * 30)
    assert not exhausted(phase, [0.0] * 30 + [0.1, 0.0])
    assert exhausted(phase, [0.0] * 30 + [0.1, 0.0, 0.1])
    assert not exhausted(PLATEAU, [0.0] * 100)
    late = [0.0] * 100 + [0.02]
    assert (drops(late, 10), exhausted(PLATEAU, late)) == (0, False), "a late first match is no plateau's end"
    assert drops(late + [0.02] * 9, 10) == 1


def test_plateau_needs_patience() -> None:
    with pytest.raises(UserError, match="give patience, and val_every 1"):
        build(Recipe, {"pretrain": {"schedule": "plateau", "val_every": 1}}, "r.yaml")


def test_open_values_of_a_stage_come_from_the_detector() -> None:
    recipe = Recipe.model_validate({"imgsz": 96, "train": {"epochs": 7}, "pretrain": {"imgsz": 64}})
    assert (recipe.stage.epochs, recipe.stage.imgsz) == (7, 64)
    assert Pretrain().epochs is None
