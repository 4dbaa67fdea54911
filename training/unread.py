"""What a recipe says in vain: a line for each kind of run that does not look at what it sets."""

from collections.abc import Sequence

from models.detectors import DETECTORS
from models.heads import HEADS
from utils.config import AUGMENTS, Augment, Loss, Phase, Pretrain, Recipe
from utils.flags import spelling


def unread(recipe: Recipe) -> list[str]:
    """A line on what the recipe says and the detector, or the segmenter, does not look at."""
    segments = recipe.task == "segment"
    keys: list[str] = []
    if segments or not DETECTORS[recipe.detector].anchored:
        keys = [*(f"loss.{key}" for key in Loss.model_fields), "anchors"]
    keys += ["detector", "multi_scale", "augment.mosaic", "augment.mixup", "augment.closing"] if segments else ["fcn"]
    lines = passed_over(recipe, keys, "a segmenter" if segments else recipe.detector)
    if not segments and recipe.multi_scale and len(recipe.sides) == 1:
        lines.append(f"--multi-scale {recipe.multi_scale:g} of {recipe.imgsz} px reaches no other multiple of 32")
    return lines + uneven(recipe.train, "train.nominal_batch")


def unread_before(recipe: Recipe) -> list[str]:
    """A line on what the recipe says and pre-training, whose source is settled, does not look at."""
    if not recipe.pretrains:
        keys = [f"pretrain.{key}" for key in Pretrain.model_fields if key != "holdout"]  # data without val look at it
        others = ["cache", "cache_views", "baseline_heads", "balance", "recompute"]
        taken = [] if recipe.weights or recipe.init else ["reuse_upto"]
        taken += ["cl_splits"] if recipe.weights else []
        return passed_over(recipe, keys + others + taken, "a run without pre-training")
    source = recipe.pretrain.source
    keys = ["crop", "view", "crop_labels"] if source == "objects" else ["context", "jitter"]
    lines = passed_over(recipe, [f"pretrain.{key}" for key in keys], f"pre-training on {source}")
    if not recipe.caching:
        lines += passed_over(
            recipe, ["cache", "cache_views"], "a run in which no stage and no classifier could read cached features"
        )
    elif not recipe.augments:
        lines += passed_over(recipe, ["cache_views"], "a run without augmentation, where all views are the same,")
    if not recipe.baselines:
        lines += passed_over(recipe, ["baseline_heads"], "a run without baselines")
    if recipe.pretrain_only:
        lines += passed_over(recipe, of_the_detector(recipe), "a run without a detector")
    if recipe.init_freeze:
        keys = [f"pretrain.{key}" for key in ("epochs_step", "clip", "stop_accuracy", "bn_mode", "auxiliary")]
        lines += passed_over(recipe, keys, "a run of classifiers on fixed weights")
        if fixed := [layer for layer in recipe.pretrain.rates if layer.partition(".")[0] != "head"]:
            lines.append(f"a run of classifiers on fixed weights has no rate for {', '.join(fixed)}")
    if HEADS.pick(recipe.pretrain.head).name != "author":
        lines += passed_over(recipe, ["pretrain.head_convs"], f"the head {recipe.pretrain.head}")
    return lines + uneven(recipe.pretrain, "pretrain.nominal_batch")


def uneven(phase: Phase, key: str) -> list[str]:
    """A line where an update cannot be of as many images as it is to be: it is of whole batches."""
    wanted, batch = phase.nominal_batch or 0, phase.batch_size
    if not wanted or wanted == phase.batches * batch:
        return []
    return [f"{spelling()[key]} {wanted}: an update is of {phase.batches * batch} images, whole batches of {batch}"]


def of_the_detector(recipe: Recipe) -> list[str]:
    """Keys that only what is trained on the backbone looks at; pre-training takes its epochs where it has none."""
    phase = [key for key in Phase.model_fields if key != "epochs" or recipe.pretrain.epochs]
    changes = [key for key in Augment.model_fields if key not in AUGMENTS]
    sections = {"train": phase, "loss": list(Loss.model_fields), "augment": changes}
    keys = ["task", "detector", "fcn", "reuse_upto", "freeze", "multi_scale", "anchors", "compile"]
    return keys + [f"{section}.{key}" for section, own in sections.items() for key in own]


def passed_over(recipe: Recipe, keys: Sequence[str], who: str) -> list[str]:
    """A line that names the flags of those keys that a recipe sets and that have no effect; none where it sets none."""
    flags = [spelling()[key] for key in keys if changed(recipe, key)]
    return [f"{who} does not look at {', '.join(flags)}"] if flags else []


def changed(recipe: Recipe, key: str) -> bool:
    """Whether a key, `section.key` where it is in a section, has another value than its default."""
    section, _, name = key.rpartition(".")
    own = getattr(recipe, section) if section else recipe
    return bool(getattr(own, name) != type(own).model_fields[name].default)
