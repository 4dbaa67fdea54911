"""Volumes of diffusion MRI: which files belong together, and fractional anisotropy, which DIPY fits.

A diffusion-weighted volume is a NIfTI file of four dimensions with its b-values and directions beside it: NAME.bval and
NAME.bvec, or `bvals` and `bvecs` as HCP publishes them. A file called …FA holds fractional anisotropy already.
"""

import contextlib
import hashlib
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from data.sizes import stamp
from utils.errors import UserError
from utils.files import make_folder, user_cache, written_whole
from utils.paths import is_file, status_of

SUFFIXES = (".nii.gz", ".nii")
FA, MASK = "fa", "mask"  # how names end
BRAIN = frozenset(("brain", "brainmask"))  # words, one of which is in the name of a mask of the brain
FEWEST = 6  # directions that a tensor needs
NEAR_MM = 1e-2  # affines that differ less are the same
SLAB = 8  # slices that are fitted at a time: what DIPY keeps of each voxel is many times its signal
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """A volume of a subject, and what is beside it.

    Attributes:
        affine: [4, 4] voxels → millimetres.
        gradients: files of b-values and of directions; None where the volume is fractional anisotropy itself.
        brain: mask of the voxels that are fitted; None: all.
        regions: masks of what a map should find.
    """

    path: Path
    shape: Shape
    affine: np.ndarray
    gradients: tuple[Path, Path] | None = None
    brain: Path | None = None
    regions: tuple[Path, ...] = ()


def stem_of(path: Path) -> str:
    """The name of a NIfTI file without its suffix, in any capitals."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE)


def ends_in(path: Path, word: str) -> bool:
    """Whether the name of a NIfTI file ends so, in any capitals."""
    return stem_of(path).lower().endswith(word)


def is_nifti(path: Path) -> bool:
    """Whether a file is NIfTI, by its name."""
    return path.name.lower().endswith(SUFFIXES)


def opened(path: Path) -> Any:
    """A NIfTI file, of which the header is read.

    Raises:
        OSError, ValueError: missing, damaged, or none.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        return nibabel.load(path)
    except (ImageFileError, HeaderDataError) as error:
        raise ValueError(str(error) or "no NIfTI file") from error


def shape_of(image: Any) -> tuple[int, ...]:
    """Of an image, without dimensions of one at its end."""
    found = tuple(image.shape)
    while len(found) > 3 and found[-1] == 1:
        found = found[:-1]
    return found


def described(path: Path, beside: Iterable[Path]) -> Volume | None:
    """A volume with what belongs to it; None for three dimensions that are not called FA, such as a reference scan.

    Args:
        beside: the NIfTI files of its folder.

    Raises:
        UserError: its gradients are missing or do not fit; four dimensions where there should be three; a mask of
            another shape or affine; two masks of the brain.
        OSError, ValueError: a file is damaged.
    """
    image = opened(path)
    shape, gradients = shape_of(image), None
    if ends_in(path, FA):
        of_three(path, shape, "fractional anisotropy")
    elif len(shape) == 4:
        gradients = gradients_of(path, shape[3])
    else:
        return None
    masks = [other for other in sorted(beside) if ends_in(other, MASK)]
    for mask in masks:
        check_mask(mask, path, shape[:3], image.affine)
    brains = [mask for mask in masks if BRAIN & set(re.split("[^a-z0-9]+", stem_of(mask).lower()))]
    if len(brains) > 1:
        what = f"{len(brains)} masks of the brain beside it, {brains[0].name} and {brains[1].name}"
        raise UserError(what, where=path, hint="keep one of them in this folder")
    regions = tuple(mask for mask in masks if mask not in brains)
    whole: Shape = (shape[0], shape[1], shape[2])
    return Volume(path, whole, image.affine, gradients, brains[0] if brains else None, regions)


def of_three(path: Path, shape: Sequence[int], what: str) -> None:
    """Refuse a file of another number of dimensions than three.

    Raises:
        UserError: it has.
    """
    if len(shape) != 3:
        shown = "×".join(map(str, shape))
        hint = "give one volume a file; diffusion-weighted data have a name that does not end in FA or mask"
        raise UserError(f"{len(shape)} dimensions ({shown}), and {what} has 3", where=path, hint=hint)


def check_mask(mask: Path, volume: Path, shape: Sequence[int], affine: np.ndarray) -> None:
    """Refuse a mask that does not cover its volume voxel by voxel.

    Raises:
        UserError: it has other dimensions, or another affine.
        OSError, ValueError: it is damaged.
    """
    image = opened(mask)
    own = shape_of(image)
    of_three(mask, own, "a mask")
    if own != tuple(shape):
        sizes = ["×".join(map(str, sides)) for sides in (own, shape)]
        hint = "bring it to the voxels of the volume, or into another folder"
        raise UserError(f"a mask of {sizes[0]} voxels, and {volume.name} has {sizes[1]}", where=mask, hint=hint)
    if not np.allclose(image.affine, affine, atol=NEAR_MM):
        what = f"has another affine than {volume.name}"
        raise UserError(what, where=mask, hint="resample it to the voxels of the volume")


def gradients_of(path: Path, count: int) -> tuple[Path, Path]:
    """Files of b-values and of directions of a volume of so many pictures.

    Raises:
        UserError: there are none, or they are not as many as the pictures, or not enough.
    """
    stem, folder = stem_of(path), path.parent
    pairs = [(folder / f"{stem}.bval{s}", folder / f"{stem}.bvec{s}") for s in ("", "s")]
    pairs.append((folder / "bvals", folder / "bvecs"))
    found = next((pair for pair in pairs if all(map(is_file, pair))), None)
    if found is None:
        hint = "add them, or say with `volumes:` which files are diffusion-weighted"
        raise UserError(f"four dimensions and no gradients ({pairs[0][0].name} and .bvec)", where=path, hint=hint)
    values, directions = (numbers_in(own) for own in found)
    b_values, vectors = values.size, directions.size // 3
    if directions.size % 3 or 3 not in directions.shape or b_values != vectors:
        what = f"{b_values} b-values, and {found[1].name} is a table of {'×'.join(map(str, directions.shape))}"
        raise UserError(what, where=found[0], hint="give a direction of three numbers for each b-value")
    if b_values != count:
        what = f"{b_values} b-values, and {path.name} has {count} pictures"
        raise UserError(what, where=found[0], hint="give the files of this volume")
    return found


def numbers_in(path: Path) -> np.ndarray:
    """[rows, columns] of a text file of numbers.

    Raises:
        UserError: it is none.
    """
    try:
        text = path.read_text().replace(",", " ").splitlines()
        return np.loadtxt(text, ndmin=2)
    except (OSError, ValueError) as error:
        raise UserError(f"no table of numbers ({error})", where=path, hint="replace the file") from error


def anisotropy(volume: Volume) -> np.ndarray:
    """[X, Y, Z] float32 in 0–1, in the order of the file's voxels: fitted once, then kept in the user's cache folder.

    Raises:
        UserError: the gradients are none that a tensor can be fitted to, or values that are no anisotropy.
        OSError, ValueError: the file is damaged.
    """
    if volume.gradients is None:
        return taken(volume)
    folder = user_cache()
    if folder is None:
        return fitted(volume)
    path = folder / "anisotropy" / f"{identity(volume)}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        kept: np.ndarray = np.load(path, mmap_mode="r")
        if kept.shape == volume.shape and kept.dtype == np.float32:
            return kept
    found = fitted(volume)
    with contextlib.suppress(UserError):  # a full disk: it is fitted again the next time
        make_folder(path.parent)
        with written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, found)
    return found


def identity(volume: Volume) -> str:
    """What changes with the files of a volume, and with DIPY."""
    files = (volume.path, *(volume.gradients or ()), *([volume.brain] if volume.brain else ()))
    files_now = [f"{path.resolve()} {stamp(status_of(path))}" for path in files]
    return hashlib.sha256("\n".join([version("dipy"), *files_now]).encode(errors="surrogateescape")).hexdigest()[:32]


def taken(volume: Volume) -> np.ndarray:
    """The values of a volume of fractional anisotropy; what is not finite is 0.

    Raises:
        UserError: most of what is not 0 is above 1.
    """
    found = np.nan_to_num(opened(volume.path).get_fdata(dtype=np.float32, caching="unchanged")).reshape(volume.shape)
    some = found[found > 0]
    if some.size and np.median(some) > 1:
        what = f"values around {np.median(some):g}, and fractional anisotropy is between 0 and 1"
        raise UserError(what, where=volume.path, hint="give the volume in its own unit")
    return found.clip(0, 1)


def fitted(volume: Volume) -> np.ndarray:
    """Fractional anisotropy of the tensor that DIPY fits by weighted least squares, as its TensorModel does by default.

    Voxels outside the mask of the brain are 0, where there is one.
    """
    from dipy.core.gradients import gradient_table
    from dipy.io.gradients import read_bvals_bvecs
    from dipy.reconst.dti import TensorModel

    assert volume.gradients is not None
    with warnings.catch_warnings():  # of the least b-value, which DIPY then takes for none
        warnings.simplefilter("ignore")
        try:
            b_values, directions = read_bvals_bvecs(*map(str, volume.gradients))
            table = gradient_table(b_values, bvecs=directions)
        except (OSError, ValueError) as error:
            what = f"no gradients that a tensor is fitted to ({str(error).splitlines()[0]})"
            raise UserError(what, where=volume.gradients[1], hint="correct the file") from error
        if (count := int((~table.b0s_mask).sum())) < FEWEST:
            hint = "give data of more directions, or volumes of anisotropy, NAME_FA.nii.gz"
            raise UserError(f"{count} directions, and a tensor needs {FEWEST}", where=volume.gradients[1], hint=hint)
        model = TensorModel(table)
        signal = opened(volume.path).get_fdata(dtype=np.float32, caching="unchanged")
        inside = np.ones(volume.shape, bool) if volume.brain is None else mask_of([volume.brain])
        found = np.zeros(volume.shape, np.float32)
        for start in range(0, volume.shape[2], SLAB):
            part = np.s_[:, :, start : start + SLAB]
            if inside[part].any():
                found[part] = model.fit(signal[part].astype(np.float64), mask=inside[part]).fa
    return np.nan_to_num(found).clip(0, 1)


def mask_of(paths: Sequence[Path]) -> np.ndarray:
    """[X, Y, Z] bool: what is in any of the masks."""
    parts = [opened(path).get_fdata(dtype=np.float32, caching="unchanged") > 0 for path in paths]
    return np.logical_or.reduce([part.reshape(part.shape[:3]) for part in parts])
