"""The accuracy study: every classifier of every backbone file on the same held-out images."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from data.loader import DetectionSet, InOrder, make_loader
from data.records import Description, Split
from data.seen import learnt_by
from data.views import View
from evaluation.classification import bootstrap, classification_metrics
from evaluation.learnt import figures, groups_of, why_not
from evaluation.rates import rate_curves
from models.backbone import Backbone
from models.backbones import make_backbone
from models.cascade import Probes, Taps
from models.channels import RGB, wrong_channels
from models.heads import HEADS, Shape, make_head
from utils import checkpoint
from utils.config import ROOT
from utils.console import progress
from utils.errors import UserError
from utils.levels import Levels
from utils.recipes import LATER

SEED = 0  # of the resamples: the same ones for every classifier
PROBED = "_probed"  # how the name of a method with fresh heads ends


class Trained(Protocol):
    """A file that says how its network was trained, and what else may distinguish it from others."""

    @property
    def method(self) -> str: ...

    @property
    def settings(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class BackboneFile:
    """What a backbone file says of itself.

    Attributes:
        method: as in `cl6`, `e2e`, `e2e_compute`, `cl6_finetuned`.
        cuts: 1-based blocks after which its classifiers stand.
        shapes: channels, height, width of the features there.
        convs: convolutions in its heads.
        view: what its classifiers learnt from, and are judged on.
        detector_imgsz: side of the detector's input in the same run.
        stages: figures of each classifier on the validation images of its training, as in evaluation.learnt.
        trained: the recipe's section on pre-training.
        data: the data yaml that it was trained on.
        init: name of the file that its weights began with; empty for random ones.
        learnt: numbers of the pictures that it has learnt from (data/seen.py); None where the file does not say.
        in_channels: of its images.
    """

    path: Path
    backbone: str
    width: float
    names: list[str]
    method: str
    cuts: list[int]
    shapes: list[Shape]
    head: str
    convs: int
    single_label: bool
    view: View
    detector_imgsz: int
    stages: list[dict[str, float]]
    trained: dict[str, Any]
    data: Path
    seed: int
    levels: Levels | None = None
    init: str = ""
    learnt: frozenset[int] | None = field(default=None, repr=False)
    in_channels: int = RGB

    @classmethod
    def of(cls, path: Path, content: dict[str, Any]) -> "BackboneFile":
        """The description in a checkpoint.

        Raises:
            UserError: a key is missing: the file is older than its format.
        """
        own = ("backbone", "width", "names", "method", "single_label", "detector_imgsz")
        try:
            trained = content["recipe"]["pretrain"]
            return cls(
                path,
                **{key: content[key] for key in own},
                view=View(**content["view"]),
                stages=content["metrics"],
                cuts=[stop for _, stop in content["splits"]],
                shapes=[(shape[0], shape[1], shape[2]) for shape in content["shapes"]],
                head=content["head"]["name"],
                convs=content["head"]["convs"],
                trained=trained,
                data=ROOT / (trained["data"] or content["recipe"]["data"]),
                seed=content["recipe"]["seed"],
                levels=Levels.stored(content, path),
                init=content.get("init", {}).get("file", ""),
                learnt=learnt_by(content),
                in_channels=content.get("in_channels", RGB),
            )
        except (KeyError, TypeError) as error:
            what = f"is not described as backbones are ({error.args[0]}): an older version wrote it"
            raise UserError(what, where=path, hint="pre-train again with `python train.py`") from None

    @property
    def settings(self) -> tuple[str, ...]:
        """What may differ between files besides method and seed, in the words of a legend."""
        return (
            self.backbone,
            f"width {self.width:g}",
            f"{self.head} head",
            f"{self.convs} head convs",
            self.view.about,
            f"from {self.init}" if self.init else "from random weights",
        )

    def on_pictures(self) -> "BackboneFile":
        """The same classifiers, shown whole pictures at the detector's size instead of what they learnt from.

        Raises:
            UserError: its heads take one size.
        """
        if HEADS.pick(self.head).one_size and self.imgsz != self.detector_imgsz:
            what = f"`{self.head}` heads take {self.imgsz} px, not {self.detector_imgsz}"
            raise UserError(what, where=self.path, hint="leave --view out")
        return replace(self, view=View("pictures", self.detector_imgsz))

    @property
    def imgsz(self) -> int:
        """Side of the images that its classifiers are shown."""
        return self.view.imgsz


@dataclass(frozen=True)
class Row:
    """One classifier: of a file, after a block.

    Attributes:
        line: the method, with what else distinguishes its files from the others.
        stage: number of the classifier in the file, from 1.
        block: 1-based block after which it stands.
        metrics, intervals: by the names of evaluation.classification, fractions.
        beside: the figures of evaluation.learnt: what chance and the majority class reach, and whether it is above.
        curves: ROC and precision over recall, as evaluation.rates has them.
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


@dataclass(frozen=True)
class Study:
    """All rows, and what they were measured on; draws: resamples behind the intervals."""

    rows: list[Row]
    data: str
    split: str
    images: int
    classes: int
    single_label: bool
    draws: int

    @property
    def lines(self) -> dict[str, dict[int, list[Row]]]:
        """The rows by line and, in order, by block: those of several seeds are together."""
        blocks = sorted({row.block for row in self.rows})
        found: dict[str, dict[int, list[Row]]] = {}
        for line in dict.fromkeys(row.line for row in self.rows):
            own = {block: [row for row in self.rows if (row.line, row.block) == (line, block)] for block in blocks}
            found[line] = {block: rows for block, rows in own.items() if rows}
        return found


def read_backbones(paths: Sequence[Path]) -> list[BackboneFile]:
    """Describe backbone files that can be compared.

    Raises:
        UserError: one is no backbone file, or they cannot be compared; says which.
    """
    files = [BackboneFile.of(path, checkpoint.load(path, "backbone")) for path in paths]
    for file in files[1:]:
        if file.names != files[0].names:
            what = f"classes {file.names} are not those of {files[0].path}: {files[0].names}"
            raise UserError(what, where=file.path, hint="compare backbones that were trained on the same classes")
        if file.view.source != files[0].view.source:
            what = f"learnt from {file.view.source}, but {files[0].path} from {files[0].view.source}"
            raise UserError(what, where=file.path, hint="compare backbones of one --pretrain-source")
        if file.single_label != files[0].single_label:
            what = f"single_label is {file.single_label}, but {files[0].single_label} in {files[0].path}"
            raise UserError(what, where=file.path, hint="compare backbones that were trained on the same task")
    by_line = sorted(zip(line_names(files), files, strict=True), key=lambda pair: pair[0])
    for (line, first), (other, second) in combinations(by_line, 2):
        if line == other:
            check_seeds(line, first, second)
    return files


def check_seeds(line: str, first: BackboneFile, second: BackboneFile) -> None:
    """Refuse two files of a line that do not differ in the seed alone: their spread would not be that of seeds."""
    if first.seed == second.seed:
        what = f"{line} with seed {first.seed}, as {first.path}"
        raise UserError(what, where=second.path, hint="give one file for each method and seed")
    for key in sorted(first.trained.keys() | second.trained.keys()):
        unsaid = LATER.get(f"pretrain.{key}")  # of files that are older than the key
        own, other = (file.trained.get(key, unsaid) for file in (second, first))
        if own != other:
            what = f"{line} with pretrain.{key} {own}, but {other} in {first.path}"
            raise UserError(what, where=second.path, hint="compare seeds of one recipe")


def line_names(files: Sequence[Trained]) -> list[str]:
    """Method of each file, followed by those of its settings in which the files differ."""
    differing = [len(set(column)) > 1 for column in zip(*(file.settings for file in files), strict=True)]
    return [
        ", ".join([file.method, *(word for word, differs in zip(file.settings, differing, strict=True) if differs)])
        for file in files
    ]


def doubts(files: Sequence[BackboneFile]) -> list[str]:
    """A line for each classifier that was no better than chance or the majority class when its training ended."""
    return [
        f"{line}, seed {file.seed}, b{cut}: {why}"
        for file, line in zip(files, line_names(files), strict=True)
        for cut, own in zip(file.cuts, file.stages, strict=True)
        if (why := why_not(own, file.single_label))
    ]


def untaught(files: Sequence[BackboneFile]) -> str | None:
    """Why the files cannot compare cascade and end to end, or None: the last classifier of one learnt nothing."""
    found = (why_not(file.stages[-1], file.single_label) for file in files)
    return next((why for why in found if why), None)


def own_data(files: Sequence[BackboneFile]) -> Path:
    """The data yaml that all files were trained on.

    Raises:
        UserError: it is not the same one.
    """
    for file in files[1:]:
        if file.data != files[0].data:
            what = f"trained on {file.data}, not on {files[0].data} as {files[0].path}"
            raise UserError(what, where=file.path, hint="say with --data what to compare them on")
    return files[0].data


def same_pictures(files: Sequence[BackboneFile], description: Description) -> None:
    """Refuse files that take pictures of other channels than a data set has.

    Raises:
        UserError: one does.
    """
    for file in files:
        if file.in_channels != description.format.channels:
            raise wrong_channels(description.format.channels, file.in_channels, file.path)


def run_study(files: Sequence[BackboneFile], split: Split, *, device: str, batch_size: int, draws: int) -> Study:
    """Measure every classifier of the files, in one pass over the images for each file.

    Args:
        draws: bootstrap resamples; 0 for no intervals.

    Raises:
        UserError: the data have another kind of labels, or a file does not hold what it says.
    """
    description = split.description
    same_pictures(files, description)
    if files[0].single_label != description.single_label:
        what = f"single_label is {files[0].single_label}, but {description.single_label} in {description.yaml}"
        raise UserError(what, where=files[0].path, hint="give the data yaml that it was trained on")
    rows, groups = [], groups_of(split.records)
    for file, line in zip(files, line_names(files), strict=True):
        scores, targets = classify(file, split, device, batch_size)
        stages = zip(file.cuts, file.shapes, scores, strict=True)
        for stage, (block, shape, own) in enumerate(progress(stages, f"{line}: intervals", len(file.cuts)), start=1):
            metrics = classification_metrics(own, targets, file.single_label)
            intervals = bootstrap(own, targets, file.single_label, draws, SEED, groups=groups)
            beside = figures(own, targets, file.single_label, groups)
            curves = rate_curves(own, targets, file.single_label)
            rows.append(Row(file.path, line, file.seed, stage, block, shape, metrics, intervals, beside, curves))
    if not any(row.metrics for row in rows):
        raise UserError(f"no image of `{split.name}` has a class", where=description.yaml, hint="give another --task")
    about = (description.yaml.name, split.name, len(split.records), len(description.names), description.single_label)
    return Study(rows, *about, draws)


@torch.inference_mode()
def classify(file: BackboneFile, split: Split, device: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits [stages, N, C] of all classifiers of a file, and targets [N, C]: the classes of the whole image.

    Raises:
        UserError: the weights do not fit the description, or give numbers that are not finite.
    """
    taps, probes = load_classifiers(file, device)
    dataset = DetectionSet(split.records, file.view.transform(), seed=0, classes=len(file.names), follow=False)
    loader = make_loader(dataset, InOrder(len(dataset)), batch_size, workers=0)
    scores, targets = [], []
    for batch in progress(loader, file.path.stem, len(loader)):
        logits = probes(taps(batch.images.to(device, memory_format=torch.channels_last)))
        scores.append(torch.stack(logits).float().cpu())
        targets.append(batch.present)
    joined = torch.cat(scores, 1)
    if not joined.isfinite().all():
        raise UserError("gives scores that are not finite", where=file.path, hint="pre-train it again")
    return joined.numpy(), torch.cat(targets).numpy()


def load_classifiers(file: BackboneFile, device: str) -> tuple[Taps, Probes]:
    """The backbone up to its last cut, and the heads there, in evaluation mode."""
    backbone, heads = load_backbone_and_heads(file)
    taps, probes = Taps(backbone, file.cuts), Probes(heads).eval()
    return taps.to(device, memory_format=torch.channels_last), probes.to(device)  # type: ignore[call-overload]


def load_backbone_and_heads(file: BackboneFile) -> tuple[Backbone, list[nn.Module]]:
    """The network of a file and the classifiers on its cuts."""
    content = checkpoint.load(file.path, "backbone")
    backbone = make_backbone(file.backbone, file.width, file.in_channels)
    checkpoint.load_state(backbone, content["model"], file.path)
    heads: list[nn.Module] = []
    for shape, state in zip(file.shapes, content["heads"], strict=True):
        heads.append(make_head(file.head, shape, len(file.names), convs=file.convs))
        checkpoint.load_state(heads[-1], state, file.path)
    return backbone, heads
