"""Heat back in the volume: the maps of a subject's slices as NIfTI files in the voxels of its own volume.

`python -m maps.volume --weights backbone.pt --subject sub-001` explains every slice that the network is shown of a
subject, puts the maps back where the slices are, and takes their mean where slices of several directions cross.
"""

import argparse
import gzip
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.description import load_description
from data.dmri import once, pictures, readable, subjects_of, volumes_of
from data.loader import DetectionSet, InOrder, make_loader
from data.parsing import class_index
from data.records import Description, Problem, Record
from data.seen import is_seen, too_good
from data.slices import Slice, as_stored, upright
from data.volumes import Volume, mask_of, stem_of
from evaluation.accuracy import (
    BackboneFile,
    line_names,
    load_backbone_and_heads,
    own_data,
    read_backbones,
    same_pictures,
)
from maps.boxes_from_maps import RULES, boxes_from_maps
from maps.explained import Explained
from maps.kinds import MAPS, explanations
from maps.overlay import FOUND, outlined, overlaid, picture
from maps.prepare import check_kinds, same_view
from maps.tapped import Tapped
from utils.device import pick_device
from utils.draw import save_page
from utils.errors import UserError, run_cli
from utils.files import write_bytes
from utils.flags import add_name, positive
from utils.letterbox import Letterbox
from utils.names import as_name
from utils.parser import Parser
from utils.runs import new_run
from utils.tables import listed
from utils.text import NOTHING, as_terminal

LAYERS = ("cuts", "all")
BATCH = 16

Maps = dict[tuple[str, str], np.ndarray]
"""Kind and block → maps [n, S, S] of images, at the size of these."""


@dataclass(frozen=True)
class Asked:
    """What is explained: kinds of maps, of the class, at the file's cuts or at every block."""

    kinds: Sequence[str]
    label: int
    layers: str
    device: str


@dataclass(frozen=True)
class Seen:
    """A subject's volume as a network is shown it: records and images [n, C, S, S] of its slices."""

    volume: Volume
    records: list[Record]
    images: Tensor


def explained(file: BackboneFile, images: Tensor, asked: Asked) -> Maps:
    """Maps of one file's network, none below zero.

    At the file's cuts each has its own classifier. At every block the last classifier is explained, as in Grad-CAM's
    paper; kinds that ask for a classifier at each layer, as CAM, are then of the last block.
    """
    backbone, heads = load_backbone_and_heads(file)
    network = Explained(backbone, file.cuts, heads, single_label=file.single_label).to(asked.device)
    names = [f"b{cut}" for cut in file.cuts]
    unlayered = [kind for kind in asked.kinds if MAPS[kind].mapped or not MAPS[kind].layered]
    at_cuts = asked.kinds if asked.layers == "cuts" else unlayered
    found = maps_of(network, names, at_cuts, images, asked)
    if asked.layers == "all":
        found = {key: own for key, own in found.items() if key[1] == names[-1]}
        blocks = OrderedDict((f"b{number}", own) for number, own in enumerate(backbone.blocks[: file.cuts[-1]], 1))
        whole = nn.Sequential(blocks | {"head": heads[-1]}).to(asked.device).eval()
        others = [kind for kind in asked.kinds if kind not in at_cuts]
        tapped = Tapped(whole, list(blocks), single_label=file.single_label)
        tapped(images[:1].to(asked.device))
        found |= maps_of(tapped, list(blocks), others, images, asked)
    return found


def maps_of(
    network: Explained | Tapped, layers: Sequence[str], kinds: Sequence[str], images: Tensor, asked: Asked
) -> Maps:
    """Maps of some kinds at layers of a network, batch by batch."""
    side, parts = images.shape[2:], list[Maps]()
    for batch in images.split(BATCH) if kinds else ():
        labels = torch.full((len(batch),), asked.label, device=asked.device)
        found = explanations(network, batch.to(asked.device), labels, kinds)
        parts.append(
            {
                (kind, layer): one.at(side[0], side[1]).maps.float().cpu().numpy()
                for kind, own in found.items()
                for layer, one in zip(layers, own, strict=True)
            }
        )
    return {key: np.concatenate([part[key] for part in parts]) for key in (parts[0] if parts else ())}


def in_volume(seen: Seen, maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heat [X, Y, Z] in 0–1 of maps [n, S, S] of a volume's slices, and where a slice is, in the file's voxels.

    1 is the highest value in the volume. Where no slice is, the heat is 0.
    """
    shape = upright(np.zeros(seen.volume.shape, bool), seen.volume.affine).shape
    total, count = np.zeros(shape), np.zeros(shape)
    for record, one in zip(seen.records, maps, strict=True):
        own = Slice.named(record.image.name.rpartition("#")[2])
        inner = Letterbox.fit(record.size_hw, maps.shape[-1]).unboxed(torch.from_numpy(one)[None], record.size_hw)
        own.put(inner[0].numpy(), total)
        own.put(np.ones(record.size_hw), count)
    heat = total / np.maximum(count, 1)
    heat = heat / heat.max() if heat.max() > 0 else heat
    return (as_stored(heat.astype(np.float32), seen.volume.affine), as_stored(count > 0, seen.volume.affine))


def save_heat(heat: np.ndarray, volume: Volume, path: Path) -> None:
    """Write a volume [X, Y, Z] with the affine of another, whole or not at all."""
    import nibabel

    content = gzip.compress(nibabel.Nifti1Image(heat, volume.affine).to_bytes(), mtime=0)
    write_bytes(path, content)


def inside(heat: np.ndarray, covered: np.ndarray, volume: Volume) -> dict[str, float]:
    """The fraction of the heat in the masks beside the volume, and that of the voxels; {} without masks."""
    if not volume.regions:
        return {}
    region = mask_of(volume.regions) & covered
    total = float(heat[covered].sum())
    share = float(heat[region].sum()) / total if total else 0.0
    return {"heat in mask": share, "voxels in mask": float(region.sum() / covered.sum())}


def page(seen: Seen, maps: Maps, path: Path) -> None:
    """The middle slice of each direction, and on it every map with its box by 20 % (red) and the true boxes (green)."""
    axes = np.array([Slice.named(record.image.name.rpartition("#")[2]).axis for record in seen.records])
    middles = [own[len(own) // 2] for axis in np.unique(axes) for own in [np.flatnonzero(axes == axis)]]
    side, drawn = seen.images.shape[-1], list[np.ndarray]()
    truths = {at: boxes_in(seen.records[at], side) for at in middles}
    for at, truth in truths.items():
        image = picture(seen.images[at])
        drawn.append(outlined(image, truth, side))
        for own in maps.values():
            box = boxes_from_maps(own[at : at + 1], RULES["cam20"])[0]
            over = outlined(overlaid(image, own[at]), truth, side)
            drawn.append(over if box is None else outlined(over, np.array([box]), side, FOUND))
    save_page(drawn, path, ["", *(f"{kind} {layer}" for kind, layer in maps)], columns=1 + len(maps))


def boxes_in(record: Record, side: int) -> np.ndarray:
    """[n, 4] true boxes of a slice in pixels of the square that a network is shown."""
    fit = Letterbox.fit(record.size_hw, side)
    return record.boxes_xyxy * fit.scale + np.array([fit.left, fit.top] * 2, np.float32)


def shown(file: BackboneFile, description: Description, name: str, slices: int | None) -> tuple[list[Seen], int]:
    """The volumes of a subject, and its class.

    Args:
        slices: of each direction [as many as the data yaml says].

    Raises:
        UserError: no such subject, no whole volume of it, or the network is not shown whole slices.
    """
    if file.view.fit != "letterbox":
        what = f"is shown {file.view.about}, and heat goes back where whole slices were"
        raise UserError(what, where=file.path, hint="pre-train with --pretrain-view letterbox on pictures")
    subjects, problems = subjects_of(description)[0], list[Problem]()
    if name not in subjects:
        some = ", ".join(list(subjects)[:3])
        raise UserError(f"no subject `{name}`", where="--subject", hint=f"give one of {some} and others")
    found = []
    for volume in once(volumes_of(subjects[name], description, problems, []), []):
        own = partial(pictures, volume, subjects[name], slices or description.slices)
        if (records := readable(own, volume.path, problems)) is None:
            continue
        dataset = DetectionSet(records, file.view.transform(), seed=0)
        batches = make_loader(dataset, InOrder(len(dataset)), BATCH, workers=0)
        found.append(Seen(volume, records, torch.cat([batch.images for batch in batches])))
    if not found:
        raise problems[0].error()
    for problem in problems:
        print(f"left out {problem.where}: {problem.what}")
    return found, subjects[name].label


def written(file: BackboneFile, line: str, seen: Seen, asked: Asked, folder: Path) -> Iterator[dict[str, str]]:
    """Write the heat of every map of a volume and the page of pictures; a row of the table for each."""
    maps, stem = explained(file, seen.images, asked), stem_of(seen.volume.path)
    network = as_name(f"{line} seed{file.seed}".replace(", ", "_").replace(" ", "_"))
    for (kind, layer), own in maps.items():
        heat, covered = in_volume(seen, own)
        path = folder / f"{stem}_{network}_{kind}_{layer}.nii.gz"
        save_heat(heat, seen.volume, path)
        figures = {name: f"{value:.3f}" for name, value in inside(heat, covered, seen.volume).items()}
        yield {"volume": stem, "network": f"{line}, seed {file.seed}", "map": kind, "layer": layer, **figures}
    page(seen, maps, folder / f"{stem}_{network}.jpg")


def parse_arguments() -> argparse.Namespace:
    """Command line."""
    parser = Parser(description="Write the maps of a subject's slices as NIfTI volumes.")
    parser.add_argument("--weights", nargs="+", type=Path, required=True, help="backbone files")
    parser.add_argument("--data", type=Path, help="data yaml [that of the training]")
    parser.add_argument("--subject", required=True, help="name in the table of subjects")
    parser.add_argument(
        "--maps", nargs="+", default=["gradcam"], metavar="KIND", help=f"of {', '.join(listed('map'))} [gradcam]"
    )
    parser.add_argument(
        "--layers",
        choices=LAYERS,
        default="cuts",
        help="cuts: where the file has classifiers; all: every block, explained by the last classifier [cuts]",
    )
    parser.add_argument("--explain", metavar="CLASS", help="the class that is explained [that of the subject]")
    parser.add_argument("--slices", type=positive, help="of each direction, in its middle [as in the data yaml]")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda (a GPU), mps [auto]")
    parser.add_argument("--project", type=Path, default=Path("runs"), help="where run folders are [runs]")
    add_name(parser)
    return parser.parse_args()


def main() -> None:
    """Explain, put back, write, print."""
    arguments = parse_arguments()
    files = read_backbones(arguments.weights)
    same_view(files)
    check_kinds(files, arguments.maps)
    description = load_description(arguments.data or own_data(files))
    if not description.format.volumetric:
        what = f"has no volumes: its format is `{description.format.name}`"
        raise UserError(what, where=description.yaml, hint="give a data yaml of the format dmri")
    same_pictures(files, description)
    for file in files:
        if list(file.names) != list(description.names):
            what = f"knows {', '.join(file.names)}, and not {', '.join(description.names)}"
            raise UserError(what, where=file.path, hint="give the data yaml of its training with --data")
    volumes, label = shown(files[0], description, arguments.subject, arguments.slices)
    if arguments.explain:
        label = class_index(arguments.explain, description.names, "--explain")
    records = [record for seen in volumes for record in seen.records]
    learnt = frozenset[int]().union(*(file.learnt for file in files if file.learnt))
    for line in too_good(sum(is_seen(records, learnt)), len(records)):
        print(line)
    asked = Asked(arguments.maps, label, arguments.layers, pick_device(arguments.device))
    with new_run(arguments.project, "volume", arguments.name) as folder:
        pairs = [(*named, seen) for named in zip(files, line_names(files), strict=True) for seen in volumes]
        rows = [row for file, line, seen in pairs for row in written(file, line, seen, asked, folder)]
    keys = list(dict.fromkeys(key for row in rows for key in row))  # masks may be beside some volumes only
    print(as_terminal([keys, *([row.get(key, NOTHING) for key in keys] for row in rows)]))
    print(f"\nclass `{description.names[label]}`; NIfTI volumes and pictures in {folder}")


if __name__ == "__main__":
    run_cli(main)
