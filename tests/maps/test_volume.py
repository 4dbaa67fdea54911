"""Networks of one channel on a small set of volumes, from training to heat in the volume."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CASCADE, Once, Script, write_yaml
from PIL import Image

import detect
import train
from data.description import load_description
from data.dmri import subjects_of, volumes_of
from data.formats import read_split
from evaluation.accuracy import read_backbones
from evaluation.accuracy_study import run_study
from maps import volume
from maps.library import explain
from maps.prepare import prepare
from maps.volume import Seen, in_volume
from training import curves
from utils import checkpoint
from utils.errors import UserError

nibabel = pytest.importorskip("nibabel")
SHAPE, AFFINE = (20, 22, 24), np.diag([-2.0, 2.0, 2.0, 1.0])


@pytest.fixture(scope="module")
def data(once: Once) -> Path:
    """Data yaml of twelve subjects: a block of the volume, whose mask is beside it, is bright in one half of them."""

    def fill(root: Path) -> None:
        rows = ["participant_id\tgroup\n"]
        for number in range(12):
            rng = np.random.default_rng(number)
            values = rng.uniform(0, 0.1, SHAPE).astype(np.float32)
            corner = rng.integers(4, 8, 3)
            where = tuple(slice(own, own + 9) for own in corner)
            values[where] += 0.8 * (number % 2)
            mask = np.zeros(SHAPE, np.uint8)
            mask[where] = 1
            folder = root / f"s{number:02d}"
            folder.mkdir()
            nibabel.save(nibabel.Nifti1Image(values, AFFINE), folder / "x_FA.nii.gz")
            nibabel.save(nibabel.Nifti1Image(mask, AFFINE), folder / "x_mask.nii.gz")
            rows.append(f"s{number:02d}\t{'dim' if number % 2 == 0 else 'bright'}\n")
        (root / "participants.tsv").write_text("".join(rows))
        classes = {"bright": ["bright"], "dim": ["dim"]}
        changes = {"format": "dmri", "label": "group", "classes": classes, "names": None, "slices": 4}
        write_yaml(root / "d.yaml", path=str(root), train=0.5, val=0.5, test=None, **changes)

    return once("volumes", fill) / "d.yaml"


@pytest.fixture(scope="module")
def run(data: Path, once: Once) -> Path:
    """Folder of a finished run: a narrow network, end to end."""

    def fill(project: Path) -> None:
        flags = [*CASCADE, "--cl-splits", 1, "--pretrain-head", "gap", "--pretrain-lr", 0.01, "--pretrain-epochs", 6]
        flags += ["--augment-noise", 0.02, "--augment-erasing", 0.2, "--pretrain-only", "--logger", "csv"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.argv", ["train.py", *map(str, [*flags, "--data", data, "--project", project])])
            train.main()

    return once("volume_runs", fill) / "train" / "exp"


def test_the_network_has_one_channel(run: Path, script: Script, tmp_path: Path, data: Path) -> None:
    content = checkpoint.load(run / "weights" / "backbone_cl1.pt", "backbone")
    assert content["in_channels"] == 1
    assert content["model"]["blocks.0.conv.weight"].shape[1] == 1
    assert content["metrics"][-1]["accuracy"] > 0.9
    with pytest.raises(UserError, match="have one channel, and no colours"):
        script(train, *CASCADE, "--data", data, "--augment-pca", 0.1, "--project", tmp_path)


def test_it_is_judged_on_pictures_of_one_channel(run: Path, data: Path, corners_yaml: Path) -> None:
    files = read_backbones([run / "weights" / "backbone_cl1.pt"])
    split = read_split(load_description(data), "val")
    study = run_study(files, split, device="cpu", batch_size=16, draws=0)
    assert study.rows[0].metrics["accuracy"] == pytest.approx(files[0].stages[0]["accuracy"])
    assert {"roc", "precision_recall"} <= study.rows[0].curves.keys()
    plan = prepare(files, split, kinds=["cam", "gradcam"])
    assert all(cases.images.shape[1] == 1 for cases in plan.cases(plan.split.records, "cases"))
    others = read_split(load_description(corners_yaml), "val")
    with pytest.raises(UserError, match="takes pictures of 1 channel, and the data have 3"):
        run_study(files, others, device="cpu", batch_size=16, draws=0)


def test_heat_goes_back_into_the_volume(
    run: Path, script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = run / "weights" / "backbone_cl1.pt"
    flags = ["--weights", weights, "--subject", "s01", "--maps", "gradcam", "cam", "saliency", "--device", "cpu"]
    script(volume, *flags, "--layers", "all", "--project", tmp_path)
    folder = tmp_path / "volume" / "exp"
    names = {path.name.removeprefix("x_FA_cl1_seed0_") for path in folder.glob("*.nii.gz")}
    assert names == {f"gradcam_b{block}.nii.gz" for block in range(1, 7)} | {"cam_b6.nii.gz", "saliency_b6.nii.gz"}
    heat = nibabel.load(folder / "x_FA_cl1_seed0_cam_b6.nii.gz")
    np.testing.assert_array_equal(heat.affine, AFFINE)
    values = heat.get_fdata()
    assert (heat.shape, values.max(), values.min()) == (SHAPE, 1, 0)
    assert not values[:8, :9, :10].any()  # beside the middle slices of all directions
    with Image.open(folder / "x_FA_cl1_seed0.jpg") as page:
        assert page.size[0] > page.size[1]
    assert "heat in mask  voxels in mask" in capsys.readouterr().out
    with pytest.raises(UserError, match="no subject `s99`"):
        script(volume, "--weights", weights, "--subject", "s99", "--project", tmp_path)


def test_a_volume_cut_short_is_named(run: Path, data: Path, script: Script, tmp_path: Path) -> None:
    root = shutil.copytree(data.parent, tmp_path / "data")
    path = root / "s01" / "x_FA.nii.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    yaml = root / "d.yaml"
    yaml.write_text(yaml.read_text().replace(str(data.parent), str(root)))
    flags = ["--weights", run / "weights" / "backbone_cl1.pt", "--data", yaml, "--subject", "s01"]
    with pytest.raises(UserError, match=r"x_FA\.nii\.gz: damaged volume"):
        script(volume, *flags, "--project", tmp_path)


def test_slices_are_no_files_to_look_through(run: Path, script: Script, tmp_path: Path) -> None:
    flags = ("--classify", "--weights", run / "weights" / "backbone_cl1.pt", "--device", "cpu", "--project", tmp_path)
    with pytest.raises(UserError, match="has no pictures that are files — say what to look through: --source"):
        script(detect, *flags)


def test_a_map_is_where_it_was_cut(data: Path) -> None:
    """Maps that are the slices themselves give the volume back wherever a slice is."""
    description = load_description(data)
    subject = subjects_of(description)[0]["s01"]
    (own,) = volumes_of(subject, description, [], [])
    records = volume.pictures(own, subject, 100)
    side = max(max(record.size_hw) for record in records)
    maps = []
    for record in records:
        pixels = np.asarray(record.pixels)[..., 0] / 255
        top, left = (side - record.size_hw[0]) // 2, (side - record.size_hw[1]) // 2
        if side == max(record.size_hw):  # letterboxed without scaling
            square = np.zeros((side, side), np.float32)
            square[top : top + record.size_hw[0], left : left + record.size_hw[1]] = pixels
            maps.append((record, square))
    seen = Seen(own, [record for record, _ in maps], torch.zeros(0))
    heat, covered = in_volume(seen, np.stack([square for _, square in maps]))
    wanted = nibabel.load(own.path).get_fdata()
    assert covered.all()
    np.testing.assert_allclose(heat * wanted.max(), wanted, atol=0.006)


def test_curves(run: Path, script: Script, tmp_path: Path) -> None:
    lines = curves.lines_of([run])
    assert list(lines) == ["exp"]
    epochs, values = curves.points(lines["exp"], "train/loss")
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert values[-1] < values[0]
    script(curves, run, "--out", tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size == (1100, 770)
    with pytest.raises(UserError, match=r"pretrain.csv: is not a table of epochs \(FileNotFoundError\)"):
        script(curves, tmp_path)


def test_curves_of_runs_of_one_name_and_of_lost_runs(tmp_path: Path, script: Script) -> None:
    header, folders = "task,epoch,train/loss,val/loss\n", [tmp_path / "a" / "exp", tmp_path / "b" / "exp"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "pretrain.csv").write_text(f"{header}cl1,1,2.0,inf\ncl1,2,nan,1.5\n")
    assert list(curves.lines_of([*folders, folders[0]])) == ["a/exp", "b/exp"]
    script(curves, *folders)
    assert (folders[0] / "curves.png").is_file()
    (folders[1] / "pretrain.csv").write_text(f"{header}cl1,1,2.0,3.0\ncl1,,1.0,1.0\n")
    with pytest.raises(UserError, match=r"b/exp/pretrain.csv:3: not a row of numbers .* — delete the row"):
        script(curves, *folders)


def test_the_file_of_curves_is_checked_first(run: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "draw", lambda _: pytest.fail("drawn"))
    with pytest.raises(UserError, match=r"c\.txt: is no name for a picture"):
        script(curves, run, "--out", "c.txt")


def test_explain_takes_one_channel() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )  # fmt: skip
    found = explain(model, ["1"], images=torch.rand(2, 1, 32, 32), kinds=["gradcam", "saliency", "ig"])
    assert found["gradcam", "1"].shape == (2, 32, 32)
    with pytest.raises(UserError, match="of 1 channel each"):
        explain(model, ["1"], images=torch.rand(2, 1, 32, 32), normalise=((0.5,) * 3, (0.2,) * 3))
