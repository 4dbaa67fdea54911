"""Sensitivity maps: how much a network's output changes with each pixel, from one backward pass.

"Interpreting Deep Neural Network: Fast Object Localization via Sensitivity Analysis" (under review at ICLR 2019), §2.
"""

from typing import Literal

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


def aggregated(gradient: Tensor, aggregate: Aggregate) -> Tensor:
    """[B, H, W] of a gradient [B, 3, H, W]: the largest or the mean absolute value of its channels."""
    own = gradient.abs()
    return own.amax(1) if aggregate == "max" else own.mean(1)
