from pathlib import Path

import pytest

from utils.config import Recipe
from utils.errors import UserError
from utils.files import first_free, write_text
from utils.flags import input_size, recipe_flags
from utils.recipes import load_recipe, save_recipe
from utils.runs import new_run


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_numbers_with_exponents_are_numbers(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path / "r.yaml", "train: {lr: 1e-4}"), {}).train.lr == 1e-4


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "seed: 3\ntrain: {lr: 1e-4, epochs: 7}")
    recipe = load_recipe(path, {"train.epochs": "9", "pretrain.lr": "0.5"})
    assert (recipe.seed, recipe.train.lr, recipe.train.epochs, recipe.pretrain.lr) == (3, 1e-4, 9, 0.5)
    assert (recipe.stage.epochs, recipe.stage.lr) == (9, 0.5)


def test_a_flag_without_a_text_takes_back_what_the_file_gives(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "init: torchvision\npretrain: {freeze_epochs: 0.5, patience: 3}")
    recipe = load_recipe(path, {"init": "", "pretrain.freeze_epochs": "0", "pretrain.patience": ""})
    assert (recipe.init, recipe.pretrain.patience) == (None, None)
    with pytest.raises(UserError, match=r"train\.lr|--lr"):
        load_recipe(path, {"train.lr": ""})


def test_paths_in_a_file_start_at_the_file(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path / "r.yaml", "data: x/d.yaml"), {}).data == tmp_path / "x" / "d.yaml"


def test_saved_recipe_reads_back(tmp_path: Path) -> None:
    recipe = load_recipe(None, {"data": "data/sample.yaml", "train.lr": "0.25", "anchors": str([[1, 2]] * 9)})
    save_recipe(recipe, tmp_path / "r.yaml")
    again = load_recipe(tmp_path / "r.yaml", {})
    assert again == recipe
    assert again.data.is_absolute()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("epcohs: 3", "unknown key `epcohs`"),
        ("train: {epcohs: 3}", r"unknown key `train\.epcohs` — did you mean epochs"),
        ("train: {epochs: 2.5}", "give a whole number"),
        ("pretrain: {source: objets}", "give 'auto', 'objects' or 'pictures'"),
        ("train: 5", "give key: value pairs"),
        ("imgsz: 100", "multiple of 32"),
        ("train: {lr: -1}", "give a number above 0$"),
        ("pretrain: {context: .inf}", "give 10 or less$"),
        ("augment: {pca: .inf}", "give 10 or less$"),
        ("pretrain: {context: .nan}", "give 10 or less$"),
        ("anchors: [[1, 2]]", "give 9 values or more"),
        ("cl_splits: 0\nfreeze: true", "give weights, init or cl_splits"),
        ("- a\n- b", "no key: value pairs"),
        ("a: [", r"r\.yaml:1: is not valid yaml"),
    ],
)
def test_bad_recipes_are_one_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as error:
        load_recipe(write(tmp_path / "r.yaml", text), {})
    assert "r.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_bad_flag_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", "seed: 3")
    with pytest.raises(UserError, match=r"^--epochs: `train\.epochs` is 'x'"):
        load_recipe(path, {"train.epochs": "x"}, {"train.epochs": "--epochs"})


@pytest.mark.parametrize("text", ["0", "33", "-64", "many", "32"])
def test_bad_input_sizes(text: str) -> None:
    with pytest.raises(UserError, match="multiple of 32"):
        input_size(text)
    assert input_size("96") == 96


def test_every_key_has_one_flag() -> None:
    flags = [flag for flag, *_ in recipe_flags()]
    assert len(flags) == len(set(flags))
    assert {"--backbone", "--cl-splits", "--epochs", "--pretrain-epochs", "--imgsz", "--freeze", "--seed"} <= set(flags)
    assert all(field.description for *_, field in recipe_flags())


def test_run_folders_are_numbered(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with new_run(tmp_path, "train") as folder:
            names.append(folder.name)
    assert names == ["exp", "exp2", "exp3"]
    assert first_free(lambda name: tmp_path / name, "a").name == "a"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().seed = 3  # type: ignore[misc]


def test_anchors_are_sorted_as_the_maps_take_them() -> None:
    """Small ones belong to the finest map, in whatever order they are given."""
    anchors = [(8.0 * number, 9.0 * number) for number in range(1, 10)]
    assert Recipe(anchors=anchors[::-1]).anchors == anchors
    assert Recipe(anchors="auto").anchors == "auto"


def test_lists_in_flags_may_have_blanks() -> None:
    recipe = Recipe.model_validate({"baselines": "e2e, probed", "logger": "csv, tensorboard"})
    assert recipe.baselines == ("e2e", "probed")
