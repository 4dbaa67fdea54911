"""A recipe beside the tables: whether what it names is there, and takes the sizes that it asks for."""

from collections.abc import Sequence
from functools import lru_cache

from models.backbone import Backbone
from models.backbones import BACKBONES, make_backbone
from models.detectors import DETECTORS, Settings
from models.fcn import FCN, FCNS
from models.heads import HEADS, make_head
from models.plan import make_plan, plan_table, shapes_only
from training.cache import NEW_VIEWS
from training.update import layer_name, layer_of
from utils.config import Recipe
from utils.console import console
from utils.errors import UserError
from utils.tables import near


def check_names(recipe: Recipe, where: str | None = None) -> Recipe:
    """The recipe, if everything that it names is there.

    Args:
        where: what a message points at [the flag].

    Raises:
        UserError: something is not, or the backbone has not what the head reads.
    """
    entry = BACKBONES.pick(recipe.backbone, where)
    lender = entry.lender
    if lender and recipe.init_freeze:
        what = f"only the first block of {recipe.backbone} begins with {lender}'s weights"
        raise UserError(what, where="--init-freeze", hint="give --pretrain-freeze-epochs, which fixes that block alone")
    if recipe.pretrain.auxiliary and not entry.auxiliary:
        what = f"{recipe.backbone} has no auxiliary classifiers"
        raise UserError(what, where="--pretrain-auxiliary", hint="leave it out, or give --backbone googlenet")
    DETECTORS.pick(recipe.detector, where)
    HEADS.pick(recipe.pretrain.head, where)
    FCNS.choose(recipe.fcn, where)
    if follows(recipe) == "segmenter":
        check_taps(recipe.backbone, recipe.width, recipe.fcn)
    check_rates(recipe)
    check_fixed(recipe)
    if recipe.pretrain_only and not recipe.pretrains:
        what = "nothing to train: no backbone, and nothing on top of one"
        raise UserError(what, where="--pretrain-only", hint="give --cl-splits 1 or more, or leave it out")
    return recipe


def show_cuts(recipe: Recipe, backbone: Backbone) -> None:
    """Print what each sub-module will hold and cost, on pictures of the size that it learns from.

    Raises:
        UserError: the backbone has fewer blocks, or cannot take such pictures; no sub-module ends where the recipe says
            that weights are taken over up to.
    """
    stage, k = recipe.stage, recipe.cl_splits
    side = stage.imgsz or recipe.imgsz
    plan = make_plan(backbone, k, side, recipe.balance, batch=stage.batch_size)
    if follows(recipe, backbone.taps) and not recipe.init_freeze:
        check_reused(recipe, f"CL_{k}", [part.stop for part in plan])
    console.print(f"CL_{k} of {recipe.backbone}, width {recipe.width:g}, {side} px")
    console.print(plan_table(plan, backbone.taps))


def check_reused(recipe: Recipe, name: str, cuts: Sequence[int]) -> None:
    """Refuse to take over a part of a sub-module, which was never trained to be used without the rest.

    Args:
        name: of the backbone or its file.
        cuts: where its sub-modules end; one alone was trained whole, and may be taken up to any block.

    Raises:
        UserError: the recipe asks for it.
    """
    upto, allowed = recipe.reuse_upto, cuts if len(cuts) > 1 else range(1, cuts[0] + 1)
    if upto and int(upto.removeprefix("b")) not in allowed:
        reached = ", ".join(f"b{cut}" for cut in allowed)
        what = f"no sub-module of {name} ends at {upto}"
        raise UserError(what, where="--reuse-upto", hint=f"give one of {reached}, or pre-train with other cuts")


def check_rates(recipe: Recipe) -> None:
    """Refuse learning rates of layers that there are not.

    Raises:
        UserError: names the layer, and the parts that there are.
    """
    for flag, rates, pretrains in (
        ("--rates", recipe.train.rates, False),
        ("--pretrain-rates", recipe.pretrain.rates, True),
    ):
        names = layers_of(recipe, pretrains=pretrains) if rates else []
        for layer in rates:
            if not any(layer_of(name, [layer]) for name in names):
                parts = list(dict.fromkeys(name.partition(".")[0] for name in names))
                hint = f"{near(layer, parts)}there is backbone, {', '.join(parts)}, and what is in them"
                raise UserError(f"no layer `{layer[:60]}`", where=flag, hint=hint)


def check_fixed(recipe: Recipe) -> None:
    """Refuse to fix blocks for a part of a single epoch.

    Raises:
        UserError: the recipe does.
    """
    before, after = ("--pretrain-freeze-epochs", recipe.stage), ("--freeze-epochs", recipe.train)
    for flag, phase in (before,) if recipe.pretrain_only else (after, before):
        if 0 < phase.freeze_epochs < 1 and phase.epochs == 1:
            what = f"{phase.freeze_epochs:g} of a single epoch is no number of epochs"
            raise UserError(what, where=flag, hint="give 0 or 1, or more epochs")


def layers_of(recipe: Recipe, *, pretrains: bool) -> list[str]:
    """Names, as `rates` has them, of the parameters of a stage's network, or of what is trained on the backbone."""
    import torch

    with torch.device("meta"):
        backbone = make_backbone(recipe.backbone, recipe.width)
        if pretrains:
            heads = ["head", *(["auxiliary"] if recipe.pretrain.auxiliary else [])]
            return [*(layer_name(backbone, name) for name, _ in backbone.named_parameters()), *heads]
        model: torch.nn.Module
        if recipe.task == "segment":
            model = FCN(backbone, 1, FCNS.choose(recipe.fcn))
        else:
            model = DETECTORS[recipe.detector].network(backbone, Settings(1, recipe.imgsz))
    return [layer_name(model, name) for name, _ in model.named_parameters()]


@lru_cache(maxsize=64)
def check_taps(name: str, width: float, head: str) -> None:
    """Refuse a backbone without the taps that a fully convolutional head reads.

    Raises:
        UserError: it is one.
    """
    import torch

    with torch.device("meta"):
        FCN(make_backbone(name, width), 1, FCNS.choose(head))


def check_cache(recipe: Recipe) -> None:
    """Refuse a feature cache that is asked for where every epoch shows new pictures; the source is settled.

    Raises:
        UserError: it does.
    """
    wanted = recipe.caching and recipe.cache in ("ram", "disk") and recipe.pretrain.bn_mode == "frozen"
    if wanted and not recipe.views:
        raise UserError(NEW_VIEWS, where=f"--cache {recipe.cache}", hint="give --cache-views, or no augmentation")


def check_processes(recipe: Recipe, processes: int, images: int | None = None) -> None:
    """Refuse batches, images and a cache that the processes of a run cannot share.

    Args:
        images: fewest that something is learnt from; None: not known yet.

    Raises:
        UserError: a batch is no multiple of them, there are fewer images, or several are to keep features in memory.
    """
    if images is not None and images < processes:
        what = f"{processes} processes for {images} training images"
        raise UserError(what, where="--devices", hint="give fewer processes, or more images")
    if processes > recipe.num_nodes and recipe.caching and recipe.cache == "ram":
        raise UserError("several processes cannot share it", where="--cache ram", hint="use --cache disk")
    sizes = {} if recipe.pretrain_only else {"--batch-size": recipe.train.batch_size}
    if recipe.pretrains:
        sizes["--pretrain-batch-size"] = recipe.stage.batch_size
    for flag, size in sizes.items():
        if size % processes:
            what = f"{size} images a step for {processes} processes"
            raise UserError(what, where=flag, hint="give a multiple of the processes")


def check_sizes(recipe: Recipe, images: int | None = None, learnt: int | None = None) -> None:
    """Send a batch without content through the networks of a recipe, each at its size.

    Args:
        images, learnt: how many the detector learns from, and the backbone: a batch has no more; None: not known yet.

    Raises:
        UserError: one of them cannot take it, or makes so little of it that BatchNorm has a single value to look at;
            names the block. Or the detector is not made for it, or for this backbone.
    """
    stage = recipe.stage
    sizes = {} if recipe.pretrain_only else {"--imgsz": (recipe.imgsz, recipe.train.batch_size, images)}
    if recipe.pretrains:
        sizes["--pretrain-imgsz"] = (stage.imgsz or recipe.imgsz, stage.batch_size, learnt)
    if recipe.pretrain_only and recipe.pretrains and not HEADS.pick(stage.head).one_size:
        sizes["--imgsz"] = (recipe.imgsz, 2, 2)  # each stage is judged at this size too
    for flag, (side, most, there) in sizes.items():
        batch = min(most, there or most)
        detector = recipe.detector if flag == "--imgsz" and detects(recipe) else None
        if fault := why_not(recipe.backbone, recipe.width, side, batch, detector):
            what = f"{recipe.backbone} cannot take {batch} images of {side} pixels a step ({fault})"
            raise UserError(what, where=flag, hint="give a larger size, a larger batch, or more images")
    if recipe.pretrains:
        check_heads(recipe, min(stage.batch_size, learnt or stage.batch_size))


def check_heads(recipe: Recipe, batch: int) -> None:
    """Send a batch without content through the classifiers of all sub-modules.

    Raises:
        UserError: one of them cannot take the features at its cut; names the block.
    """
    import torch

    stage, side = recipe.stage, recipe.stage.imgsz or recipe.imgsz
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        backbone = make_backbone(recipe.backbone, recipe.width)
        for part in make_plan(backbone, recipe.cl_splits, side, recipe.balance, batch=stage.batch_size):
            head = make_head(stage.head, part.shape, 2, convs=stage.head_convs)
            try:
                head.train()(torch.empty(batch, *part.shape))
            except (RuntimeError, ValueError) as error:
                size = "×".join(map(str, part.shape))
                what = f"{stage.head} cannot take {batch} of {size} features after b{part.stop} ({str(error)[:120]})"
                hint = "take another head, or give a larger --pretrain-imgsz or --pretrain-batch-size"
                raise UserError(what, where="--pretrain-head", hint=hint) from None


def detects(recipe: Recipe) -> bool:
    """Whether a detector is to be trained. YOLOv3 is not where pre-training is all that the backbone allows.

    Raises:
        UserError: one that takes a single size is to be trained at several.
    """
    entry = DETECTORS[recipe.detector]
    if follows(recipe) != "detector":
        return False
    if entry.one_size and recipe.multi_scale:
        what = f"{recipe.detector} takes images of one size only"
        raise UserError(what, where="--multi-scale", hint="leave it out, or take another --detector")
    may_end_before = recipe.detector == Recipe.model_fields["detector"].default and recipe.pretrains
    return not may_end_before or bool(taps_of(recipe.backbone, recipe.width))


def follows(recipe: Recipe, taps: Sequence[int] | None = None) -> str | None:
    """What a recipe trains after the backbone: `detector`, `segmenter` or nothing.

    Args:
        taps: blocks of the backbone at strides 8, 16 and 32; a detector that reads them does not follow where there
            are none. None: not looked at.
    """
    if recipe.pretrain_only:
        return None
    if recipe.task == "segment":
        return "segmenter"
    tapless = taps is not None and not taps
    return None if tapless and DETECTORS[recipe.detector].tapped else "detector"


@lru_cache(maxsize=64)
def taps_of(name: str, width: float) -> tuple[int, ...]:
    """Blocks of a backbone at strides 8, 16 and 32."""
    import torch

    with torch.device("meta"):
        return make_backbone(name, width).taps


@lru_cache(maxsize=64)
def why_not(name: str, width: float, side: int, batch: int, detector: str | None) -> str | None:
    """Why a backbone, or a detector on it, cannot take images [batch, 3, side, side]; None where it can.

    Raises:
        UserError: the detector cannot be made on this backbone at this size.
    """
    import torch  # the command lines' help needs none of this

    with torch.device("meta"):  # shapes, and no arithmetic
        backbone, x = make_backbone(name, width).train(), torch.empty(batch, 3, side, side)
        steps = {f"b{number}": block for number, block in enumerate(backbone.blocks, start=1)}
        for place, step in steps.items():
            try:
                with shapes_only(step):
                    x = step(x)
            except (RuntimeError, ValueError, AssertionError) as error:
                return f"{place}: {str(error)[:120]}"
        try:
            if detector:
                network = DETECTORS[detector].network(backbone, Settings(1, side)).train()
                with shapes_only(network):
                    network(torch.empty(batch, 3, side, side))
        except (RuntimeError, ValueError) as error:
            return f"the detector: {str(error)[:120]}"
    return None
