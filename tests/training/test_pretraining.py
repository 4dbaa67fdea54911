import csv
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import CASCADE, NO_DRAWS, Script, same_weights

import train
from models.backbones import make_backbone
from models.cascade import Taps
from models.heads import make_head
from training.check import check_processes
from training.reading import lessons, read_pair, settle_source
from utils import checkpoint
from utils.config import Recipe
from utils.errors import UserError
from utils.recipes import load_recipe


def weights(project: Path, name: str, method: str = "cl3") -> Path:
    return project / "train" / name / "weights" / f"backbone_{method}.pt"


def stages(project: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((project / "train" / name / "pretrain.csv").read_text().splitlines()))


def test_cached_features_change_nothing(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    """96 images in steps of 20: the last step of an epoch is short, and rounds like the others."""
    for cache in ("off", "ram", "disk"):
        script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, "--cache", cache, "--name", cache)
    assert same_weights(weights(tmp_path, "off"), weights(tmp_path, "ram"))
    assert same_weights(weights(tmp_path, "off"), weights(tmp_path, "disk"))
    assert not list((tmp_path / "train" / "disk" / "cache").glob("*/*")), "what served its purpose is gone"
    assert (tmp_path / "train" / "off" / "metrics.json").exists()


@pytest.mark.parametrize(
    ("head", "place"), [(("author", "--pretrain-head-convs", 0), "disk"), (("gap",), "ram")], ids=["author", "gap"]
)
def test_pooled_features_change_nothing(
    corners_yaml: Path,
    tmp_path: Path,
    script: Script,
    capsys: pytest.CaptureFixture[str],
    head: tuple[object, ...],
    place: str,
) -> None:
    """Probes that begin with a pool read it from a cache: the same heads, bit for bit, and the same figures."""
    flags = [*CASCADE, "--cl-splits", 2, "--baselines", "e2e,probed", "--pretrain-head", *head]
    for cache, count in (("off", 0), (place, 2)):
        script(train, "--data", corners_yaml, "--project", tmp_path, *flags, "--cache", cache, "--name", cache)
        assert capsys.readouterr().out.count("_probes: read pooled features from a cache") == count
    for method in ("cl2_probed", "e2e", "e2e_probed"):
        one, other = (checkpoint.load(weights(tmp_path, own, method), "backbone") for own in ("off", place))
        assert len(one["heads"]) == 2
        for first, second in zip(one["heads"], other["heads"], strict=True):
            assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
        assert one["metrics"] == other["metrics"]
    assert not list((tmp_path / "train" / place / "cache").glob("*/*"))


DRAWS = ("--pretrain-crop", "0.3", "--augment-fliplr", "0.5", "--augment-photometric", "0.5")


def test_frozen_views_with_and_without_cache(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    for cache in ("off", "ram"):
        flags = [*CASCADE, *DRAWS, "--cache", cache, "--cache-views", 2, "--name", cache]
        script(train, "--data", corners_yaml, "--project", tmp_path, *flags)
    assert same_weights(weights(tmp_path, "off"), weights(tmp_path, "ram"))


def test_explicit_cache_with_ever_new_views_is_refused(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    with pytest.raises(UserError, match="--cache disk: augmentation draws a new view"):
        script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *DRAWS, "--cache", "disk")
    assert not (tmp_path / "train").exists(), "before anything is trained"
    with pytest.raises(UserError, match="--cache ram: several processes cannot share it"):
        check_processes(Recipe.model_validate({"cache": "ram", "devices": 2, "cl_splits": 2}), 2)
    check_processes(Recipe.model_validate({"cache": "ram", "num_nodes": 2, "cl_splits": 2}), 2)


def test_auto_says_why_it_does_not_cache(
    corners_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*CASCADE, *DRAWS, "--cl-splits", 2, "--pretrain-epochs", 1]
    script(train, "--data", corners_yaml, "--project", tmp_path, *flags)
    assert "no feature cache: augmentation" in capsys.readouterr().out


def test_baselines_have_a_head_at_every_cut(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    flags = ["--baselines", "e2e,e2e_compute,finetuned,probed", "--pretrain-epochs-step", 1]
    script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags)
    cascade = checkpoint.load(weights(tmp_path, "exp"), "backbone")
    assert [figures["epochs"] for figures in cascade["metrics"]] == [2, 3, 4]
    found = {method: checkpoint.load(weights(tmp_path, "exp", method), "backbone") for method in METHODS}
    images = torch.rand(2, 3, 32, 32)
    for method, content in found.items():
        assert content["method"] == method
        assert content["splits"] == cascade["splits"] == [[0, 3], [3, 4], [4, 6]]
        backbone = make_backbone("cnn6", 0.0625)
        backbone.load_state_dict(content["model"])
        for features, shape, state in zip(
            Taps(backbone, [3, 4, 6])(images), content["shapes"], content["heads"], strict=True
        ):
            head = make_head("author", tuple(shape), 4)
            head.load_state_dict(state)
            assert head.eval()(features).shape == (2, 4)
        assert all(0 <= figures["accuracy"] <= 1 for figures in content["metrics"])
    assert found["e2e"]["metrics"][-1]["epochs"] == found["cl3_finetuned"]["metrics"][-1]["epochs"] == 4
    metrics = json.loads((tmp_path / "train" / "exp" / "metrics.json").read_text())
    assert set(metrics["pretrain"]) == {"cl3", "cl3_probed", *METHODS}
    assert set(load_recipe(tmp_path / "train" / "exp" / "recipe.yaml", {}).backbones) == {"cl3", "cl3_probed", *METHODS}
    probed = checkpoint.load(weights(tmp_path, "exp", "cl3_probed"), "backbone")
    assert all(torch.equal(tensor, probed["model"][name]) for name, tensor in cascade["model"].items())
    assert not torch.equal(probed["heads"][-1]["5.weight"], cascade["heads"][-1]["5.weight"])
    for method in ("e2e", "cl3_finetuned"):
        own, fresh = found[method]["heads"], found[f"{method}_probed"]["heads"]
        same = [torch.equal(one["5.weight"], other["5.weight"]) for one, other in zip(own, fresh, strict=True)]
        assert same == [True, True, False]
    assert not same_weights(weights(tmp_path, "exp"), weights(tmp_path, "exp", "cl3_finetuned"))


def test_heads_that_learn_together_do_not_stop_early(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    """A stage may end at an accuracy; heads at several cuts have none in common."""
    flags = ["--cl-splits", 2, "--baselines", "e2e", "--pretrain-stop-accuracy", 0.1]
    script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags)
    epochs = {row["task"]: row["epoch"] for row in stages(tmp_path, "exp")}  # the last of each
    assert epochs == {"stage1": "1", "stage2": "1", "e2e": "1", "e2e_probes": "2"}


def test_heads_that_learn_together_are_judged_as_stages_are(
    corners_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the detector's size too, and in a line each."""
    flags = ["--cl-splits", 2, "--baselines", "e2e,probed", "--pretrain-epochs", 1]
    script(
        train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags, "--imgsz", 64, "--pretrain-imgsz", 32
    )
    said = capsys.readouterr().out
    rows = {row["task"]: row for row in stages(tmp_path, "exp")}
    for method in ("cl2", "e2e"):
        content = checkpoint.load(weights(tmp_path, "exp", f"{method}_probed"), "backbone")
        for own in content["metrics"]:
            cut, figure = f"b{own['cut']:.0f}", own["accuracy@64"]
            assert float(rows[f"{method}_probes"][f"val/{cut}/accuracy@64"]) == pytest.approx(figure, abs=1e-5)
            assert re.search(rf"{method}_probes {cut}: learnt.*, {figure:.3f} at 64 px; chance 0\.250, majority", said)


METHODS = ("e2e", "e2e_compute", "cl3_finetuned", "e2e_probed", "e2e_compute_probed", "cl3_finetuned_probed")


def test_equal_compute_counts_all_that_the_cascade_did(
    corners_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    """Linear heads cost nothing to speak of: with cache the cascade costs E2E's epochs, plus a third of one."""
    flags = ["--baselines", "e2e_compute", "--pretrain-head", "gap", "--pretrain-epochs", 3, "--pretrain-val-every", 3]
    for cache in ("ram", "off"):
        script(
            train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags, "--cache", cache, "--name", cache
        )
    cached, plain = (
        checkpoint.load(weights(tmp_path, name, "e2e_compute"), "backbone")["metrics"][-1]["epochs"]
        for name in ("ram", "off")
    )
    assert cached == 3
    # Without cache the 78 % of the first stage run forward in the second, 88 % in the third: 3 · (1 + 1.66 / 3).
    assert plain == 5
    said = capsys.readouterr().out
    assert "e2e_compute: 3 epochs, 0.91 of the FLOPs of CL_3: not equal; more epochs a stage come closer" in said
    assert "e2e_compute: 5 epochs, 1.07 of the FLOPs of CL_3: not equal" in said


def test_drifting_batchnorm_drifts_and_the_frozen_one_does_not(
    corners_yaml: Path, tmp_path: Path, script: Script
) -> None:
    for mode in ("frozen", "author"):
        flags = [*CASCADE, "--pretrain-bn-mode", mode, "--cache", "off", "--name", mode]
        script(train, "--data", corners_yaml, "--project", tmp_path, *flags)
        after = checkpoint.load(weights(tmp_path, mode), "backbone")["model"]
        first = checkpoint.load(tmp_path / "train" / mode / "weights" / "cl3_stage1.pt", "stage")["model"]
        statistics = [name for name in after if name.startswith("blocks.0.norm.running")]
        same = [torch.equal(after[name], first[name.replace("blocks.0", "part.0")]) for name in statistics]
        assert same == [mode == "frozen"] * 2
        assert torch.equal(after["blocks.0.conv.weight"], first["part.0.conv.weight"])


def test_early_stopping_looks_at_images_held_out_from_training(
    corners_yaml: Path, tmp_path: Path, script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--pretrain-patience", 1, "--pretrain-val-every", 1, "--pretrain-epochs", 30, "--pretrain-lr", 1e-9]
    further = ["--baselines", "e2e_compute", "--baseline-heads", "last", "--pretrain-head", "gap", "--cache", "off"]
    script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags, *further)
    assert "e2e_compute: stopped after 2 of 3 epochs, below the cascade's FLOPs" in capsys.readouterr().out
    content = checkpoint.load(weights(tmp_path, "exp"), "backbone")
    assert all(figures["epochs"] < 30 for figures in content["metrics"])


def test_a_part_is_held_out_once(corners_yaml: Path, tmp_path: Path) -> None:
    """Early stopping on data without validation split: what was held out for validation serves it too."""
    bare = tmp_path / "bare.yaml"
    bare.write_text(f"path: {corners_yaml.parent}\nformat: cifar\ntrain: train\ntest: test\n")
    for yaml, parts in ((bare, (86, 10)), (corners_yaml, (86, 10))):
        recipe = Recipe.model_validate({"data": yaml, "pretrain": {"patience": 1}})
        pair = read_pair(recipe.data, recipe, download=False)
        (train_part, val_part), _ = lessons(settle_source(recipe, (pair, pair)), pair)
        assert (len(train_part.records), len(val_part.records)) == parts
        assert len(pair[0].records) == (86 if yaml is bare else 96)


def test_a_stage_that_has_learnt_enough_stops(corners_yaml: Path, tmp_path: Path, script: Script) -> None:
    script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, "--pretrain-stop-accuracy", 0.1)
    assert [row["epoch"] for row in stages(tmp_path, "exp")] == ["1", "1", "1"]


@pytest.mark.parametrize("preset", ["author", "marquez"])
def test_presets_run(corners_yaml: Path, tmp_path: Path, script: Script, preset: str) -> None:
    small = ["--width", 0.0625, "--imgsz", 32, "--pretrain-epochs", 1, "--cl-splits", 2]
    flags = ["--precision", "fp32", "--workers", 0, "--device", "cpu", "--preset", preset, *small]
    script(train, "--data", corners_yaml, "--project", tmp_path, *flags)
    recipe = checkpoint.load(weights(tmp_path, "exp", "cl2"), "backbone")["recipe"]["pretrain"]
    wanted = {
        "author": ("sgd", 0.0053376, 1.6331e-5, 12, "author", 7),
        "marquez": ("sgd", 0.01, 2e-3, 128, "frozen", 10),
    }
    keys = ("optimizer", "lr", "weight_decay", "batch_size", "bn_mode", "patience")
    assert tuple(recipe[key] for key in keys) == wanted[preset]


def test_recomputed_activations_change_nothing(
    corners_yaml: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They save memory, so that what is freed is returned to the system, too."""
    kept: list[str] = []
    for name, flags in (("plain", []), ("again", ["--recompute"])):
        monkeypatch.setattr("training.cascade.keep_memory", lambda name=name: kept.append(name))
        script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags, "--name", name)
    assert same_weights(weights(tmp_path, "plain"), weights(tmp_path, "again"))
    assert kept == ["plain"]


def test_pretraining_alone(scenes_yaml: Path, tmp_path: Path, script: Script) -> None:
    flags = ["--width", 0.125, "--imgsz", 64, "--device", "cpu", "--precision", "fp32", "--workers", 0, *NO_DRAWS]
    flags += ["--cl-splits", 2, "--epochs", 1, "--pretrain-only"]
    script(train, "--data", scenes_yaml, "--project", tmp_path, *flags)
    assert not (tmp_path / "train" / "exp" / "results.csv").exists()
    assert "map" not in json.loads((tmp_path / "train" / "exp" / "metrics.json").read_text())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--baselines", "e2e,magic"], "--baselines: `baselines.1` is 'magic'"),
        (["--baselines", "e2e", "--cl-splits", "0"], "compared with a cascade"),
        (["--cl-splits", "7"], "to 6"),
        (["--pretrain-bn-mode", "author", "--cache-views", "2"], "nothing can be cached"),
    ],
)
def test_what_cannot_be_is_refused(
    corners_yaml: Path, tmp_path: Path, script: Script, flags: list[str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        script(train, "--data", corners_yaml, "--project", tmp_path, *CASCADE, *flags)
    assert not (tmp_path / "train").exists()
