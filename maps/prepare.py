"""From what a user asks for to the plan of a study: images, boxes, the percentile; and what cannot be compared."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from data.formats import read_split, read_training
from data.objects import BACKGROUND
from data.parsing import class_index
from data.records import Record, Split
from data.seen import unseen
from evaluation.accuracy import BackboneFile, line_names, same_pictures, trained_as
from maps.binary import PERCENTILES
from maps.cases import boxed
from maps.cells import largest_cell, layer_cells
from maps.granulometry import radii_for
from maps.kept import Kept
from maps.kinds import MAPS
from maps.localise import SEED, columns_of, fill
from maps.measures import Rule, sweep
from maps.networks import trained_networks
from maps.overlap import furthest_above_chance
from maps.plan import Plan
from maps.seen import Seen, explained_images, seen_by
from models.heads import HEADS
from utils.errors import UserError

TRAINING_IMAGES = 4000  # behind the mean box, and behind boxes from frozen features
TUNED_ON = 500  # images that the percentile is chosen on
NO_MEAN_BOX = "No training image with boxes beside those that are explained: there is no mean box to compare with"


def prepare(
    files: Sequence[BackboneFile],
    split: Split,
    *,
    kinds: Sequence[str] = ("gradcam", "saliency"),
    percentile: int | None = 80,
    explain: str | None = None,
    targets: Sequence[str] = (),
    lime: int = 0,
    images: int | None = None,
    stretched: bool = False,
    untrained: int = 3,
    tuned: bool = False,
    keep: Path | None = None,
    dry: bool = False,
    device: str = "cpu",
    batch_size: int = 16,
) -> Plan:
    """Settle what a study explains.

    Args:
        split: as the networks are shown it: pictures, or objects cut out.
        percentile: above which pixels count; None: chosen on held-out images.
        explain: the class that is explained in every image; None: those of the boxes.
        targets: only boxes of these classes count; () for all.
        images: draw so many of the images with boxes; None for all.
        stretched: stretch maps over the image instead of putting them where their cells are.
        untrained: networks of each architecture that learnt nothing, to be explained beside the others.
        tuned: thresholds will be chosen, on held-out images if there are any.
        keep: a folder where measured values are kept, and read the next time.
        dry: nothing will be explained: the percentile is not chosen.

    Raises:
        UserError: the files want images of different sizes or cannot give these maps, or maps with a
            place in the image; no image has a box; no such class; nothing is held out to choose the percentile on.
    """
    same_view(files)
    same_pictures(files, split.description)
    check_kinds(files, kinds)
    cells = layer_cells(files, stretched=stretched)
    own = split.description
    aims = [class_index(name, own.names, "--targets") for name in targets] or things(own.names)
    label = None if explain is None else class_index(explain, files[0].names, "--explain")
    shown = partial(as_shown, files[0])
    known, notes = explained_images(replace(split, records=boxed(aimed_at(split, aims))), seen := seen_by(files))
    check_targets(few := replace(split, records=sample(known, images)), aims if targets else ())
    plan = Plan(
        files, few, tuple(dict.fromkeys(kinds)), Rule(percentile or 80), label, lime, (), device, batch_size, stretched,
        notes, cells, untrained, whole=sample(unseen(split, seen.numbers)[0].records, images), kept=Kept.at(keep),
    )  # fmt: skip
    cell = largest_cell((own, plan.coarse(structure)) for structure, own in cells.items())
    plan = replace(plan, rule=replace(plan.rule, radii=radii_for(files[0].imgsz, cell)))
    if split.name != "train" and "train" in own.splits:
        plan = replace(plan, pool=aimed_at(shown(read_training(own, split.name)), aims).records)
    if tuned or percentile is None:
        held = held_out(few, lambda own: aimed_at(shown(own), aims), seen)
        plan = with_thresholds(plan, *held, percentile=percentile is None, tuned=tuned, dry=dry)
    plan = replace(plan, training=learning(plan, TRAINING_IMAGES))
    return plan if plan.training else replace(plan, notes=(*plan.notes, NO_MEAN_BOX))


def labelled(plan: Plan, images: int) -> list[Record]:
    """So many of the training images whose classes are learnt: those with boxes if there are any; all of them for 0."""
    boxed = learning(plan, images) if images else []
    return boxed or sample(list(plan.pool), images or None)


def learning(plan: Plan, images: int) -> list[Record]:
    """So many of the training images that have boxes, drawn at random; all of them for 0."""
    return sample([record for record in plan.pool if record.asked.any()], images or None)


def check_targets(split: Split, aims: Sequence[int]) -> None:
    """Refuse classes of which there is nothing to find.

    Raises:
        UserError: one has no box in the images that are explained.
    """
    own = split.description
    there = np.concatenate([record.labels[record.asked] for record in split.records])
    if absent := [own.names[label] for label in aims if label not in there]:
        what = f"no box of {', '.join(absent)} in the {len(split.records)} images of `{split.name}` that are explained"
        raise UserError(what, where="--targets", hint=f"leave it out, or correct the boxes of {own.yaml.name}")


def as_shown(file: BackboneFile, split: Split) -> Split:
    """Pictures of a data set as a network is shown them."""
    return file.view.shown(split)[0]


def things(names: Sequence[str]) -> list[int]:
    """The classes that are no background, where there is one; () of all."""
    return [index for index, name in enumerate(names) if name != BACKGROUND] if BACKGROUND in names else []


def aimed_at(split: Split, labels: Sequence[int]) -> Split:
    """The images with the boxes of some classes only, but all of their classes; no class means all."""
    if not labels:
        return split
    kept = [np.isin(record.labels, labels) for record in split.records]
    records = [
        replace(
            record,
            boxes_xyxy=record.boxes_xyxy[own],
            labels=record.labels[own],
            difficult=record.difficult[own],
            classes=np.unique(record.stated),
            crowd=None if record.crowd is None else record.crowd[own],
            areas=None,
        )
        for record, own in zip(split.records, kept, strict=True)
    ]
    return replace(split, records=records)


def sample(records: list[Record], count: int | None) -> list[Record]:
    """Some of the images at random, in their order; the same ones in every run."""
    if count is None or count >= len(records):
        return records
    drawn = np.sort(np.random.default_rng(SEED).permutation(len(records))[:count])
    return [records[index] for index in drawn]


def same_view(files: Sequence[BackboneFile]) -> None:
    """Refuse files that want their images in different ways: their pixels could not be compared.

    Raises:
        UserError: two do.
    """
    for file in files[1:]:
        if file.view != files[0].view:
            what = f"learnt from {file.view.about}, but {files[0].view.about} in {files[0].path}"
            raise UserError(what, where=file.path, hint="compare files of one --pretrain-source and --pretrain-imgsz")


def check_kinds(files: Sequence[BackboneFile], kinds: Sequence[str]) -> None:
    """Refuse unknown kinds of maps, and CAM where a classifier is more than a pool and a linear layer.

    Raises:
        UserError: one is.
    """
    for kind in map(MAPS.pick, kinds):
        for file in files:
            if kind.mapped and not HEADS.pick(file.head).mapped:
                hint = f"leave {kind.name} out of --maps, or pre-train with --pretrain-head gap"
                what = f"has `{file.head}` heads, which {kind.title} cannot explain"
                raise UserError(what, where=file.path, hint=hint)


def choose_percentile(plan: Plan, records: Sequence[Record]) -> int:
    """The percentile at which the end-to-end networks' Grad-CAMs are furthest above chance on images kept for this.

    Each network counts the same, however many of its cuts are judged. Cascaded networks have no say in it, nor have
    layers that are too coarse: what suits them would favour them.
    """
    named = zip(plan.files, line_names(plan.files), strict=True)
    files = [file for file, line in named if not trained_as(line).startswith("cl")] or list(plan.files)
    asked = replace(plan, files=files, kinds=("gradcam",))
    columns = [column for own in trained_networks(asked) for column in columns_of(asked, own)]
    _, shares = fill(columns, asked.cases(records, "percentile"), plan.rule, sweep, plan.kept)
    means = {p: float(np.mean([column.judged(f"iou_{p}").mean() for column in columns])) for p in PERCENTILES}
    return furthest_above_chance(means, shares)


def with_thresholds(plan: Plan, name: str, records: list[Record], *, percentile: bool, tuned: bool, dry: bool) -> Plan:
    """The plan with what is chosen on images of a split of that name, as `held_out` gives them."""
    plan = with_percentile(plan, name, records, dry=dry) if percentile else plan
    return with_tuning(plan, name, records) if tuned else plan


def with_tuning(plan: Plan, name: str, records: list[Record]) -> Plan:
    """The plan with images, of a split of that name, on which thresholds are chosen; without where there are none.

    Nothing is learnt from these: they are taken out of the training images, half of them at most.
    """
    if not records:
        what = "No other image is left that no network has learnt from: a threshold is chosen on training images"
        return replace(plan, notes=(*plan.notes, what))
    most = min(TRAINING_IMAGES, max(1, len(plan.pool) // 2)) if name == "train" else TRAINING_IMAGES
    own = sample(records, most)
    held = {record.image for record in own}
    what = f"Thresholds are chosen on at most {len(held)} images of `{name}` that no network has learnt from"
    pool = [record for record in plan.pool if record.image not in held]
    return replace(plan, tuning=own, pool=pool, notes=(*plan.notes, what))


def with_percentile(plan: Plan, name: str, records: list[Record], *, dry: bool) -> Plan:
    """The plan with a percentile chosen on images that no network has learnt from, or with its own where none is left.

    Args:
        name, records: split and images, as `held_out` gives them.
        dry: leave the choice, which explains them, out.

    Raises:
        UserError: the data set has no split beside the one that is explained.
    """
    if not name:
        what = f"there is nothing beside `{plan.split.name}` to choose the percentile on"
        raise UserError(what, where=plan.split.description.yaml, hint="give --percentile a number")
    if not records:
        what = f"No other image is left that no network has learnt from: the percentile {plan.rule.percentile} is used"
        return replace(plan, notes=(*plan.notes, what))
    if dry:
        return plan
    chosen = choose_percentile(plan, own := sample(records, TUNED_ON))
    count = len({record.image for record in own})
    what = f"The percentile {chosen} was chosen on {count} images of `{name}` that no network has learnt from"
    if chosen in (PERCENTILES[0], PERCENTILES[-1]):
        what += ", at the edge of what was tried: a better one may be beyond it"
    return replace(plan, rule=replace(plan.rule, percentile=chosen), notes=(*plan.notes, what))


def held_out(split: Split, shown: Callable[[Split], Split], seen: Seen) -> tuple[str, list[Record]]:
    """Images with boxes of val, or else of train, that no network has learnt from, and the name of their split.

    Args:
        shown: what the networks see of a split.

    Returns:
        An empty name where the data set has no split beside the one that is explained.
    """
    own = split.description
    names = [name for name in ("val", "train") if name in own.splits and name != split.name]
    explained = {record.image for record in split.records}
    for name in names:
        left = unseen(read_split(own, name), seen.numbers)[0]
        if not any(one.asked.any() for one in left.records):  # of which nothing can be cut out
            continue
        if found := [one for one in shown(left).records if one.asked.any() and one.image not in explained]:
            return name, found
    return next(iter(names), ""), []
