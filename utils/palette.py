"""Colours of classes in masks: those of Pascal VOC."""

from functools import cache

import numpy as np


@cache
def palette() -> np.ndarray:
    """[256, 3] uint8 RGB: the bits of a number, three by three, from the highest of each colour on (VOC's devkit)."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for channel in range(3):
        for place in range(8):
            bit = numbers >> (3 * place + channel) & 1
            colours[:, channel] |= (bit << (7 - place)).astype(np.uint8)
    return colours
