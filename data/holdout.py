"""Part of a split held out from training, to validate on."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import torch

from data.records import Notice, Record, Split
from utils.errors import UserError
from utils.seed import mixed_seed

HOLDOUT_SEED = 0  # not the run's: every seed of a study keeps the same images apart
HOLDOUT_SHARE = 0.1


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """The split without a random fraction of its images, and that fraction; groups stay whole.

    A group that is more than twice as large as what is still wanted is passed over: without it the fraction is closer
    to what was asked for. Where all groups are, the smallest one is held out.

    Raises:
        UserError: nothing would be left on one of the sides.
    """
    count, apart = len(split.records), set[int]()
    groups = shuffled_groups(split.records)
    for members in groups:
        wanted = round(count * share) - len(apart)
        if len(members) <= 2 * wanted:
            apart |= set(members)
    if not apart and round(count * share):
        smallest = min(groups, key=len)
        apart |= set(smallest)
    if not 0 < len(apart) < count:
        what = f"holds out {len(apart)} of {count} images"
        raise UserError(what, where="--pretrain-holdout", hint="give another share, or a `val:` in the data yaml")
    kept = [record for index, record in enumerate(split.records) if index not in apart]
    validation = [split.records[index] for index in sorted(apart)]
    name = f"held out of {split.name}"
    held = replace(split, name=name, records=validation, problems=[], notices=[], of=split.listed)
    return replace(split, records=kept), held


def share_out(everything: Split, shares: Mapping[str, float]) -> Split:
    """Of all images, those of the split that `everything` is named after; groups stay whole.

    The shares follow each other in one random order, always the same for as many images. Problems and
    notices are of all images: the first split has them, the others say so.

    Raises:
        UserError: the share is less than an image.
    """
    groups, count = shuffled_groups(everything.records), len(everything.records)
    ends = [round(count * end) for end in accumulate(shares.values(), initial=0.0)]
    number = list(shares).index(everything.name)
    middles = (stop - len(own) / 2 for stop, own in zip(accumulate(map(len, groups)), groups, strict=True))
    inside = [own for middle, own in zip(middles, groups, strict=True) if ends[number] <= middle < ends[number + 1]]
    chosen = sorted(index for own in inside for index in own)
    if not chosen and count:
        what = f"{shares[everything.name]:g} of {count} images for `{everything.name}` is none"
        raise UserError(what, where=everything.description.yaml, hint="give it a larger share, or add images")
    records = [everything.records[index] for index in chosen]
    if number == 0:
        return replace(everything, records=records)
    places = [own.where for own in everything.problems] + [at for own in everything.notices for at in own.places]
    notice = Notice(f"remarks on the images of all splits are with `{next(iter(shares))}`", places)
    return replace(everything, records=records, problems=[], notices=[notice] if places else [])


def shuffled_groups(records: list[Record]) -> list[list[int]]:
    """Indices of the images of each group, or of each image that has none, in a random order of the groups."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[record.group or index].append(index)
    generator = torch.Generator().manual_seed(mixed_seed(HOLDOUT_SEED, len(records)))
    members = list(groups.values())
    return [members[number] for number in torch.randperm(len(members), generator=generator).tolist()]
