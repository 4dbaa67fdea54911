"""Seeds: of the process, and of a single draw."""

import hashlib
import random

import numpy as np
import torch


def mixed_seed(*parts: int) -> int:
    """A 63-bit seed from several numbers; neighbouring numbers give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_draws(seed: int, device: torch.device) -> None:
    """Seed what torch draws on the CPU and on this device.

    torch.manual_seed does so too, but notes a stack trace for every GPU library: a millisecond at each step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def seed_process(*parts: int) -> None:
    """Seed python, numpy and torch on every device."""
    seed = mixed_seed(*parts)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
