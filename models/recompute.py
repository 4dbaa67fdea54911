"""Running blocks with few activations kept: the rest is computed again in the backward pass.

Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.layers import Steps


def run_recomputed(blocks: nn.Sequential, x: Tensor) -> Tensor:
    """blocks(x); keeps only what goes in at each block, and at each of its steps where it consists of Steps."""
    for block in blocks:
        for step in block if isinstance(block, Steps) else (block,):
            x = checkpoint(step, x, use_reentrant=False, context_fn=partial(contexts, step))
    return x


def contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What the first pass through module and its repetition run in."""
    return nullcontext(), buffers_set_aside(module)


@contextmanager
def buffers_set_aside(module: nn.Module) -> Iterator[None]:
    """What runs here changes copies of the buffers: BatchNorm must not count the same batch a second time."""
    buffers = [(part, name, own) for part in module.modules() for name, own in part.named_buffers(recurse=False)]
    for part, name, own in buffers:
        setattr(part, name, own.clone())
    try:
        yield
    finally:
        for part, name, own in buffers:
            setattr(part, name, own)
