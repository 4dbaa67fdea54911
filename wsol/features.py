"""What a fixed network makes of pictures, for linear SVMs: kinds of features by name, and the maps behind them.

To add one, write a function head, features [B, C, h, w] → [B, D], and add it to FEATURES.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.description import load_description
from data.formats import FORMATS, read_training, read_unseen
from data.levels import levelled, with_levels
from data.records import Description, Record, Split
from evaluation.accuracy import BackboneFile, read_backbones, same_pictures
from maps.cases import Cases
from maps.cells import layer_cells
from maps.evidence import Evidence
from maps.kinds import Explained, is_mapped
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES, prepare, sample, things
from maps.seen import explained_images, seen_by
from utils.console import console
from utils.draw import picture_file
from utils.errors import UserError
from utils.flags import positive, written_as
from utils.parser import Parser
from utils.runs import located
from utils.tables import Entry, Table

ONE_BOX = np.zeros(1, np.int64)
Head = nn.Module


@dataclass(frozen=True)
class Feature(Entry):
    """Numbers that a network makes of a picture.

    Attributes:
        take: classifier, features of the last cut [B, C, h, w] → [B, D].
        maps: the same → [B, D, h, w] whose pool these numbers are; None where there are no such maps.
        obstacle: why a classifier cannot give it; None if it can.
    """

    take: Callable[[Head, Tensor], Tensor]
    maps: Callable[[Head, Tensor], Tensor] | None
    obstacle: Callable[[Head], str | None]


def average(head: Head, features: Tensor) -> Tensor:
    """The mean of each channel of the last cut."""
    return features.mean((2, 3))


def before_pool(head: Head, features: Tensor) -> Tensor:
    """What a mapped classifier pools."""
    *before, _, _, _ = head.children()
    found: Tensor = nn.Sequential(*before)(features)
    return found


def before_linear(head: Head, features: Tensor) -> Tensor:
    """What a classifier gives its last linear layer."""
    *before, _ = head.children()
    found: Tensor = nn.Sequential(*before)(features)
    return found


def no_pool(head: Head) -> str | None:
    """Why there are no pooled features of the classifier's own."""
    return None if is_mapped(head) else "wants a global pool and a linear layer: pre-train with gap, gap1024 …"


def not_connected(head: Head) -> str | None:
    """Why there are no features of fully connected layers."""
    steps = list(head.children())
    linear = sum(isinstance(step, nn.Linear) for step in steps)
    fit = linear > 1 and isinstance(steps[-1], nn.Linear)
    return None if fit else "wants fully connected layers: pre-train with alexnet_fc, vgg_fc or marquez"


FEATURES = Table(
    "feature",
    "--features",
    (
        Feature("average", "mean of the last features", average, lambda _, features: features, lambda _: None),
        Feature("gap", "what the classifier pools", before_linear, before_pool, no_pool),
        Feature("fc7", "the last layer before the classes", before_linear, None, not_connected),
    ),
)


@torch.no_grad()
def feature_maps(network: Explained, images: Tensor, kind: Feature = FEATURES["average"]) -> Tensor:
    """[B, D, h, w] whose pool the features of images are.

    Raises:
        UserError: this kind has no maps.
    """
    if kind.maps is None:
        raise UserError(f"`{kind.name}` has no maps", where=FEATURES.flag, hint="take average or gap")
    return kind.maps(network.heads[-1], network.features(images)[-1])


@torch.no_grad()
def pooled_features(
    network: Explained, parts: Iterable[Cases], device: str, kind: Feature = FEATURES["average"]
) -> tuple[np.ndarray, np.ndarray]:
    """[N, D] features and [N] class of each case."""

    def taken(images: Tensor) -> np.ndarray:
        return kind.take(network.heads[-1], network.features(images.to(device))[-1]).cpu().numpy()

    found = [(taken(cases.images), cases.labels.numpy()) for cases in parts]
    features, labels = (np.concatenate(column) for column in zip(*found, strict=True))
    return features, labels


def evidence_of(
    network: Explained, weights: np.ndarray, images: Tensor, kind: Feature = FEATURES["average"]
) -> np.ndarray:
    """[B, H, W] where weights [B, D] of features see something in images, at their size: M = Σ w·f."""
    maps = feature_maps(network, images, kind)
    raw = torch.einsum("bd,bdhw->bhw", torch.from_numpy(weights).to(maps), maps)
    size = images.shape[2:]
    found: Evidence = network.evidence(raw, -1, size, pooled=True)
    return np.asarray(found.at(*size).maps.cpu().numpy())


def around(record: Record, labels: np.ndarray = ONE_BOX) -> Record:
    """The image with a box around all of it for each label, in place of its own."""
    boxes = np.tile(np.array([0, 0, *record.size_hw[::-1]], np.float32), (len(labels), 1))
    difficult = np.zeros(len(labels), bool)
    return replace(record, boxes_xyxy=boxes, labels=labels, difficult=difficult, crowd=None, areas=None)


def tagged(records: Sequence[Record], count: int) -> np.ndarray:
    """[N, count] bool: which images have which classes."""
    found = np.zeros((len(records), count), bool)
    for row, record in enumerate(records):
        found[row, record.stated] = True
    return found


def described(
    network: Explained, plan: Plan, records: Sequence[Record], title: str, kind: Feature = FEATURES["average"]
) -> np.ndarray:
    """[N, D] features of all images, whether they have boxes or not."""
    parts = plan.images([around(record) for record in records], title)
    return pooled_features(network, parts, plan.device, kind)[0]


def files_of(weights: Sequence[Path], imgsz: int | None = None) -> list[BackboneFile]:
    """Backbone files; those that learnt from objects are shown whole pictures, at the detector's size.

    Args:
        weights: `zoo:NAME` is a file that ships.
        imgsz: side of the pictures that all are shown; None for their own.

    Raises:
        UserError: a classifier takes features of one size, and another is asked for.
    """
    files = read_backbones([located(path, Path("runs")) for path in weights])
    if imgsz is not None:
        files = [replace(file, detector_imgsz=imgsz) for file in files]
    return [file.on_pictures() if imgsz or file.view.source == "objects" else file for file in files]


def add_imgsz(parser: argparse.ArgumentParser) -> None:
    """The flag for the size of pictures."""
    parser.add_argument("--imgsz", type=positive, help="side of the pictures that the network is shown [its own]")


def add_training(parser: argparse.ArgumentParser) -> None:
    """The flag for the number of training images."""
    what = f"training images, drawn at random [{TRAINING_IMAGES}]"
    parser.add_argument("--training", type=positive, default=TRAINING_IMAGES, help=what)


def add_outputs(parser: argparse.ArgumentParser, drawn: str) -> None:
    """The flags for what is written; `drawn` says what the pictures show."""
    parser.add_argument("--json", type=written_as(".json"), help="write the figures to this file too")
    parser.add_argument("--pictures", type=Path, help=f"draw {drawn} to this JPEG")


def parser_of(
    about: str, drawn: str, *, weights: str = "a backbone file", data: str = "data yaml"
) -> argparse.ArgumentParser:
    """A parser with the flags of a command that looks at one network and at images of a data set.

    Args:
        about: the command; `drawn`, `weights` and `data`: these flags, for its help.
    """
    parser = Parser(description=about)
    parser.add_argument("--weights", type=Path, required=True, help=weights)
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--images", type=positive, help="only so many held-out images, drawn at random [all]")
    add_imgsz(parser)
    add_outputs(parser, drawn)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """What is asked for.

    Raises:
        UserError: pictures cannot be written where they shall be; said before anything is learned.
    """
    arguments = parser.parse_args()
    if arguments.pictures:
        arguments.pictures = picture_file(arguments.pictures)
    return arguments


def planned(
    weights: Sequence[Path],
    data: Path,
    images: int | None,
    *,
    training: int = TRAINING_IMAGES,
    imgsz: int | None = None,
) -> Plan:
    """All images of the data, whether they have boxes or not.

    Args:
        images: so many held-out images, drawn at random; None for all.
        training: so many training images; 0 where nothing is learned.
        imgsz: side of the pictures; None for the files' own.
    """
    files = files_of(weights, imgsz)
    description = with_levels(load_description(data), files[0].levels)
    held_out = read_unseen(description)
    known = read_training(description, held_out.name)
    left, notes = explained_images(held_out, seen_by(files))
    for note in notes:
        console.print(note)
    records = sample(left, images)
    label = np.array((things(description.names) or [0])[:1])  # any that is not the background
    plan = prepare(files, replace(held_out, records=[around(own, label) for own in records]))
    return replace(plan, split=replace(held_out, records=records), training=learning_from(known.records, training))


def learning_from(records: list[Record], count: int) -> list[Record]:
    """So many of the training images, drawn at random; says how many of how many are learned from."""
    kept = sample(records, count)
    if kept:
        console.print(f"{len(kept)} of {len(records)} training images")
    return kept


def unlearned(known: np.ndarray, names: Sequence[str]) -> list[str]:
    """The classes of [N, classes] bool that no training image has, or all have: nothing can be learned of them."""
    return [name for name, own in zip(names, known.T, strict=True) if not own.any() or own.all()]


def plan_of_pictures(file: BackboneFile, records: Sequence[Record], where: Path) -> Plan:
    """Pictures that are of no data set, as a network is shown them.

    Args:
        where: they are from, for messages.

    Raises:
        UserError: the network takes pictures of other channels.
    """
    description = with_levels(Description(where, where, FORMATS["folder"], {}, ["picture"]), file.levels)
    same_pictures([file], description)
    split = levelled(Split("pictures", description, [around(record) for record in records]))
    return Plan([file], split, cells=layer_cells([file], stretched=False))
