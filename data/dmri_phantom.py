"""A phantom of diffusion MRI whose two groups differ in one tract, so that it is known what a map should find.

DIPY's simulator makes the signal: three bundles of fibres along curves (`orbital_phantom`), isotropic tissue between
them (`single_tensor`) and Rician noise. The fibres of the diagonal tract are as anisotropic as others in one group and
less so in the other. Nothing else differs; position, bend and anisotropy of all bundles vary from subject to subject.
The layout is that of BIDS.
Run `python -m data.dmri_phantom` to write it to data/sets/dmri_phantom.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from utils.console import progress
from utils.errors import UserError, run_cli
from utils.files import csv_text, free_folder, json_text, make_folder, replaced
from utils.flags import positive
from utils.parser import Parser

FOLDER = Path(__file__).resolve().parent / "sets" / "dmri_phantom"
SIDE, VOXEL_MM = 40, 2.5
BRAIN = (17.0, 18.5, 16.5)  # half axes of the ellipsoid, voxels
GROUPS = ("intact", "reduced")
AXIAL, RADIAL = 1.5e-3, 0.35e-3  # diffusivity along fibres and across them, mm²/s: anisotropy 0.73
REDUCED = (1.0e-3, 0.6e-3)  # of the tract in the second group: anisotropy 0.33
VARIES = 0.06  # standard deviation of diffusivities from subject to subject, as a fraction
TISSUE = 0.9e-3  # diffusivity between the bundles
THICKNESS = 4.0  # radius of a bundle, voxels
STEPS, ANGLES, RADII = 160, 40, 11  # how densely a bundle is filled
DIRECTIONS, B_VALUE, UNWEIGHTED = 30, 1000.0, 2
SIGNAL, SNR = 1000.0, 20.0
PLAIN = 1e-6  # relative difference of pictures below which no fibre is in a voxel
FEWEST = 12  # subjects, so that each split has both groups
SHARES = (("train", 0.5), ("val", 0.2), ("test", 0.3))


@dataclass(frozen=True)
class Bundle:
    """Fibres along a curve: points [n, 3] in −1…1 of half the volume, and the diffusivities along and across."""

    points: np.ndarray
    diffusivities: tuple[float, float]


def write(folder: Path, subjects: int, seed: int = 0) -> Path:
    """Write the phantom; an existing one is replaced. It appears whole or not at all.

    Args:
        subjects: half of them in each group, alternately.

    Raises:
        UserError: too few to have both groups in each split.
    """
    if subjects < FEWEST:
        raise UserError(f"{subjects}", where="--subjects", hint=f"give {FEWEST} or more: each split has both groups")
    rows = [{"participant_id": f"sub-{number + 1:03d}", "group": GROUPS[number % 2]} for number in range(subjects)]
    table = gradients()
    about = {"Name": "Diffusion phantom with one tract that differs", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    with replaced(folder) as partial:
        for number, row in enumerate(progress(rows, "phantom", subjects)):
            name, rng = row["participant_id"], np.random.default_rng([seed, number])
            write_subject(partial / name / "dwi", name, drawn_bundles(rng, number % 2), table, rng)
        (partial / "participants.tsv").write_text(csv_text(rows).replace(",", "\t"))
        (partial / "dataset_description.json").write_text(json_text(about, 2))
        for split, names in shared_out([row["participant_id"] for row in rows]):
            (partial / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return folder


def count(folder: Path) -> int:
    """How many subjects a phantom has."""
    return len(list(folder.glob("sub-*")))


def shared_out(names: list[str]) -> Iterator[tuple[str, list[str]]]:
    """The subjects of each split: neighbours, who are of both groups, stay together."""
    pairs, start = len(names) // 2, 0
    for split, share in SHARES:
        stop = len(names) if split == SHARES[-1][0] else start + 2 * round(pairs * share)
        yield split, names[start:stop]
        start = stop


def write_subject(folder: Path, name: str, bundles: list[Bundle], table: Any, rng: np.random.Generator) -> None:
    """The volume of a subject, its gradients, and masks of the brain and of the tract."""
    make_folder(folder)
    signal, tract = simulated(bundles, table, rng)
    save(signal.round().astype(np.int16), folder / f"{name}_dwi.nii.gz")
    save(brain().astype(np.uint8), folder / f"{name}_desc-brain_mask.nii.gz")
    save(tract.astype(np.uint8), folder / f"{name}_label-tract_mask.nii.gz")
    np.savetxt(folder / f"{name}_dwi.bval", table.bvals[None], "%g")
    np.savetxt(folder / f"{name}_dwi.bvec", table.bvecs.T, "%.6f")


def save(values: np.ndarray, path: Path) -> None:
    """A NIfTI file, left to right as scanners often write it."""
    import nibabel

    affine = np.diag([-VOXEL_MM, VOXEL_MM, VOXEL_MM, 1.0])
    affine[:3, 3] = np.array([1, -1, -1]) * VOXEL_MM * (SIDE - 1) / 2
    nibabel.save(nibabel.Nifti1Image(values, affine), path)


def gradients() -> Any:
    """DIPY's gradient table: pictures without weighting, then directions that repel each other on the sphere."""
    from dipy.core.gradients import gradient_table
    from dipy.core.sphere import HemiSphere, disperse_charges

    rng = np.random.default_rng(0)
    start = HemiSphere(theta=np.pi * rng.random(DIRECTIONS), phi=2 * np.pi * rng.random(DIRECTIONS))
    spread, _ = disperse_charges(start, 2000)
    directions = np.concatenate([np.zeros((UNWEIGHTED, 3)), spread.vertices])
    return gradient_table(np.repeat([0.0, B_VALUE], [UNWEIGHTED, DIRECTIONS]), bvecs=directions)


def drawn_bundles(rng: np.random.Generator, group: int) -> list[Bundle]:
    """The tract first, a diagonal one; then a ring from side to side and a column that both groups have alike."""
    t = np.linspace(-1, 1, STEPS)
    place, bend = rng.uniform(-0.22, 0.22, 3), rng.uniform(-0.15, 0.15, 2)
    arch = np.sin(np.pi * t)
    tract = np.stack([0.6 * t, 0.6 * t + bend[0] * arch, 0.6 * t + bend[1] * arch], 1) + place
    turn = np.pi * (t + 1)
    ring = np.stack([0.62 * np.cos(turn), rng.uniform(-0.2, 0.2) + 0 * t, 0.5 * np.sin(turn)], 1)
    column = np.stack([0.55 + rng.uniform(-0.1, 0.1) + 0 * t, -0.45 + rng.uniform(-0.1, 0.1) + 0.1 * arch, 0.6 * t], 1)
    usual = (AXIAL, RADIAL)
    kinds = (REDUCED if group else usual, usual, usual)
    varied = [tuple(own * (1 + VARIES * rng.standard_normal()) for own in kind) for kind in kinds]
    return [Bundle(points, (own[0], own[1])) for points, own in zip((tract, ring, column), varied, strict=True)]


def simulated(bundles: list[Bundle], table: Any, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Signal [X, Y, Z, N] with noise, and the voxels [X, Y, Z] of the first bundle; where bundles cross, their mean."""
    from dipy.sims.voxel import add_noise, single_tensor

    total = np.zeros((SIDE, SIDE, SIDE, len(table.bvals)))
    counts, fibres = np.zeros((SIDE, SIDE, SIDE)), []
    for bundle in bundles:
        own = of_bundle(bundle, table)
        inside = (own.min(-1) < (1 - PLAIN) * SIGNAL) & brain()
        total[inside] += own[inside]
        counts += inside
        fibres.append(inside)
    tissue = single_tensor(table, SIGNAL, evals=np.full(3, TISSUE), evecs=np.eye(3), snr=None)
    some = counts > 0
    total[some] /= counts[some, None]
    total[brain() & ~some] = tissue
    return add_noise(total, SNR, SIGNAL, noise_type="rician", rng=rng), fibres[0]


def of_bundle(bundle: Bundle, table: Any) -> np.ndarray:
    """Signal [X, Y, Z, N] of a bundle, SIGNAL in all pictures where none of its fibres is."""
    from dipy.sims.phantom import orbital_phantom

    along, across = bundle.diffusivities
    found: np.ndarray = orbital_phantom(
        gtab=table,
        evals=np.array([along, across, across]),
        func=lambda _: tuple(bundle.points.T),
        t=np.arange(len(bundle.points)),
        datashape=(SIDE, SIDE, SIDE, len(table.bvals)),
        origin=(SIDE / 2,) * 3,
        scale=(SIDE / 2,) * 3,
        angles=np.linspace(0, 2 * np.pi, ANGLES),
        radii=np.linspace(0.2, THICKNESS, RADII),
        S0=SIGNAL,
    )
    return found


def brain() -> np.ndarray:
    """[X, Y, Z] bool: the ellipsoid."""
    axes = np.meshgrid(*[np.arange(SIDE) + 0.5 - SIDE / 2] * 3, indexing="ij")
    inside: np.ndarray = sum((own / half) ** 2 for own, half in zip(axes, BRAIN, strict=True)) <= 1
    return inside


def main() -> None:
    """Write the phantom and say where."""
    parser = Parser(description="Write a phantom of diffusion MRI whose groups differ in one tract.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where [data/sets/dmri_phantom]")
    parser.add_argument("--subjects", type=positive, default=40, help="half of them in each group [40]")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same phantom [0]")
    arguments = parser.parse_args()
    print(f"wrote {write(free_folder(arguments.folder, FOLDER), arguments.subjects, arguments.seed)}")


if __name__ == "__main__":
    run_cli(main)
