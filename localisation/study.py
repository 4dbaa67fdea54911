"""The localisation study: every classifier of every backbone file explains the same images, and is measured."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from data.loader import Batch, DetectionSet, InOrder, make_loader
from data.records import Record, Split
from data.transforms import eval_transform
from engine.accuracy import BackboneFile, line_names, load_backbone_and_heads
from engine.logs import progress
from localisation.maps import Evidence, Explained, cams, grad_cams, saliencies
from localisation.measures import Rule, measure
from localisation.overlap import box_mask
from utils.errors import UserError

Maker = Callable[[Explained, Tensor, Tensor], list[Evidence]]
MAKERS: dict[str, Maker] = {"gradcam": grad_cams, "saliency": saliencies, "cam": cams}


@dataclass(frozen=True)
class Cases:
    """What is explained: each class of each image, with the boxes of that class.

    Attributes:
        images: [n, 3, H, W] float RGB in 0–1.
        labels: [n] class indices.
        truth: [n, H, W] bool: the pixels in any box of the class.
        record: [n] index of the image in the split.
    """

    images: Tensor
    labels: Tensor
    truth: np.ndarray
    record: np.ndarray


@dataclass
class Column:
    """Values of one line, seed and kind of map: measure → [cases, cuts], in the order of the cases."""

    line: str
    seed: int
    kind: str
    cuts: tuple[int, ...]
    parts: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def add(self, values: Sequence[dict[str, np.ndarray]]) -> None:
        """Append some cases, measured at every cut."""
        for name in values[0]:
            self.parts.setdefault(name, []).append(np.stack([own[name] for own in values], 1))

    @property
    def values(self) -> dict[str, np.ndarray]:
        """All cases together."""
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}


def cases_of(batch: Batch) -> Cases:
    """The (image, class) pairs of a batch that have a box.

    Image and boxes went through the same transform; what a crop has left of a box counts.
    """
    height, width = batch.images.shape[2:]
    pairs = torch.unique(torch.stack([batch.truth.sample, batch.truth.labels], 1), dim=0)
    samples, labels = pairs[:, 0], pairs[:, 1]
    masks = []
    for sample, label in pairs.tolist():
        own = (batch.truth.sample == sample) & (batch.truth.labels == label)
        masks.append(box_mask(batch.truth.boxes_xyxy[own].numpy(), height, width))
    truth = np.stack(masks) if masks else np.zeros((0, height, width), bool)
    return Cases(batch.images[samples], labels, truth, batch.index[samples].numpy())


def boxed(split: Split) -> list[Record]:
    """The images that have a box.

    Raises:
        UserError: there are none.
    """
    found = [record for record in split.records if len(record.labels)]
    if not found:
        mend = "give data with boxes, or another --task"
        raise UserError(f"no image of `{split.name}` has a box", where=split.description.yaml, mend=mend)
    return found


def batches(records: list[Record], file: BackboneFile, batch_size: int) -> Iterator[Cases]:
    """The cases of records, as a file wants its images."""
    dataset = DetectionSet(records, eval_transform(file.imgsz, file.view), seed=0)
    loader = make_loader(dataset, InOrder(len(dataset)), batch_size, workers=0)
    for batch in progress(loader, "maps", len(loader)):
        cases = cases_of(batch)
        if len(cases.labels):
            yield cases


def run(
    files: Sequence[BackboneFile], split: Split, kinds: Sequence[str], rule: Rule, *, device: str, batch_size: int
) -> tuple[list[Column], list[tuple[int, int]]]:
    """Explain and measure; memory does not grow with the images but by their values.

    Returns:
        A column for each file and kind of map; and of each case the index of its image among those with boxes, and its
        class.

    Raises:
        UserError: the files want images of different sizes, or no image has a box.
    """
    same_view(files)
    records = boxed(split)
    networks = [load_explained(file, device) for file in files]
    columns = [
        Column(line, file.seed, kind, tuple(file.cuts))
        for file, line in zip(files, line_names(files), strict=True)
        for kind in kinds
    ]
    cases: list[tuple[int, int]] = []
    for own in batches(records, files[0], batch_size):
        cases += zip(own.record.tolist(), own.labels.tolist(), strict=True)
        images, labels = own.images.to(device), own.labels.to(device)
        waiting = iter(columns)
        for network in networks:
            for kind in kinds:
                evidence = MAKERS[kind](network, images, labels)
                next(waiting).add([measure(one, own.truth, rule) for one in evidence])
    return columns, cases


def same_view(files: Sequence[BackboneFile]) -> None:
    """Refuse files that want their images in different ways: their pixels could not be compared.

    Raises:
        UserError: two do.
    """
    for file in files[1:]:
        if (file.imgsz, file.view) != (files[0].imgsz, files[0].view):
            what = f"{file.imgsz} px {file.view}, but {files[0].imgsz} px {files[0].view} in {files[0].path}"
            raise UserError(what, where=file.path, mend="compare files of one --pretrain-imgsz and --pretrain-view")


def load_explained(file: BackboneFile, device: str) -> Explained:
    """The network of a file with its classifiers, ready to be explained."""
    backbone, heads = load_backbone_and_heads(file)
    network = Explained(backbone, file.cuts, heads)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
