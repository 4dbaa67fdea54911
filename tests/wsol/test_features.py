"""What all commands on features do before they look at a picture."""

from pathlib import Path
from types import ModuleType

import pytest
from conftest import Script

from utils.errors import UserError
from wsol import answers, concepts, deep_features, feature_svms, informative, top_classes, units

PAIRS = ("questions", "annotations", "images")


@pytest.mark.parametrize("module", [answers, concepts, deep_features, feature_svms, informative, top_classes, units])
def test_names_of_pictures_are_judged_before_anything_is_read(module: ModuleType, script: Script) -> None:
    """No weights and no data are there."""
    flags = {answers: [word for flag in PAIRS for word in (f"--{flag}", "a", "b")], top_classes: ["--source", "a.png"]}
    given = ["--weights", "missing.pt", *flags.get(module, ["--data", "missing.yaml"])]
    with pytest.raises(UserError, match=r"page\.txt: is no name for a picture"):
        script(module, *given, "--pictures", "page.txt")


def test_plot_and_folds_are_judged_too(script: Script, tmp_path: Path) -> None:
    given = ["--weights", "missing.pt", "--data", "missing.yaml"]
    with pytest.raises(UserError, match=r"curve\.jpg: is no name for a picture"):
        script(feature_svms, *given, "--plot", tmp_path / "curve.jpg")
    with pytest.raises(UserError, match="--plot: draws the cross-validation, and --penalty leaves it out"):
        script(feature_svms, *given, "--plot", tmp_path / "curve.png", "--penalty", 1)
    with pytest.raises(UserError, match="--pictures: fc7 has no maps — add average or gap"):
        script(feature_svms, *given, "--pictures", tmp_path / "a.jpg", "--features", "fc7")
    with pytest.raises(UserError, match="--folds: 1 folds leave nothing to learn from"):
        script(feature_svms, *given, "--folds", 1)
