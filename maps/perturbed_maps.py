"""Maps from what a network says of changed images: occlusion, RISE, Score-CAM.

Where the changes do not depend on the layer, the same images go through all classifiers at once. Images are
[B, 3, H, W] in 0–1, labels [B].
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from maps.evidence import Evidence, signed
from maps.explained import Network, scores

BATCH = 16  # images of a pass
WINDOW = 1 / 8  # of the side that is covered; the next window is half of it further on
GREY = 0.5
MASKS, GRID, SHOWN = 1000, 7, 0.5  # of RISE, cells along a side, and how many of them show the image


def occlusions(
    network: Network, images: Tensor, labels: Tensor, *, window: int | None = None, stride: int | None = None
) -> list[Evidence]:
    """Occlusion (Zeiler & Fergus, arXiv 1311.2901): how much the logit falls when a grey square covers a pixel.

    Args:
        window, stride: of the square in pixels [an eighth of the shorter side, half of it].

    Returns:
        [B, H, W] of each classifier: the mean over the squares that cover a pixel.
    """
    side = window or max(1, round(min(images.shape[2:]) * WINDOW))
    masks = squares(images.shape[2], images.shape[3], side, stride or max(1, side // 2)).to(images.device)
    grey = torch.full_like(images[0], GREY)
    with torch.no_grad():
        whole = [scores(own, labels) for own in network(images)]
        covered = answers(network, images, labels, lambda image, own: torch.where(own, grey, image), masks)
        counts = masks.sum(0)
        return [signed(spread(one[:, None] - own, masks) / counts) for one, own in zip(whole, covered, strict=True)]


def squares(height: int, width: int, side: int, stride: int) -> Tensor:
    """[n, 1, H, W] bool: squares from the upper left on; the last ones reach out of the image."""
    tops, lefts = (torch.arange(-(-(own - side) // stride) + 1) * stride for own in (height, width))
    rows, columns = (
        (places[:, None] <= torch.arange(own)) & (torch.arange(own) < places[:, None] + side)
        for places, own in ((tops, height), (lefts, width))
    )
    return (rows[:, None, :, None] & columns[None, :, None]).reshape(-1, 1, height, width)


def rises(
    network: Network, images: Tensor, labels: Tensor, *, masks: int = MASKS, grid: int = GRID, shown: float = SHOWN
) -> list[Evidence]:
    """RISE (Petsiuk et al., arXiv 1806.07421, eq. 6): the mean probability of the class under masks that show a pixel.

    The masks are the same for every image and classifier, and in every run.

    Args:
        masks: how many; the paper takes 4,000 to 8,000.
        grid: cells along a side of a mask, before it is enlarged and shifted.
        shown: chance of a cell to show the image, the rest being black.

    Returns:
        [B, H, W] of each classifier.
    """
    drawn = soft_masks(images.shape[2], images.shape[3], masks, grid, shown).to(images)
    with torch.no_grad():
        found = answers(network, images, labels, torch.mul, drawn, probability=True)
    return [Evidence(spread(own, drawn) / (masks * shown)) for own in found]


def soft_masks(height: int, width: int, count: int, grid: int, shown: float, seed: int = 0) -> Tensor:
    """[n, 1, H, W] in 0–1: cells that show or hide, enlarged bilinearly and shifted by less than a cell (§3.2)."""
    draw = torch.Generator().manual_seed(seed)
    cells = (torch.rand(count, 1, grid, grid, generator=draw) < shown).float()
    tall, wide = (-(-own // grid) for own in (height, width))
    shifts = torch.stack([torch.randint(own, (count,), generator=draw) for own in (tall, wide)], 1).tolist()
    large = ((grid + 1) * tall, (grid + 1) * wide)
    found = torch.empty(count, 1, height, width)
    for own, cell, (down, right) in zip(found, cells, shifts, strict=True):
        own[:] = interpolate(cell[None], large, mode="bilinear")[0, :, down : down + height, right : right + width]
    return found


def answers(
    network: Network, images: Tensor, labels: Tensor, change: Callable[[Tensor, Tensor], Tensor], masks: Tensor,
    *, probability: bool = False,
) -> list[Tensor]:  # fmt: skip
    """[B, n] of each classifier: what it says of the class, logit or probability, of each image under each mask."""
    rows: list[list[Tensor]] = []
    for image, label in zip(images, labels, strict=True):
        parts = [
            network(change(image, own).contiguous(memory_format=torch.channels_last)) for own in masks.split(BATCH)
        ]
        rows.append([of_class(torch.cat(own), label, network, probability) for own in zip(*parts, strict=True)])
    return [torch.stack(own) for own in zip(*rows, strict=True)]


def of_class(logits: Tensor, label: Tensor, network: Network, probability: bool) -> Tensor:
    """[n] of logits [n, classes]."""
    if probability:
        logits = logits.softmax(1) if network.single_label else logits.sigmoid()
    return logits[:, label]


def spread(values: Tensor, masks: Tensor) -> Tensor:
    """[B, H, W] the sum of masks [n, 1, H, W], each times its value [B, n]."""
    return torch.einsum("bn,nhw->bhw", values, masks[:, 0].to(values))


def score_cams(network: Network, images: Tensor, labels: Tensor) -> list[Evidence]:
    """Score-CAM (Wang et al., arXiv 1910.01279): channels by the logit of the image seen through each of them.

    A layer's masks are its own channels: nothing can be shared among layers but the pass that makes them. Channels
    that are the same all over show black, and share one answer.

    Returns:
        [B, h, w] at each layer.
    """
    size = images.shape[2:]
    with torch.no_grad():
        found = []
        for layer, own in enumerate(network.activations(images)):
            rows = [
                channel_weights(network, layer, image, label, channels)
                for image, label, channels in zip(images, labels, own, strict=True)
            ]
            raw = torch.einsum("bc,bchw->bhw", torch.stack(rows), own)
            found.append(network.evidence(raw, layer, size))
        return found


def channel_weights(network: Network, layer: int, image: Tensor, label: Tensor, channels: Tensor) -> Tensor:
    """[C] that sum up to 1, of the channels [C, h, w] of an image [3, H, W]."""
    live = (channels.amax((1, 2)) > channels.amin((1, 2))).nonzero()[:, 0]
    seen = [network.logits_for(layer, own)[:, label] for own in through(network, layer, image, channels[live])]
    nothing = network.logits_for(layer, torch.zeros_like(image)[None])[0, label]
    found = nothing.expand(len(channels)).clone()
    if seen:
        found[live] = torch.cat(seen)
    return found.softmax(0)


def through(network: Network, layer: int, image: Tensor, channels: Tensor) -> Iterator[Tensor]:
    """[n, 3, H, W] an image [3, H, W] seen through each of a layer's channels [C, h, w], from 0 to 1."""
    for part in channels.split(BATCH):
        masks = network.evidence(part, layer, image.shape[1:]).at(*image.shape[1:]).raw
        assert masks is not None
        low, high = masks.amin((1, 2), keepdim=True), masks.amax((1, 2), keepdim=True)
        own = image * ((masks - low) / (high - low + 1e-8))[:, None]
        yield own.contiguous(memory_format=torch.channels_last)
