"""Backbone files: what they say of themselves, which of them can be compared, and the networks in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from data.records import Description
from data.views import View
from evaluation.held_out import check_levels
from evaluation.learnt import Judged, doubtful, why_not
from models.backbone import Backbone
from models.backbones import make_backbone
from models.channels import RGB, wrong_channels
from models.heads import HEADS, Shape, make_head
from utils import checkpoint
from utils.config import AUGMENTS, INIT, ROOT
from utils.errors import UserError
from utils.levels import Levels
from utils.recipes import LATER

METHOD = re.compile(r"(cl\d+|e2e)(_|$)")  # of pre-training, at the beginning of a file's name
PROBED = "_probed"  # how the name of a method with fresh heads ends
FROM = "from "  # what the weights of a line began with, in its name


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
        cuts: numbers, from 1, of the blocks whose features its classifiers take.
        shapes: channels, height, width of the features there.
        convs: convolutions in its heads.
        view: what its classifiers learnt from, and are judged on.
        detector_imgsz: side of the detector's input in the same run.
        stages: figures of each classifier on the validation images of its training, as in evaluation.learnt.
        trained: the recipe's section on pre-training.
        decisive: what of the recipe decides how it learnt, as seeds of one recipe have it in common.
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
    decisive: dict[str, Any]
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
            recipe = content["recipe"]
            return cls(
                path,
                **{key: content[key] for key in own},
                view=View(**content["view"]),
                stages=content["metrics"],
                cuts=[stop for _, stop in content["splits"]],
                shapes=[(shape[0], shape[1], shape[2]) for shape in content["shapes"]],
                head=content["head"]["name"],
                convs=content["head"]["convs"],
                trained=recipe["pretrain"],
                decisive=decisive(recipe, content["method"]),
                data=ROOT / (recipe["pretrain"]["data"] or recipe["data"]),
                seed=recipe["seed"],
                levels=Levels.stored(content, path),
                init=content.get("init", {}).get("file", ""),
                learnt=checkpoint.learnt_by(content),
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
            FROM + (Path(self.init).stem.removeprefix("backbone_") if self.init else "random weights"),
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
        check_levels(file.path, file.levels, files[0].path, files[0].levels)
    by_line = sorted(zip(line_names(files), files, strict=True), key=lambda pair: pair[0])
    for (line, first), (other, second) in combinations(by_line, 2):
        if line == other:
            check_seeds(line, first, second)
    return files


def decisive(recipe: dict[str, Any], method: str) -> dict[str, Any]:
    """What of a recipe, beside seed and data, decides how a backbone learns: key, as in `pretrain.lr`, and value."""
    own = {key: recipe[key] for key in ("cl_splits", "balance", "cache_views")}
    if method.removesuffix(PROBED) == "e2e":
        del own["cache_views"]  # of stages, and of what costs as much as they
    own |= {f"pretrain.{key}": value for key, value in recipe["pretrain"].items() if key != "data"}
    own |= {f"augment.{key}": recipe["augment"][key] for key in AUGMENTS if key in recipe["augment"]}
    return own | {"pretrain.epochs": recipe["pretrain"]["epochs"] or recipe["train"]["epochs"]}


def check_seeds(line: str, first: BackboneFile, second: BackboneFile) -> None:
    """Refuse two files of a line that do not differ in the seed alone: their spread would not be that of seeds."""
    if first.seed == second.seed:
        what = f"{line} with seed {first.seed}, as {first.path}"
        raise UserError(what, where=second.path, hint="give one file for each method and seed")
    if first.data.name != second.data.name:  # folders differ where runs were made on several machines
        what = f"{line} of {second.data.name}, but of {first.data.name} in {first.path}"
        raise UserError(what, where=second.path, hint="compare seeds of one data set")
    for key in sorted(first.decisive.keys() | second.decisive.keys()):
        own, other = (file.decisive.get(key, LATER.get(key)) for file in (second, first))  # or older than the key
        if own != other:
            what = f"{line} with {key} {own}, but {other} in {first.path}"
            raise UserError(what, where=second.path, hint="compare seeds of one recipe")


def line_names(files: Sequence[Trained]) -> list[str]:
    """Method of each file, followed by its settings: those that differ, and do not follow from others before them."""
    kept: list[tuple[str, ...]] = [()] * len(files)
    for column in zip(*(file.settings for file in files), strict=True):
        longer = [(*own, word) for own, word in zip(kept, column, strict=True)]
        if len(set(longer)) > len(set(kept)):
            kept = longer
    return [", ".join([file.method, *own]) for file, own in zip(files, kept, strict=True)]


def trained_as(line: str) -> str:
    """How the features of a line of that name were trained: its method, or that of the file that they are from."""
    method, *settings = line.split(", ")
    files = [word.removeprefix(FROM) for word in settings if word.startswith(FROM)]
    return files[0] if method == INIT and files and METHOD.match(files[0]) else method


def doubts(files: Sequence[BackboneFile]) -> list[str]:
    """A line for each network whose classifiers were no better than chance or the majority class after training."""
    classifiers = [
        Judged(line, file.seed, cut, own)
        for file, line in zip(files, line_names(files), strict=True)
        for cut, own in zip(file.cuts, file.stages, strict=True)
    ]
    return doubtful(classifiers, files[0].single_label) if files else []


def untaught(files: Sequence[BackboneFile]) -> str | None:
    """Why the files cannot compare cascade and end to end, or None: the last classifier of one learnt nothing."""
    found = (why_not(file.stages[-1], file.single_label) for file in files)
    return next((why for why in found if why), None)


def untaught_cuts(files: Sequence[BackboneFile]) -> frozenset[int]:
    """The cuts at which a classifier of a file was no better than chance or the majority class."""
    found = ((cut, why_not(own, f.single_label)) for f in files for cut, own in zip(f.cuts, f.stages, strict=True))
    return frozenset(cut for cut, why in found if why)


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
