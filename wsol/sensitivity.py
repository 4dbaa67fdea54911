"""Sensitivity maps: how much a network's output changes with each pixel, from one backward pass.

"Interpreting Deep Neural Network: Fast Object Localization via Sensitivity Analysis" (under review at ICLR 2019), §2.
"""

from collections.abc import Callable
from itertools import product
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from maps.kinds import Explained, chosen

Aggregate = Literal["max", "mean"]


def class_sensitivity(
    network: Explained, images: Tensor, labels: Tensor | None = None, aggregate: Aggregate = "mean"
) -> Tensor:
    """[B, H, W] absolute gradient of each image's logit of a class by its pixels (§2.1), by the last classifier.

    Args:
        images: [B, 3, H, W] in 0–1.
        labels: [B] class of each; None: the one that it is held for.
        aggregate: over the colour channels (§2.3): max, as the paper did on Pascal VOC, or mean, as on ImageNet.
    """
    pixels = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(pixels)[-1]
        score = chosen(logits, logits.argmax(1) if labels is None else labels)
    return aggregated(torch.autograd.grad(score, pixels)[0], aggregate)


def attention_sensitivity(network: Explained, images: Tensor, aggregate: Aggregate = "max") -> Tensor:
    """[B, H, W] absolute gradient of the sum over all units of the last convolution by the pixels (§2.2).

    It asks for no class: what the last features react to, whatever they mean. The units are taken behind their
    non-linearity and before the pool. Why their sum: the paper took TensorFlow's gradient of the layer, which is
    that of its sum.
    """
    pixels = images.detach().requires_grad_()
    with torch.enable_grad():
        score = network.activations(pixels)[-1].sum()
    return aggregated(torch.autograd.grad(score, pixels)[0], aggregate)


def finite_differences(
    function: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    *,
    cell: int = 1,
    step: float = 0.01,
    aggregate: Aggregate = "mean",
) -> np.ndarray:
    """[B, H, W] absolute central differences of a function by squares of pixels: for any black box (§4 of the paper).

    Where the function is smooth and a cell is one pixel, this comes close to the gradient. Of larger cells it is the
    mean of the gradient in each. It takes two calls for each cell and channel.

    Args:
        function: images [B, C, H, W] → [B] numbers, such as the score of a class.
        images: [B, C, H, W] in 0–1.
        cell: side of the squares that are changed together, in pixels.
        step: by which a pixel is made lighter and darker; images may leave 0–1 by as much.

    Raises:
        ValueError: the function does not give a finite number for each image.
    """
    batch, channels, height, width = images.shape
    found = np.zeros(images.shape)
    for channel, top, left in product(range(channels), range(0, height, cell), range(0, width, cell)):
        square = np.s_[:, channel, top : top + cell, left : left + cell]
        pixels = images[square][0].size
        ends = []
        for sign in (step, -step):
            changed = images.copy()
            changed[square] += sign
            ends.append(np.asarray(function(changed), float))
        apart = (ends[0] - ends[1]) / (2 * step * pixels)
        if apart.shape != (batch,) or not np.isfinite(apart).all():
            raise ValueError(f"the function gives {apart.shape} or numbers that are not finite, for {batch} images")
        found[square] = apart[:, None, None]
    own = np.abs(found)
    return np.asarray(own.max(1) if aggregate == "max" else own.mean(1))


def aggregated(gradient: Tensor, aggregate: Aggregate) -> Tensor:
    """[B, H, W] of a gradient [B, 3, H, W]: the largest or the mean absolute value of its channels."""
    own = gradient.abs()
    return own.amax(1) if aggregate == "max" else own.mean(1)
