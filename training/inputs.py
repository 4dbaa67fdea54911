"""What a run needs before it may begin: weights, data, sizes; all of it read and checked, and no folder made yet."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data.anchors import check_variety
from data.description import made_on_first_use
from data.records import Split
from data.seen import numbers_of
from models.backbones import make_backbone
from models.detectors import DETECTORS
from models.weights_files import Beginning
from training.backbone import cuts_of, load_backbone
from training.check import check_cache, check_processes, check_reused, check_sizes, follows, show_cuts, taps_of
from training.init import beginning, reused, will_fetch
from training.reading import Pair, announce, lessons, masked, read_pair, read_pairs, settle_source
from training.same_data import Identity, identity, refuse_changed
from training.unread import unread_before
from utils import checkpoint
from utils.checkpoint import TRAINED_ON
from utils.config import Pretrain, Recipe
from utils.console import console
from utils.errors import UserError
from utils.recipes import build, refuse_differences

NO_BOXES = "the training images have no boxes"
DONE = ("stage", "backbone")  # kinds of what is finished before the detector begins
LATER = ("best.pt", "last.pt")
STATES = ("training", "detector", "segmenter")  # kinds of last.pt: to continue from, and of what is trained already


@dataclass(frozen=True)
class Inputs:
    """What was read for a run.

    Attributes:
        recipe: with what it left open taken from the data.
        begins: weights from elsewhere that its networks begin with; None for random ones.
        pairs: what the detector learns from, and what the backbone does.
        lesson: the latter as the backbone sees it.
        data_identity: of both.
        reused: of the file whose weights the detector's backbone takes; empty for none.
        learnt: kind of checkpoint → numbers of the pictures that it will have learnt from (data/seen.py).
    """

    recipe: Recipe
    begins: Beginning | None
    pairs: tuple[Pair, Pair]
    lesson: Pair
    data_identity: Identity
    reused: dict[str, str]
    learnt: dict[str, Tensor]


def gather(recipe: Recipe, *, download: bool, one_by_one: AbstractContextManager[Any] | None = None) -> Inputs:
    """Read and check.

    Args:
        recipe: settled on this machine's device.
        download: fetch what is missing and published.
        one_by_one: lets the first process go before the others, as it makes or unpacks what is missing.

    Raises:
        UserError: the data or the weights are not what the recipe asks for.
    """
    check_weights(recipe)
    with one_by_one or nullcontext():
        begins = beginning(recipe, download=download)
        pairs = read_pairs(recipe, download=download)
    announce(pairs)
    before, recipe = recipe, settle_source(recipe, pairs)
    check_cache(recipe)
    for line in unread_before(recipe):
        console.print(line)
    if recipe.pretrains and recipe.stage.imgsz != before.stage.imgsz:
        channels = pairs[1][0].description.format.channels
        show_cuts(recipe, make_backbone(recipe.backbone, recipe.width, channels))
    lesson, lines = lessons(recipe, pairs[1]) if recipe.pretrains else (pairs[0], [])
    for line in lines:
        console.print(line)
    counts = len(pairs[0][0].records), len(lesson[0].records)
    check_processes(recipe, recipe.devices * recipe.num_nodes, min(counts))  # a cache is kept for some sources alone
    check_sizes(recipe, *counts)
    refuse_nothing(recipe, pairs[0][0])
    if follows(recipe, taps_of(recipe.backbone, recipe.width)) == "detector":
        check_boxes(recipe, pairs[0][0])
    refuse_mixed(recipe, pairs)
    learnt = learnt_from(recipe, pairs[0][0], lesson[0], begins)
    return Inputs(recipe, begins, pairs, lesson, identity(named_splits(recipe, pairs)), reused(recipe), learnt)


def rehearse(recipe: Recipe, *, folder: Path | None, download: bool, accept_changed: bool) -> None:
    """Read and check as `gather` does, and say what waits for the run itself; nothing is made, unpacked or fetched.

    Args:
        folder: of the run to continue with, None for a new one.
        accept_changed: it may continue though the data are not what it began with.

    Raises:
        UserError: the data, the weights or the run to continue with are not what the recipe asks for.
    """
    check_weights(recipe)
    yamls = [recipe.data, *([recipe.pretrain.data] if recipe.pretrains and recipe.pretrain.data else [])]
    later = {yaml: line for yaml in yamls if (line := made_on_first_use(yaml, download=download))}
    waits = will_fetch(recipe, download=download)
    if later or waits:
        if not waits:
            beginning(recipe, download=False)
        for yaml in (own for own in yamls if own not in later):
            for split in read_pair(yaml, recipe, download=False, masked=yaml == recipe.data and masked(recipe)):
                console.print(split.summary())
        check_sizes(recipe)
        for line in [*later.values(), *([waits] if waits else [])]:
            console.print(f"not checked before the run: {line}")
        return
    found = gather(recipe, download=False)
    if folder:
        read_resumed(folder, found, {} if accept_changed else found.data_identity)
    console.print("data, weights and sizes: checked")


def check_weights(recipe: Recipe) -> None:
    """Refuse a file of `--weights` that does not fit the recipe.

    Raises:
        UserError: it does not.
    """
    if recipe.weights is not None:
        content = load_backbone(recipe.weights, recipe)
        with torch.device("meta"):
            blocks = len(make_backbone(recipe.backbone, recipe.width).blocks)
        check_reused(recipe, recipe.weights.name, cuts_of(content, blocks))


def named_splits(recipe: Recipe, pairs: tuple[Pair, Pair]) -> dict[str, Split]:
    """What the run reads, by name."""
    found = dict(zip(("train", "val"), pairs[0], strict=True))
    if recipe.pretrains and pairs[1] is not pairs[0]:
        found |= {f"pretrain {split.name}": split for split in pairs[1]}
    return found


def learnt_from(recipe: Recipe, own: Split, lesson: Split, begins: Beginning | None) -> dict[str, Tensor]:
    """Numbers of the pictures that each kind of checkpoint will have learnt from, with those of what it began with.

    Args:
        own, lesson: training splits of the detector or segmenter, and of the backbone.
    """
    paths = [begins.path if begins else None, recipe.weights]
    before = [checkpoint.load_tensors(path).get(TRAINED_ON) for path in paths if path and path.suffix == ".pt"]
    backbone = numbers_of(lesson.records if recipe.pretrains else [], *before)
    learnt = numbers_of(own.records, backbone)
    return {"backbone": backbone, "detector": learnt, "segmenter": learnt}


def refuse_nothing(recipe: Recipe, train: Split) -> None:
    """Refuse a run that would train neither a backbone nor anything on top of it.

    Raises:
        UserError: it would.
    """
    segments = recipe.task == "segment"
    if not (recipe.pretrains or segments or has_boxes(train)):
        what = f"nothing to train: the images of `{train.name}` have no boxes, and no backbone is to be trained"
        hint = "give --cl-splits 1 or more to train a backbone, or add boxes"
        raise UserError(what, where=recipe.data, hint=hint)


def check_boxes(recipe: Recipe, train: Split) -> None:
    """Say that no detector will be trained where there are no boxes, and refuse anchors that they cannot give.

    Raises:
        UserError: the boxes are of too few sizes.
    """
    if not has_boxes(train):
        console.print(f"no detector: {NO_BOXES}")
    elif recipe.anchors == "auto" and DETECTORS[recipe.detector].anchored:
        check_variety(train.records, recipe.imgsz)


def refuse_mixed(recipe: Recipe, pairs: tuple[Pair, Pair]) -> None:
    """Refuse pictures of other channels to pre-train on than to detect in, and colours on pictures of one channel.

    Raises:
        UserError: the data ask for it.
    """
    own, other = (pair[0].description.format.channels for pair in pairs)
    if own != other:
        what = f"has pictures of {other} channels, and {recipe.data.name} of {own}"
        raise UserError(what, where=recipe.pretrain.data or recipe.data, hint="give data of one kind")
    if own == 1 and recipe.augment.pca:
        what = f"the pictures of {recipe.data.name} have one channel, and no colours"
        raise UserError(what, where="--augment-pca", hint="leave it out")


def has_boxes(train: Split) -> bool:
    """Whether a detector has something to learn from."""
    return train.description.boxed and any(record.asked.any() for record in train.records)


def same_names(recipe: Recipe, other: Recipe, key: str) -> bool:
    """Whether two recipes name files that are called the same, in whatever folder: a project may be moved."""
    own, others = (
        [Path(file).name for file in ([found] if isinstance(found, str | Path) else found or ())]
        for found in (getattr(recipe, key), getattr(other, key))
    )
    return own == others


def moved_data(recipe: Recipe, other: Recipe) -> Pretrain:
    """A recipe's section on pre-training with its data where another has them, if both have data of their own."""
    if recipe.pretrain.data is None or other.pretrain.data is None:
        return recipe.pretrain
    return recipe.pretrain.model_copy(update={"data": other.pretrain.data})


def read_resumed(folder: Path, found: Inputs, data: Identity) -> dict[str, Any]:
    """The checkpoint to continue from, or nothing where a run has none yet; stages that are done are looked at then.

    Args:
        data: what its data have to be.

    Raises:
        UserError: it was made under another recipe; says which fields, and both values. Or it began with other weights,
            or other data.
    """
    last = folder / "weights" / "last.pt"
    if not last.exists():
        if done := finished_stages(folder):
            refuse_others(checkpoint.load(done[-1], *DONE), found, data, done[-1])
        return {}
    resumed, recipe = checkpoint.load(last, *STATES), found.recipe
    # Another number of processes continues just as well, and so does another place of the same data.
    made = build(Recipe, resumed["recipe"], last)
    kept = {key: getattr(recipe, key) for key in ("devices", "num_nodes", "data", "logger")}
    kept |= {key: getattr(recipe, key) for key in ("weights", "init", "imports") if same_names(recipe, made, key)}
    kept["pretrain"] = moved_data(made, recipe)
    made = made.model_copy(update=kept)
    refuse_differences(made, recipe, last, "restore recipe.yaml, or start a new run")
    refuse_others(resumed, found, data, last)
    return resumed


def finished_stages(folder: Path) -> list[Path]:
    """Files of what a run has finished before its detector, the newest last."""
    there = (path for path in (folder / "weights").glob("*.pt") if path.name not in LATER)
    return sorted(there, key=lambda path: path.stat().st_mtime_ns)


def refuse_others(resumed: dict[str, Any], found: Inputs, data: Identity, path: Path) -> None:
    """Refuse to continue a checkpoint with other weights or other data than it began with.

    Raises:
        UserError: the run would.
    """
    recipe, begins = found.recipe, found.begins
    if begins and begins.identity != resumed.get("init"):
        raise UserError("is not what the run began with", where=begins.path, hint="restore it, or start a new run")
    if recipe.weights and resumed.get("reused", found.reused) != found.reused:
        raise UserError("is not what the run began with", where=recipe.weights, hint="restore it, or start a new run")
    refuse_changed(data, resumed.get("data_identity", {}), path)
