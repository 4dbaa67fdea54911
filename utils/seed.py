"""Seeds: of the process, and of a single draw."""

import hashlib
import random

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers; neighbouring numbers give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_process(*parts: int) -> None:
    """Seed python, numpy and torch on every device."""
    seed = mixed_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
