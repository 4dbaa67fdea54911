"""Folders that are made, kept and looked up."""

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.runs import FINISHED, located, made, new_run


def fail_in(context: AbstractContextManager[Path], *names: str) -> None:
    """Make a folder, put files into it, fail."""
    with context as folder:
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).touch()
        raise UserError("wrong", where=folder, hint="correct it")


@pytest.mark.parametrize("notes", [(), ("recipe.yaml", "console.log"), ("tensorboard/events.out.tfevents.1",)])
def test_a_failure_leaves_no_folder(tmp_path: Path, notes: tuple[str, ...]) -> None:
    with pytest.raises(UserError):
        fail_in(new_run(tmp_path / "runs", "train"), *notes)
    assert not list(tmp_path.iterdir())


def test_a_failure_keeps_results_and_older_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        fail_in(new_run(tmp_path / "runs", "train"), "results.csv")
    assert (tmp_path / "runs" / "train" / "exp" / "results.csv").exists()
    (tmp_path / "older").mkdir()
    for folder in (tmp_path / "older", tmp_path / "older" / "new" / "newer"):
        with pytest.raises(UserError):
            fail_in(made(folder))
    assert not list((tmp_path / "older").iterdir())


def test_bare_names_are_looked_up_in_the_newest_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        (tmp_path / "runs" / "train" / name / "weights").mkdir(parents=True)
        (tmp_path / "runs" / "train" / name / "recipe.yaml").touch()
        (tmp_path / "runs" / "train" / name / FINISHED).touch()
    wanted = Path("runs/train/one/weights/best.onnx")
    wanted.touch()
    assert located(Path("best.onnx"), Path("runs")) == wanted
    assert capsys.readouterr().out == f"best.onnx: {wanted}\n"
    Path("best.onnx").touch()
    assert located(Path("best.onnx"), Path("runs")) == Path("best.onnx")
    assert located(Path("other/best.onnx"), Path("runs")) == Path("other/best.onnx")
    with pytest.raises(UserError, match=r"^none\.onnx: no such file, and no finished run in runs/train has one"):
        located(Path("none.onnx"), Path("runs"))
