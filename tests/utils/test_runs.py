"""Folders that are made, kept and looked up."""

import json
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.runs import FINISHED, located, made, new_run, newest_detector, newest_model, newest_segmenter
from utils.zoo import FOLDER


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


def test_runs_that_start_together_have_folders_of_their_own(tmp_path: Path) -> None:
    one, two, three = (new_run(tmp_path, "train") for _ in range(3))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "exp2").symlink_to("nowhere")
    with one as first, two as second:
        assert [first.name, second.name] == ["exp", "exp3"]
        (first / "recipe.yaml").touch()
        with pytest.raises(UserError):
            fail_in(three)
        assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["exp", "exp2", "exp3"]


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
    with pytest.raises(UserError, match=r"^none\.onnx: no such file, and no finished run in runs/train has a weight"):
        located(Path("none.onnx"), Path("runs"))


def finished(project: Path, name: str, task: str | None) -> Path:
    """A run that has ended: with a detector, a segmenter, or backbones alone."""
    weights = project / "train" / name / "weights"
    weights.mkdir(parents=True)
    (weights.parent / "recipe.yaml").write_text("{}")
    if task:
        (weights / "best.pt").write_bytes(b"")
    (weights.parent / "metrics.json").write_text(json.dumps({"task": task} if task == "segment" else {}))
    return weights / "best.pt"


def test_the_newest_of_a_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A segmenter is no detector, and a run of backbones alone has neither."""
    detector = finished(tmp_path, "a", "detect")
    segmenter = finished(tmp_path, "b", "segment")
    finished(tmp_path, "c", None)
    assert newest_detector(tmp_path) == detector
    assert newest_segmenter(tmp_path) == segmenter
    assert newest_model(tmp_path) == segmenter
    assert not capsys.readouterr().out


def test_what_no_run_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished(tmp_path, "a", None)
    assert newest_detector(tmp_path) == newest_model(tmp_path) == FOLDER / "darknet53_detector.pt"
    assert "since no finished run in" in (said := capsys.readouterr().out)
    assert "has a detector: darknet53_detector.pt in weights/" in said
    with pytest.raises(UserError, match="no finished run has a segmenter"):
        newest_segmenter(tmp_path)
