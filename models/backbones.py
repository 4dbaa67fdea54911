"""Backbones by name; a new one takes a file and a line here.

A backbone has `blocks` (modules that run one after another, each a legal place to cut), `channels` (output
channels of each block), `stages` (blocks at each resolution) and `taps` (1-based blocks at strides 8, 16, 32).
"""

from collections.abc import Callable

from models.darknet import DarkNet, DarkNetConfig

BACKBONES: dict[str, Callable[[float], DarkNet]] = {"darknet53": lambda width: DarkNet(DarkNetConfig(width=width))}


def make_backbone(name: str, width: float = 1.0) -> DarkNet:
    """A freshly initialised backbone, one of BACKBONES."""
    return BACKBONES[name](width)
