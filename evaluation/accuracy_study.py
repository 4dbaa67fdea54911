"""The accuracy study: every classifier of every backbone file on the same held-out images."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from data.loader import DetectionSet, InOrder, make_loader
from data.records import Split
from data.seen import count_learnt
from evaluation.accuracy import BackboneFile, line_names, load_backbone_and_heads, same_pictures
from evaluation.classification import bootstrap, classification_metrics
from evaluation.learnt import enough, figures, groups_of
from evaluation.looks import ONCE, Classifiers, Look, as_logits, logarithms
from evaluation.rates import rate_curves
from models.heads import Shape
from utils.console import progress
from utils.errors import UserError

SEED = 0  # of the resamples: the same ones for every classifier


@dataclass(frozen=True)
class Row:
    """One classifier: of a file, after a block.

    Attributes:
        line: the method, with what else distinguishes its files from the others.
        stage: number of the classifier in the file, from 1.
        block: number, from 1, of the block whose features it takes.
        metrics, intervals: by the names of evaluation.classification, fractions.
        beside: the figures of evaluation.learnt: what chance and the majority class reach, and whether it is above.
        curves: ROC and precision over recall, as evaluation.rates has them.
        ms: milliseconds that all classifiers of the file take for an image, without reading it.
    """

    file: Path
    line: str
    seed: int
    stage: int
    block: int
    shape: Shape
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    beside: dict[str, float]
    curves: dict[str, np.ndarray] = field(default_factory=dict, compare=False)
    ms: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Study:
    """All rows, and what they were measured on.

    Attributes:
        draws: resamples behind the intervals.
        learnt: how many of the images a network has learnt from; None where no file says.
        kind: of what is counted, `images` or `objects`.
    """

    rows: list[Row]
    data: str
    split: str
    images: int
    classes: int
    single_label: bool
    draws: int
    learnt: int | None = None
    kind: str = "images"

    @property
    def lines(self) -> dict[str, dict[int, list[Row]]]:
        """The rows by line and, in order, by block: those of several seeds are together."""
        blocks = sorted({row.block for row in self.rows})
        found: dict[str, dict[int, list[Row]]] = {}
        for line in dict.fromkeys(row.line for row in self.rows):
            own = {block: [row for row in self.rows if (row.line, row.block) == (line, block)] for block in blocks}
            found[line] = {block: rows for block, rows in own.items() if rows}
        return found


def run_study(
    files: Sequence[BackboneFile],
    split: Split,
    looks: Sequence[Look] = (ONCE,),
    *,
    device: str,
    batch_size: int,
    draws: int,
) -> Study:
    """Measure every classifier of the files, in one pass over the images for each file and look.

    Args:
        looks: each makes lines of its own.
        draws: bootstrap resamples; 0 for no intervals. Nor are there any of too few images, or patients.

    Raises:
        UserError: the data have another kind of labels, or a file's weights do not fit its description.
    """
    description = split.description
    same_pictures(files, description)
    if files[0].single_label != description.single_label:
        what = f"single_label is {files[0].single_label}, but {description.single_label} in {description.yaml}"
        raise UserError(what, where=files[0].path, hint="give the data yaml that it was trained on")
    rows, groups = [], groups_of(split.records)
    resamples = draws if enough(groups) else 0
    for (file, name), look in product(zip(files, line_names(files), strict=True), looks):
        line = ", ".join(filter(None, (name, look.title)))
        scores, targets, ms = classify(file, split, device, batch_size, look)
        stages = zip(file.cuts, file.shapes, scores, strict=True)
        for stage, (block, shape, own) in enumerate(progress(stages, f"{line}: intervals", len(file.cuts)), start=1):
            metrics = classification_metrics(own, targets, file.single_label)
            intervals = bootstrap(own, targets, file.single_label, resamples, SEED, groups=groups)
            beside = figures(own, targets, file.single_label, groups, file.view.border(split))
            curves = rate_curves(own, targets, file.single_label)
            place = (file.path, line, file.seed, stage, block, shape)
            rows.append(Row(*place, metrics, intervals, beside, curves, ms))
    if not any(row.metrics for row in rows):
        raise UserError(f"no image of `{split.name}` has a class", where=description.yaml, hint="give another --task")
    about = (description.yaml.name, split.name, len(split.records), len(description.names), description.single_label)
    kind = "objects" if files[0].view.source == "objects" else "images"
    return Study(rows, *about, draws, count_learnt(split, *(file.learnt for file in files)), kind)


def classify(
    file: BackboneFile, split: Split, device: str, batch_size: int, look: Look = ONCE
) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits [stages, N, C] of all classifiers of a file, targets [N, C], the classes of the whole image, and time.

    The time is that of the networks alone, without reading: milliseconds for an image.

    Raises:
        UserError: the weights do not fit the description, give numbers that are not finite, or cannot look so.
    """
    own = Classifiers(*load_backbone_and_heads(file), file.cuts, file.shapes, file.view)
    network = look.network(own).eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    sizes, taken = [], 0.0
    for view in look.views(file.view):
        dataset = DetectionSet(split.records, view.transform(), seed=0, classes=len(file.names), follow=False)
        loader = make_loader(dataset, InOrder(len(dataset)), batch_size, workers=0)
        scores, targets = [], []
        for batch in progress(loader, f"{file.path.stem} {look.title}".strip(), len(loader)):
            start = time.perf_counter()
            scores.append(seen(network, batch.images.to(device, memory_format=torch.channels_last), file, look))
            taken += time.perf_counter() - start
            targets.append(batch.present)
        sizes.append(torch.cat(scores, -2))
    joined = sizes[0] if look is ONCE else as_logits(sizes, single_label=file.single_label)
    if not joined.isfinite().all():
        raise UserError("gives scores that are not finite", where=file.path, hint="pre-train it again")
    return joined.numpy(), torch.cat(targets).numpy(), 1000 * taken / len(split.records)


@torch.inference_mode()
def seen(network: nn.Module, images: Tensor, file: BackboneFile, look: Look) -> Tensor:
    """What all classifiers say of a batch at one size: logits [stages, B, C], or [2, stages, B, C] of `logarithms`."""
    found = [logits.float().cpu() for logits in network(images)]
    if look is ONCE:
        return torch.stack([logits[..., 0] for logits in found])
    return torch.stack([logarithms(logits, single_label=file.single_label) for logits in found], 1)
