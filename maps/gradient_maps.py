"""Maps from gradients: Grad-CAM and its kin at every layer from one pass, and gradients by the pixels.

What is explained is the logit of a class of each image. Images are [B, 3, H, W], labels [B].
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import gaussian_blur

from maps.evidence import Evidence, signed
from maps.explained import Explained, Network

Rule = Callable[[Tensor, Tensor], Tensor]
"""Activations and gradients of a layer, both [B, C, h, w] → map [B, h, w], of which the positive part is evidence."""

STEPS = 50  # of integrated gradients, between black and the image
SAMPLES, NOISE = 50, 0.15  # of SmoothGrad, and its deviation as a fraction of the range of pixels
BATCH = 16  # images of a pass


def grad_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al., arXiv 1610.02391; Wang & Farrahi, arXiv 2311.12704, eq. 2–3: channels by mean gradient."""
    return (gradient.mean((2, 3), keepdim=True) * activations).sum(1)


def grad_cam_pp(activations: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al., arXiv 1710.11063, eq. 10 and 19), the weights as they are.

    α is g² / (2g² + Σa · g³), which is 1 / (2 + Σa · g). Libraries add 10⁻⁶ to its denominator: where gradients are
    not much larger than 10⁻³, as in large maps, theirs is another map.
    """
    total = activations.sum((2, 3), keepdim=True)
    weights = torch.where(gradient > 0, gradient / (2 + total * gradient), 0).sum((2, 3), keepdim=True)
    return (weights * activations).sum(1)


def hires_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """HiResCAM (Draelos & Carin, arXiv 2011.08891): each cell by its own gradient."""
    return (gradient * activations).sum(1)


def layer_cam(activations: Tensor, gradient: Tensor) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 30, 2021): each cell by its own gradient where that is positive."""
    return (gradient.relu() * activations).sum(1)


def by_rule(rule: Rule, network: Network, images: Tensor, labels: Tensor) -> list[Evidence]:
    """[B, h, w] at each layer, at the size of its activations, all from one pass."""
    size = images.shape[2:]
    return [network.evidence(rule(*own), layer, size) for layer, own in enumerate(network.by_layer(images, labels))]


grad_cams = partial(by_rule, grad_cam)


def saliencies(
    network: Network, images: Tensor, labels: Tensor, *, mean: bool = False, smooth: bool = False
) -> list[Evidence]:
    """Absolute gradients of the logit by the pixels (Simonyan et al., arXiv 1312.6034), of every classifier.

    Args:
        mean: over the channels, else their maximum.
        smooth: by a Gaussian of a sixty-fourth of the height, for pictures: the paper does so, how wide it leaves open.

    Returns:
        [B, H, W] of each.
    """
    found = [saliency(own, mean=mean) for own in network.by_image(images, labels)]
    return [Evidence(smoothed(own.maps)) for own in found] if smooth else found


def saliency(gradient: Tensor, *, mean: bool = False) -> Evidence:
    """The magnitude over the channels, largest or mean, of a gradient [B, 3, H, W]."""
    own = gradient.abs()
    return Evidence(own.mean(1) if mean else own.amax(1))


def smoothed(maps: Tensor) -> Tensor:
    """[B, H, W] blurred by a Gaussian of a sixty-fourth of the height, cut off at four sigma."""
    sigma = maps.shape[1] / 64
    return gaussian_blur(maps[:, None], [2 * round(4 * sigma) + 1] * 2, [sigma] * 2)[:, 0]


def integrated_gradients(network: Network, images: Tensor, labels: Tensor, *, steps: int = STEPS) -> list[Evidence]:
    """Integrated gradients from black (Sundararajan et al., arXiv 1703.01365), of every classifier.

    The integral is Gauss and Legendre's sum. A pixel's share is the sum over its channels; positive shares are evidence
    for the class.

    Returns:
        [B, H, W] of each, the raw ones summing up to the difference of the logit to that of black.
    """
    places, shares = np.polynomial.legendre.leggauss(steps)
    copies = ((images * ((place + 1) / 2), share / 2) for place, share in zip(places, shares, strict=True))
    return [signed((images * own).sum(1)) for own in mean_gradients(network, copies, labels)]


def smooth_grads(
    network: Network, images: Tensor, labels: Tensor, *, samples: int = SAMPLES, noise: float = NOISE
) -> list[Evidence]:
    """SmoothGrad (Smilkov et al., arXiv 1706.03825): saliency of the mean gradient under noise, of every classifier.

    The noise is the same for every image, and in every run.

    Args:
        samples: noisy images.
        noise: deviation, where pixels are in 0–1.

    Returns:
        [B, H, W] of each.
    """
    draw = torch.Generator().manual_seed(0)
    drawn = torch.randn(samples, *images.shape[1:], generator=draw) * noise
    copies = ((images + own.to(images), 1 / samples) for own in drawn)
    return [saliency(own) for own in mean_gradients(network, copies, labels)]


def mean_gradients(network: Network, copies: Iterator[tuple[Tensor, float]], labels: Tensor) -> list[Tensor]:
    """[B, 3, H, W] of each classifier: the weighted sum of gradients at copies of the images, some in one pass."""
    total: list[Tensor] = []
    for part in batched(copies, max(1, BATCH // len(labels))):
        found = network.by_image(torch.cat([own for own, _ in part]), labels.repeat(len(part)))
        shares = torch.tensor([share for _, share in part]).to(found[0])
        sums = [torch.einsum("n,nbchw->bchw", shares, own.unflatten(0, (len(part), -1))) for own in found]
        total = [one + other for one, other in zip(total, sums, strict=True)] if total else sums
    return total


def batched(copies: Iterator[tuple[Tensor, float]], size: int) -> Iterator[list[tuple[Tensor, float]]]:
    """So many at a time."""
    part: list[tuple[Tensor, float]] = []
    for own in copies:
        part.append(own)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def cams(network: Explained, images: Tensor, labels: Tensor) -> list[Evidence]:
    """Class activation maps (Zhou et al., arXiv 1512.04150), where heads end in a global pool and a linear layer.

    Raises:
        ValueError: a head does not.
    """
    found = []
    with torch.no_grad():
        for layer, own in enumerate(network.features(images)):
            head = network.heads[layer]
            if not is_mapped(head):
                raise ValueError("CAM wants classifiers of a global pool and a linear layer (gap, gmp …)")
            *before, _, _, linear = head.children()
            features = nn.Sequential(*before)(own)
            weights: Tensor = linear.weight[labels]  # type: ignore[index, assignment]
            raw = torch.einsum("bc,bchw->bhw", weights, features)
            found.append(network.evidence(raw, layer, images.shape[2:], pooled=True))
    return found


def is_mapped(head: nn.Module) -> bool:
    """Whether a classifier ends in a global pool and one linear layer, so that each class has a map."""
    steps = list(head.children())[-3:]
    kinds = [type(step) for step in steps]
    pools = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)
    return (
        len(steps) == 3
        and kinds[0] in pools
        and kinds[1:] == [nn.Flatten, nn.Linear]
        and steps[0].output_size in (1, (1, 1))
    )
