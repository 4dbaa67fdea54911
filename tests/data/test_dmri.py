import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_yaml

from data import dmri_phantom as phantom
from data import volumes
from data.description import load_description, made_on_first_use
from data.dmri import boxes_of, readable
from data.formats import read_split
from data.holdout import hold_out
from data.images import record_pixels, record_rgb
from data.records import Description
from data.slices import Slice, as_stored, centre, upright
from data.volumes import Volume, anisotropy, described
from utils.errors import UserError

nibabel = pytest.importorskip("nibabel")
SHAPE = (8, 9, 10)
AFFINES = {  # voxel axes → where they lead
    "RAS": np.diag([2.0, 2, 2, 1]),
    "LAS": np.diag([-2.0, 2, 2, 1]),
    "PIR": np.array([[0, 0, 2.0, 0], [-2, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]]),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the cache folder of whoever runs the tests."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(values: np.ndarray, path: Path, affine: np.ndarray = AFFINES["LAS"]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def save_gradients(stem: Path, directions: int = 7, values: int | None = None) -> None:
    vectors = np.random.default_rng(0).normal(size=(directions, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    np.savetxt(stem.with_suffix(".bvec"), vectors.T)
    b_values = [0.0, *[1000.0] * (directions - 1)] if values is None else [0.0, *[1000.0] * (values - 1)]
    np.savetxt(stem.with_suffix(".bval"), [b_values], "%g")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six subjects of three ages; each has a volume of anisotropy and a mask of two voxels' width in it."""
    ages = ["8-9", "14-15", "25-35", "45-55", "65-75", "4-6"]
    rows = [f"s{number}\tF\t{age}\n" for number, age in enumerate(ages)]
    (tmp_path / "participants.tsv").write_text("participant_id\tsex\tage\n" + "".join(rows))
    for number in range(len(ages)):
        folder = tmp_path / f"s{number}" / "dwi"
        save(np.full(SHAPE, number / 10, np.float32), folder / f"s{number}_FA.nii.gz")
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:4, 3:6, 4:8] = 1
        save(mask, folder / f"s{number}_label-tract_mask.nii.gz")
    return tmp_path


def describe(root: Path, **changes: object) -> Description:
    classes = {"young": ["8-9", "14-15"], "old": ["25-35", "45-55", "65-75"]}
    keys: dict[str, object] = {"path": str(root), "format": "dmri", "train": 1.0, "val": None, "test": None}
    keys |= {"label": "age", "classes": classes, "names": ["young", "old"], "slices": 4}
    return load_description(write_yaml(root / "d.yaml", **(keys | changes)))


def test_slices_of_each_direction_with_class_box_and_subject(root: Path) -> None:
    found = read_split(describe(root), "train", strict=True)
    assert len(found.records) == 5 * 3 * 4
    assert found.description.names == ["young", "old"]
    assert [notice.line() for notice in found.notices] == ["1 subject is of no class by `age`: s5"]
    first = found.records[0]
    assert (first.image.name, first.group, first.size_hw) == ("s0_FA.nii.gz#sagittal-002", "s0", (10, 9))
    last = found.records[-1]
    assert (last.image.name, last.group, last.classes.tolist()) == ("s4_FA.nii.gz#axial-006", "s4", [1])  # type: ignore[union-attr]
    assert record_pixels(last).shape == (9, 8, 1)
    assert record_rgb(last).shape == (9, 8, 3)
    assert np.unique(record_pixels(last)).tolist() == [round(0.4 * 255)]
    # Stored left first, so that the mask's columns are mirrored; rows run from front to back.
    assert (last.boxes_xyxy.tolist(), last.labels.tolist()) == ([[4, 3, 6, 6]], [1])


def test_subjects_are_never_parted(root: Path) -> None:
    description = describe(root, train=0.5, val=0.3, test=0.2)
    groups = [{own.group for own in read_split(description, name).records} for name in ("train", "val", "test")]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 5
    kept, apart = hold_out(read_split(describe(root), "train"), 0.3)
    assert not {own.group for own in kept.records} & {own.group for own in apart.records}
    (root / "a.txt").write_text("s0\ns2\n")
    (root / "b.txt").write_text("s1\ns2\n")
    with pytest.raises(UserError, match="subject `s2` is in `train` and in `val`"):
        read_split(describe(root, train="a.txt", val="b.txt"), "train")


@pytest.mark.parametrize("codes", AFFINES)
def test_pictures_are_upright_and_go_back(codes: str) -> None:
    affine = AFFINES[codes]
    ras = np.random.default_rng(0).random(SHAPE)
    stored = as_stored(ras, affine)
    assert "".join(nibabel.aff2axcodes(affine)) == codes
    np.testing.assert_array_equal(upright(stored, affine), ras)
    picture = Slice.named("coronal-004").cut(ras)
    assert picture[0, -1] == ras[-1, 4, -1]  # top, and the subject's right, are top and right of the picture
    back = np.zeros(SHAPE)
    for one in centre(SHAPE, 100):
        if one.axis == 2:
            one.put(one.cut(ras), back)
    np.testing.assert_array_equal(back, ras)


def test_boxes_around_parts_of_a_mask() -> None:
    mask = np.zeros((6, 7), bool)
    mask[1:3, 0:2] = mask[3, 2] = mask[5, 5] = True
    assert boxes_of(mask) == [(0, 1, 3, 4), (5, 5, 6, 6)]


def test_anisotropy_is_that_of_dipy(monkeypatch: pytest.MonkeyPatch) -> None:
    from dipy.core.gradients import gradient_table
    from dipy.data import get_fnames
    from dipy.io.gradients import read_bvals_bvecs
    from dipy.reconst.dti import TensorModel

    path, *gradients = (Path(name) for name in get_fnames(name="small_64D"))
    image = nibabel.load(path)
    b_values, directions = read_bvals_bvecs(*map(str, gradients))
    wanted = TensorModel(gradient_table(b_values, bvecs=directions)).fit(image.get_fdata()).fa
    volume = Volume(path, image.shape[:3], image.affine, (gradients[0], gradients[1]))
    found = anisotropy(volume)
    assert image.shape[2] > volumes.SLAB  # it was fitted in parts
    assert np.abs(found - wanted).max() <= 1e-6
    assert wanted.std() > 0.1

    def never(_: Volume) -> np.ndarray:
        raise AssertionError("fitted again")

    monkeypatch.setattr(volumes, "fitted", never)
    np.testing.assert_array_equal(anisotropy(volume), found)


def weighted(folder: Path, **changes: int) -> None:
    """A volume of seven pictures, which none of the names that are usual leave out."""
    save(np.ones((*SHAPE, 7), np.int16), folder / "x_dwi.nii.gz")
    save_gradients(folder / "x_dwi", **changes)


def four_dimensions(folder: Path) -> None:
    save(np.ones((*SHAPE, 2), np.float32), folder / "more_FA.nii.gz")


def no_gradients(folder: Path) -> None:
    weighted(folder)
    (folder / "x_dwi.bvec").unlink()


def other_mask(folder: Path) -> None:
    save(np.ones((8, 9, 11), np.uint8), folder / "lesion_mask.nii.gz")


def mirrored_mask(folder: Path) -> None:
    save(np.ones(SHAPE, np.uint8), folder / "lesion_mask.nii.gz", AFFINES["RAS"])


def two_brains(folder: Path) -> None:
    for name in ("nodif_brain_mask", "t1_brainmask"):
        save(np.ones(SHAPE, np.uint8), folder / f"{name}.nii.gz")


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "no gradients": (no_gradients, r"x_dwi.nii.gz: four dimensions and no gradients \(x_dwi.bval and .bvec\) — "),
    "two lengths": (lambda own: weighted(own, values=6), "x_dwi.bval: 6 b-values, and x_dwi.bvec is a table of 3×7 — "),
    "others": (lambda own: weighted(own, directions=9), "x_dwi.bval: 9 b-values, and x_dwi.nii.gz has 7 pictures — "),
    "4D": (four_dimensions, r"more_FA.nii.gz: 4 dimensions \(8×9×10×2\), and fractional anisotropy has 3 — "),
    "mask": (other_mask, "lesion_mask.nii.gz: a mask of 8×9×11 voxels, and s0_FA.nii.gz has 8×9×10 — "),
    "affine": (mirrored_mask, "lesion_mask.nii.gz: has another affine than s0_FA.nii.gz — resample it"),
    "brains": (two_brains, "2 masks of the brain beside it, nodif_brain_mask.nii.gz and t1_brainmask.nii.gz"),
    "unit": (lambda own: nibabel_of(own, 300.0), "s0_FA.nii.gz: values around 300, and fractional anisotropy is"),
}


def nibabel_of(folder: Path, value: float) -> None:
    save(np.full(SHAPE, value, np.float32), folder / "s0_FA.nii.gz")


@pytest.mark.parametrize("name", FAULTS)
def test_what_does_not_fit_stops(root: Path, name: str) -> None:
    spoil, what = FAULTS[name]
    spoil(root / "s0" / "dwi")
    with pytest.raises(UserError, match=what):
        read_split(describe(root), "train")


@pytest.mark.parametrize("name", ["nodif_brain_mask.nii.gz", "nodif_brainmask.NII.GZ", "s_desc-brain_mask.nii"])
def test_the_brain_is_a_whole_word(name: str, tmp_path: Path) -> None:
    names = ("x_FA.nii.gz", name, "x_label-brainstem_mask.nii.gz")
    path, brain, stem = (save(np.ones(SHAPE, np.uint8), tmp_path / own) for own in names)
    found = described(path, [path, brain, stem])
    assert found is not None
    assert (found.brain, found.regions) == (brain, (stem,))


@pytest.mark.parametrize("error", [ImportError("no scipy"), MemoryError()])
def test_what_is_no_damage_is_not_called_so(error: Exception) -> None:
    def read() -> list[object]:
        raise error

    with pytest.raises(type(error)):
        readable(read, Path("x.nii.gz"), [])


def test_anisotropy_beside_what_it_was_fitted_to_counts_once(root: Path) -> None:
    weighted(root / "s0" / "dwi")
    found = read_split(describe(root), "train", strict=True)
    assert len(found.records) == 5 * 3 * 4
    assert {own.image.name.partition("#")[0] for own in found.records if own.group == "s0"} == {"x_dwi.nii.gz"}
    (said,) = [own.line() for own in found.notices if "is fitted" in own.line()]
    assert said.startswith("1 volume of anisotropy is left out, since")
    own = read_split(describe(root, volumes="*FA.nii.gz"), "train")
    assert {record.image.name.partition("#")[0] for record in own.records if record.group == "s0"} == {"s0_FA.nii.gz"}


def test_too_few_directions(root: Path) -> None:
    folder = root / "s0" / "dwi"
    save(np.ones((*SHAPE, 5), np.int16), folder / "x_dwi.nii.gz")
    save_gradients(folder / "x_dwi", directions=5)
    with pytest.raises(UserError, match="4 directions, and a tensor needs 6"):
        read_split(describe(root), "train")


def test_damaged_volumes_and_subjects_without_are_named(root: Path) -> None:
    whole = (root / "s0" / "dwi" / "s0_FA.nii.gz").read_bytes()
    (root / "s0" / "dwi" / "s0_FA.nii.gz").write_bytes(whole[: len(whole) // 2])
    (root / "s1" / "dwi" / "s1_FA.nii.gz").write_bytes(gzip.compress(b"no volume"))
    (root / "s2" / "dwi" / "s2_FA.nii.gz").unlink()
    save(np.ones(SHAPE, np.float32), root / "s3" / "dwi" / "s3_dwi_SBRef.nii.gz")
    found = read_split(describe(root), "train")
    assert {own.group for own in found.records} == {"s3", "s4"}
    said = " ".join(f"{Path(own.where).name} {own.what}" for own in found.problems)
    assert "s0_FA.nii.gz damaged volume" in said
    assert "s1_FA.nii.gz damaged volume" in said
    assert "no volume of subject `s2`" in said
    assert any("passed over: " in own.line() and "SBRef" in own.line() for own in found.notices)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"label": "weight"}, "no column `weight`, but participant_id, sex, age"),
        ({"labels": "none.csv"}, r"none.csv: is not a table of subjects \(FileNotFoundError\)"),
        ({"classes": {"young": ["7"], "old": ["25-35"]}}, "no subject has `7` under `age`"),
        ({"train": "none.txt"}, "none.txt: cannot be read"),
    ],
)
def test_tables_and_lists(root: Path, changes: dict[str, object], what: str) -> None:
    with pytest.raises(UserError, match=what):
        read_split(describe(root, **changes), "train")


def test_quotes_in_a_tsv_and_short_rows(root: Path) -> None:
    table = root / "participants.tsv"
    table.write_text(table.read_text().replace("s1\tF", 's1\t"F') + "s6\n")
    found = read_split(describe(root), "train")
    assert len({own.group for own in found.records}) == 5
    assert [notice.line() for notice in found.notices] == ["2 subjects are of no class by `age`: s5, s6"]
    table.write_text('participant_id,age\ns0,"8-9\ns1,8-9\n')
    with pytest.raises(UserError, match=r"participants.tsv: is not a table of subjects \(Error\)"):
        read_split(describe(root), "train")


def test_keys_are_of_the_format(root: Path) -> None:
    with pytest.raises(UserError, match="`slices` and `volumes` are for the format dmri"):
        load_description(write_yaml(root / "v.yaml", slices=3))
    with pytest.raises(UserError, match=r"`masks` is for pictures that are files, not slices of volumes \(dmri\)"):
        describe(root, masks="masks")


def test_the_phantom_differs_in_the_tract_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"SIDE": 24, "BRAIN": (10, 11, 9.5), "THICKNESS": 2.4, "STEPS": 80, "ANGLES": 12, "RADII": 5, "VARIES": 0}
    for name, value in small.items():
        monkeypatch.setattr(phantom, name, value)
    table = phantom.gradients()
    inside: dict[str, np.ndarray] = {}
    for group, name in enumerate(phantom.GROUPS):
        rng = np.random.default_rng(1)  # the same head in both groups
        folder = tmp_path / name
        phantom.write_subject(folder, name, phantom.drawn_bundles(rng, group), table, rng)
        beside = sorted(folder.glob("*.nii.gz"))
        volume = described(folder / f"{name}_dwi.nii.gz", beside)
        assert volume is not None
        assert (volume.shape, len(volume.regions)) == ((phantom.SIDE,) * 3, 1)
        inside[name] = anisotropy(volume)
        tract = volumes.mask_of(volume.regions)
    intact, reduced = (inside[name] for name in phantom.GROUPS)
    assert 0.6 < np.median(intact[tract]) < 0.8
    assert 0.25 < np.median(reduced[tract]) < 0.4
    assert np.abs(np.median(intact[~tract & phantom.brain()]) - np.median(reduced[~tract & phantom.brain()])) < 0.01
    assert not intact[~phantom.brain()].any()
    splits = dict(phantom.shared_out([f"s{number}" for number in range(40)]))
    assert {name: len(own) for name, own in splits.items()} == {"train": 20, "val": 8, "test": 12}
    with pytest.raises(UserError, match="give 12 or more"):
        phantom.write(tmp_path / "p", 4)


def test_the_phantom_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def write(folder: Path, subjects: int) -> None:
        made.append(subjects)
        for number in range(subjects):
            (folder / f"sub-{number:03d}").mkdir(parents=True)

    monkeypatch.setattr(phantom, "write", write)
    classes = {"intact": ["intact"], "reduced": ["reduced"]}
    keys: dict[str, object] = {"path": "there", "format": "dmri", "label": "group", "classes": classes, "names": None}
    yaml = write_yaml(tmp_path / "p.yaml", **keys, phantom=12)
    assert str(made_on_first_use(yaml, download=False)).startswith("a phantom of 12 subjects is made in ")
    assert not made
    for _ in range(2):
        load_description(yaml)
    assert made == [12]
    assert made_on_first_use(yaml, download=False) is None
    with pytest.raises(UserError, match="holds another phantom, of 12 subjects"):
        load_description(write_yaml(tmp_path / "q.yaml", **keys, phantom=14))
