"""What a run reads: the images of the detector, what the backbone learns from, and which images these share."""

from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from data.description import load_description
from data.doubles import in_both, in_two_splits
from data.formats import read_split
from data.holdout import HOLDOUT_SHARE, hold_out
from data.image_cache import keep_images
from data.masks import with_masks
from data.objects import all_alike, said_by_border
from data.records import Description, Notice, Split
from data.views import View, settled
from training.check import follows
from utils.config import Recipe
from utils.console import console
from utils.errors import UserError

CACHE = Path("cache")  # below the run folder, for as long as it trains
IMAGES = CACHE / "images"
Pair = tuple[Split, Split]  # training and validation split


def read_pair(yaml: Path, recipe: Recipe, *, download: bool, masked: bool = False) -> Pair:
    """Training and validation split of a data set; the latter held out of the former where it has none.

    Args:
        masked: pictures come with masks, those without are left out.
    """

    def read(description: Description, name: str) -> Split:
        found = read_split(description, name, strict=recipe.strict)
        return with_masks(found, strict=recipe.strict) if masked else found

    description = load_description(yaml, download=download)
    own = read(description, "train")
    if "val" in description.splits:
        return own, read(own.description, "val")  # with the levels of train
    return hold_out(own, recipe.pretrain.holdout or HOLDOUT_SHARE)


def masked(recipe: Recipe) -> bool:
    """Whether what is trained on the backbone learns from masks."""
    return follows(recipe) == "segmenter"


def read_pairs(recipe: Recipe, *, download: bool) -> tuple[Pair, Pair]:
    """What the run learns from, and what the backbone does: the same where the recipe names no other data."""
    detector = read_pair(recipe.data, recipe, download=download, masked=masked(recipe))
    if not recipe.pretrains or recipe.pretrain.data is None:
        return detector, detector
    return detector, read_pair(recipe.pretrain.data, recipe, download=download)


def settle_source(recipe: Recipe, pairs: tuple[Pair, Pair]) -> Recipe:
    """The recipe with the source of pre-training that suits the data, where that is open; says why not objects."""
    if not recipe.pretrains:
        return recipe
    recipe, why = settled(recipe, parted(recipe, pairs[1]))
    if why:
        console.print(why)
    return recipe


def announce(pairs: tuple[Pair, Pair]) -> None:
    """Print what is in the splits, and which images they share, within a data set and between two."""
    detector, backbone = pairs
    judged = judging(detector)
    if backbone is detector:
        lines = [split.summary() for split in detector]
    else:
        lines = [f"{split.description.yaml.name} {split.summary()}" for split in (*backbone, *detector)]
        lines += in_two_splits(backbone) + groups_in_two(backbone) + shared(backbone, judged)
    lines += in_two_splits(judged) + groups_in_two(judged)
    for line in lines:
        console.print(line)


def judging(detector: Pair) -> list[Split]:
    """The splits of the detector's data, with the one that figures are reported on; says where that cannot be read."""
    description = detector[0].description
    if "test" not in description.splits:
        return [*detector]
    try:
        return [*detector, read_split(description, "test")]
    except UserError as error:
        console.print(f"whether pictures of `test` are learnt from is not known: {error}")
        return [*detector]


def groups_in_two(splits: Sequence[Split]) -> list[str]:
    """A line for each two splits of a data set that have patients, or other groups, in common."""
    lines = []
    for one, other in combinations(splits, 2):
        mine, theirs = ({own.group for own in split.records if own.group} for split in (one, other))
        if found := sorted(mine & theirs):
            what = f"groups of `{one.name}` (such as patients) are in `{other.name}` too"
            lines.append(Notice(what, found, "the figures would be too good").line())
    return lines


def shared(learnt_from: Iterable[Split], others: Iterable[Split]) -> list[str]:
    """A line for each two splits that have images in common, byte for byte."""
    lines = []
    for own in learnt_from:
        for other in others:
            if found := in_both(own, other):
                harmless = own.name != "train" or other.name == "train"
                doubt = "" if harmless else "the backbone may have learnt what the detector is judged on"
                place, elsewhere = (f"`{split.name}` of {split.description.yaml.name}" for split in (own, other))
                what = f"pictures of {place} are in {elsewhere} too, byte for byte"
                lines.append(Notice(what, [str(path) for path in found], doubt).line())
    return lines


def with_pixels(pair: Pair, fabric: Any, recipe: Recipe, folder: Path) -> Pair:
    """The splits with their pixels at hand, as the recipe says.

    Raises:
        UserError: there is no room, or several processes ask for a copy each.
    """
    assert recipe.cache_images != "off"
    if recipe.cache_images == "ram" and fabric.world_size > 1:
        raise UserError("several processes cannot share it", where="--cache-images ram", hint="use disk")
    with fabric.rank_zero_first(local=True):
        train, val = (keep_images(split, recipe.cache_images, folder / split.name) for split in pair)
    return train, val


def parted(recipe: Recipe, pair: Pair) -> Pair:
    """Whole pictures that the backbone learns from, and those that it is judged on.

    Where validation decides when to stop, it is on images held out from training: the data's own validation split
    stays unseen. A data set without one has had its part held out already.

    Raises:
        UserError: nothing is left on one of the sides.
    """
    train, _ = pair
    if "val" not in train.description.splits:
        return pair
    share = recipe.stage.holdout
    if share is None and recipe.stage.patience is not None:
        share = HOLDOUT_SHARE
    return hold_out(train, share) if share else pair


def refuse_classless(train: Split) -> None:
    """Refuse pictures to learn from of which none has a class.

    Raises:
        UserError: none has.
    """
    if not any(len(record.stated) for record in train.records):
        what = f"none of the {len(train.records)} images of `{train.name}` has a class: there is nothing to learn"
        raise UserError(
            what, where=train.description.yaml, hint="`python -m data.check` names what is wrong with the labels"
        )


def lessons(recipe: Recipe, pair: Pair) -> tuple[Pair, list[str]]:
    """What the backbone learns from and what it is judged on: whole pictures, or objects cut out; lines about these.

    Images are parted before objects are cut out: those of one image are never on both sides.

    Raises:
        UserError: nothing is left on one of the sides, or no object can be cut out.
    """
    train, val = own = parted(recipe, pair)
    twice = [] if own is pair else in_two_splits(own)
    view = View.of(recipe.stage)
    if view.source == "pictures":
        refuse_classless(train)
        return own, twice
    (train, one), (val, other) = view.shown(train), view.shown(val)
    name = f"{recipe.pretrain.data.name} " if recipe.pretrain.data else ""
    further = (said_by_border(val, view.context), all_alike(train))
    return (train, val), [*twice, name + one, name + other, *filter(None, further)]
