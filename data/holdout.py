"""Part of a split held out from training, to validate on."""

from collections import defaultdict
from dataclasses import replace

import torch

from data.records import Split
from utils.errors import UserError
from utils.seed import mixed_seed

HOLDOUT_SEED = 0  # not the run's: every seed of a study keeps the same images apart
HOLDOUT_SHARE = 0.1


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """The split without a random share of its images, and that share; groups stay whole.

    Raises:
        UserError: nothing would be left on one of the sides.
    """
    count, groups = len(split.records), defaultdict(list)
    for index, record in enumerate(split.records):
        groups[record.group or index].append(index)
    generator = torch.Generator().manual_seed(mixed_seed(HOLDOUT_SEED, count))
    members, apart = list(groups.values()), set[int]()
    for number in torch.randperm(len(members), generator=generator).tolist():
        if len(apart) < round(count * share):
            apart |= set(members[number])
    if not 0 < len(apart) < count:
        what = f"holds out {len(apart)} of {count} images"
        raise UserError(what, where="--pretrain-holdout", mend="give another share, or a `val:` in the data yaml")
    kept = [record for index, record in enumerate(split.records) if index not in apart]
    validation = [split.records[index] for index in sorted(apart)]
    held = replace(split, name=f"held out of {split.name}", records=validation, problems=[])
    return replace(split, records=kept), held
