"""Part of a split held out from training, to validate on."""

from dataclasses import replace

import torch

from data.records import Split
from utils.errors import UserError
from utils.seed import mixed_seed

HOLDOUT_SEED = 0  # not the run's: every seed of a study keeps the same images apart
HOLDOUT_SHARE = 0.1


def hold_out(split: Split, share: float) -> tuple[Split, Split]:
    """The split without a random share of its images, and that share.

    Raises:
        UserError: nothing would be left on one of the sides.
    """
    count = len(split.records)
    held = round(count * share)
    if not 0 < held < count:
        raise UserError(f"holds out {held} of {count} images", where="--pretrain-holdout", mend="give another share")
    generator = torch.Generator().manual_seed(mixed_seed(HOLDOUT_SEED, count))
    apart = set(torch.randperm(count, generator=generator)[:held].tolist())
    kept = [record for index, record in enumerate(split.records) if index not in apart]
    validation = [split.records[index] for index in sorted(apart)]
    return replace(split, records=kept), replace(split, name=f"held out of {split.name}", records=validation)
