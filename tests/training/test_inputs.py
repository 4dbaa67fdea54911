"""What a run needs is checked before a folder is made, and by --dry-run alone."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import CASCADE, Script, write_yaml
from PIL import Image

import train
import val
from data import sample
from models.backbones import make_backbone
from models.plan import make_plan, plan_table
from training.start import train as start
from utils.errors import UserError

SMALL = ("--width", 0.125, "--imgsz", 64, "--device", "cpu", "--precision", "fp32", "--workers", 0)


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (("--weights", "none.pt"), "none.pt: no such weight file"),
        (("--init", "none.pt"), "none.pt: no such weight file"),
        (("--pretrain-data", "none.yaml"), r"none\.yaml: cannot be read"),
        (("--data", "none.yaml"), r"none\.yaml: cannot be read"),
        (("--data", "empty.yaml"), "the data folder .* does not exist"),
        (("--init", "broken.pt"), "is not a checkpoint"),
        (("--imgsz", 32, "--batch-size", 1), "cannot take"),
        (("--precision", "fp16"), "fp16 needs a GPU"),
        (("--cl-splits", 0, "--pretrain-only"), "nothing to train"),
    ],
)
@pytest.mark.parametrize("dry", [("--dry-run",), ()])
def test_what_is_missing_shows_before_a_folder_is_made(
    flags: tuple[object, ...],
    what: str,
    dry: tuple[str, ...],
    scenes_yaml: Path,
    script: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "empty.yaml", path="nowhere")
    (tmp_path / "broken.pt").write_text("no weights")
    with pytest.raises(UserError, match=what):
        script(train, "--data", scenes_yaml, *SMALL, *flags, *dry)
    assert {path.name for path in tmp_path.iterdir()} == {"empty.yaml", "broken.pt"}


@pytest.mark.parametrize("flags", [("--cl-splits", 0), ("--pretrain-source", "pictures", "--pretrain-only")])
def test_a_batch_has_no_more_images_than_there_are(flags: tuple[object, ...], script: Script, tmp_path: Path) -> None:
    """Of one image, the deepest features are one value a channel, whatever the batch may hold."""
    sample.write(tmp_path / "scenes", size=sample.SampleSize(1, 1, 1))
    data = write_yaml(tmp_path / "scenes.yaml", path="scenes", scenes={"train": 1, "val": 1, "test": 1})
    command = ("--data", data, *SMALL, "--imgsz", 32, "--project", tmp_path / "runs", *flags)
    with pytest.raises(UserError, match=r"cannot take 1 images of 32 pixels a step .* or more images"):
        script(train, *command)
    assert not (tmp_path / "runs").exists()
    script(train, *command, "--imgsz", 64, "--dry-run")


def test_dry_runs_read_everything_and_leave_nothing(
    scenes_yaml: Path, overfitted: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = overfitted / "train" / "exp" / "weights" / "backbone_cl3.pt"
    script(train, "--dry-run", "--data", scenes_yaml, *SMALL, "--weights", weights, "--project", tmp_path / "runs")
    shown = capsys.readouterr().out
    assert "train: 8 images" in shown
    assert "data, weights and sizes: checked" in shown
    script(train, "--dry-run", "--data", scenes_yaml, *CASCADE, "--project", tmp_path / "runs")
    for mode in ("--map", "--accuracy", "--localise"):
        script(val, mode, "--dry-run", "--project", overfitted, "--json", tmp_path / "deep" / "figures.json")
        assert "weights and data: checked" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    assert not (overfitted / "val" / "dry").exists()


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (["0 0.5 0.5 0.4 0.4"] * 12, "--anchors auto: 1 different sizes of boxes for 9 anchors"),
        (["0,0.5,0.5,0.4,0.4"] * 12, "none of the 10 images of `train` has a class: there is nothing to learn"),
    ],
)
def test_labels_that_teach_nothing_are_refused_before_the_first_step(
    labels: list[str], what: str, script: Script, tmp_path: Path
) -> None:
    for number, line in enumerate(labels):
        split = "train" if number < 10 else "val"
        (tmp_path / split).mkdir(exist_ok=True)
        Image.effect_noise((64, 64), number + 1).convert("RGB").save(tmp_path / split / f"{number}.png")
        (tmp_path / split / f"{number}.txt").write_text(line)
    (tmp_path / "data.yaml").write_text("train: train\nval: val\nnames: [a, b]\n")
    flags = ["--data", tmp_path / "data.yaml", *CASCADE, "--backbone", "darknet53", "--anchors", "auto", "--dry-run"]
    with pytest.raises(UserError, match=what):
        script(train, *flags, "--pretrain-source", "pictures", "--imgsz", 64)


def test_a_dict_is_no_recipe() -> None:
    with pytest.raises(UserError, match="recipe: dict is neither a path nor a Recipe — give keys by their names"):
        start({"data": "mine/data.yaml"})  # type: ignore[arg-type]


def test_the_plan_that_is_shown_is_the_one_that_is_trained(
    scenes_yaml: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where memory is shared out, cuts depend on the size, and the size on whether objects are cut out of pictures."""
    flags = (*SMALL, "--imgsz", 416, "--balance", "memory", "--project", tmp_path)
    backbone = make_backbone("darknet53", 0.125)
    sizes = [(("--pretrain-imgsz", 64), [64]), (("--pretrain-source", "objects"), [192]), ((), [416, 192])]
    for own, sides in sizes:
        script(train, "--dry-run", "--data", scenes_yaml, *flags, *own)
        shown, rest = capsys.readouterr().out, ""
        for side in sides:
            _, title, rest = (rest or shown).partition(f"CL_3 of darknet53, width 0.125, {side} px\n")
            assert title
            assert rest.startswith(plan_table(make_plan(backbone, 3, side, "memory", batch=16), backbone.taps))
        assert shown.count("CL_3") == len(sides)


def test_a_dry_run_makes_no_scenes(script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_yaml(tmp_path / "scenes.yaml", path="scenes", scenes={"train": 4, "val": 2, "test": 2})
    script(train, "--dry-run", "--data", data, *SMALL, "--project", tmp_path / "runs")
    assert (
        f"not checked before the run: the built-in scenes are made in {tmp_path / 'scenes'}" in capsys.readouterr().out
    )
    assert [path.name for path in tmp_path.iterdir()] == ["scenes.yaml"]


def test_a_dry_run_reads_what_is_there_beside_what_is_made(
    script: Script, scenes_yaml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    later = write_yaml(tmp_path / "later.yaml", path="scenes", scenes={"train": 4, "val": 2, "test": 2})
    script(train, "--dry-run", "--data", scenes_yaml, "--pretrain-data", later, *SMALL, "--cl-splits", 1)
    assert "train: 8 images" in capsys.readouterr().out
    broken = write_yaml(tmp_path / "broken.yaml", path=str(tmp_path), train="nowhere")
    with pytest.raises(UserError, match="nowhere"):
        script(train, "--dry-run", "--data", broken, "--pretrain-data", later, *SMALL, "--cl-splits", 1)


def test_a_dry_run_makes_no_masks_of_older_scenes(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.write(tmp_path / "scenes", size=sample.SampleSize(2, 1, 1))
    shutil.rmtree(tmp_path / "scenes" / sample.MASKS)
    data = write_yaml(tmp_path / "scenes.yaml", path="scenes", scenes={"train": 2, "val": 1, "test": 1})
    script(train, "--dry-run", "--data", data, *SMALL, "--project", tmp_path / "runs")
    what = f"not checked before the run: the masks of the built-in scenes are made in {tmp_path / 'scenes'}"
    assert what in capsys.readouterr().out
    assert not (tmp_path / "scenes" / sample.MASKS).exists()
    write_yaml(data, path="scenes", scenes={"train": 3, "val": 1, "test": 1})
    with pytest.raises(UserError, match=r"holds other scenes: 2 \+ 1 \+ 1 — delete that folder"):
        script(train, "--dry-run", "--data", data, *SMALL, "--project", tmp_path / "runs")


def test_the_last_checkpoint_is_a_detector_and_no_more(overfitted: Path, script: Script) -> None:
    run = overfitted / "train" / "exp"
    last, best = (torch.load(run / "weights" / name, weights_only=True) for name in ("last.pt", "best.pt"))
    assert last.keys() == best.keys()
    assert last["kind"] == "detector"
    sizes = [(run / "weights" / name).stat().st_size for name in ("last.pt", "best.pt")]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.01)
    with pytest.raises(UserError, match=r"this run is finished — start a new one .*; --init .*best\.pt --cl-splits 0"):
        script(train, "--resume", run)
