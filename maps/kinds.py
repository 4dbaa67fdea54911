"""Maps of evidence at every cut of a backbone, all of them from one pass: saliency, Grad-CAM, CAM.

Each cut is explained by the classifier that stands on it. What is explained is the logit of a class of each image.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.transforms.v2.functional import gaussian_blur

from maps.frame import Frame, frame_of
from models.backbone import Backbone

NO_INFLUENCE, NOT_FOUND = 1, 2  # why a map is absent


@dataclass(frozen=True)
class Evidence:
    """Maps of one kind at one cut.

    Attributes:
        maps: [B, h, w], none below zero.
        raw: [B, h, w] before rectification, which decides among zeros; None where nothing was rectified.
        frame: where the cells lie in the image; None: they share it out evenly.
        absent: [B] 0 where there is a map; NO_INFLUENCE where the features cannot change what is explained, NOT_FOUND
            where there is nothing to explain. Such a map is not measured. None: all are there.
    """

    maps: Tensor
    raw: Tensor | None = None
    frame: Frame | None = None
    absent: np.ndarray | None = None

    def at(self, height: int, width: int) -> "Evidence":
        """The same at the size of the image."""
        if self.frame is None and self.maps.shape[1:] == (height, width):
            return self
        resize = resized if self.frame is None else self.frame.placed
        raw = None if self.raw is None else resize(self.raw, height, width)
        return Evidence(resize(self.maps, height, width), raw, absent=self.absent)


def resized(maps: Tensor, height: int, width: int) -> Tensor:
    """[B, h, w] → [B, height, width]: bilinear, pixels as areas."""
    return interpolate(maps[:, None], (height, width), mode="bilinear", align_corners=False)[:, 0]


class Explained(nn.Module):
    """A fixed backbone with a classifier on each of its cuts: images [B, 3, H, W] → logits [B, classes] of each.

    Args:
        cuts: 1-based blocks after which the classifiers stand, ascending.
        heads: the classifiers.
        aligned: maps know where their cells lie in the image; else they are stretched over it, as other libraries do.
    """

    def __init__(
        self, backbone: Backbone, cuts: Sequence[int], heads: Sequence[nn.Module], *, aligned: bool = True
    ) -> None:
        super().__init__()
        self.cuts, self.aligned = tuple(cuts), aligned
        parts, pools = [], []
        for start, stop in itertools.pairwise((0, *self.cuts)):
            *before, last = backbone.blocks[start:stop]
            body, pool = unpooled(last)
            parts.append(nn.Sequential(*before, body))
            pools.append(pool)
        self.parts, self.pools, self.heads = nn.ModuleList(parts), nn.ModuleList(pools), nn.ModuleList(heads)
        self.requires_grad_(False)
        self.eval()

    def frame(self, stage: int, *, pooled: bool = False) -> Frame:
        """Where the cells of activations at a cut lie, or those of the pool behind them."""
        before = [*itertools.chain(*zip(self.parts[:stage], self.pools[:stage], strict=True)), self.parts[stage]]
        return frame_of([*before, self.pools[stage]] if pooled else before)

    def evidence(self, raw: Tensor, stage: int, *, pooled: bool = False) -> Evidence:
        """What is positive of a map [B, h, w] made of activations at a cut."""
        return Evidence(raw.relu(), raw, self.frame(stage, pooled=pooled) if self.aligned else None)

    def sees_like(self, other: "Explained") -> bool:
        """Whether both have the same features at the same cuts, whatever their classifiers."""
        mine, its = self.parts.state_dict(), other.parts.state_dict()
        same = self.cuts == other.cuts and mine.keys() == its.keys()
        return same and all(torch.equal(mine[name], its[name]) for name in mine)

    def both(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """At each cut what the last non-linearity puts out, and what the pool behind it makes of that, [B, C, h, w].

        Where there is no pool they are the same.
        """
        found, x = [], images
        for part, pool in zip(self.parts, self.pools, strict=True):
            own = part(x)
            x = pool(own)
            found.append((own, x))
        return found

    def activations(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each cut: what the last non-linearity puts out."""
        return [own for own, _ in self.both(images)]

    def features(self, images: Tensor) -> list[Tensor]:
        """[B, C, h, w] at each cut: what the classifiers are given."""
        return [pooled for _, pooled in self.both(images)]

    def logits(self, features: Sequence[Tensor]) -> list[Tensor]:
        """[B, classes] at each cut, of the features there."""
        return [head(own) for head, own in zip(self.heads, features, strict=True)]

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.logits(self.features(images))


def unpooled(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A block without the max-pool at its end, and that pool; nothing changes where there is none."""
    if isinstance(block, nn.Sequential) and isinstance(block[-1], nn.MaxPool2d):
        return block[:-1], block[-1]
    return block, nn.Identity()


def chosen(logits: Tensor, labels: Tensor) -> Tensor:
    """The sum over images of each one's logit [B, classes] of its label [B]: what is explained."""
    return logits.gather(1, labels[:, None]).sum()


def grad_cams(network: Explained, images: Tensor, labels: Tensor) -> list[Evidence]:
    """Grad-CAM at every cut (Selvaraju et al., arXiv 1610.02391; Wang & Farrahi, arXiv 2311.12704, eq. 2–3).

    One forward pass for all cuts; the activations are cut off from each other, so that one small backward pass through
    the classifiers gives what a pass for each of them would give, to the last bit.

    Args:
        images: [B, 3, H, W].
        labels: [B] the class of each that is explained.

    Returns:
        [B, h, w] at each cut, at the size of its activations.
    """
    leaves, scores, x = [], [], images
    for part, pool, head in zip(network.parts, network.pools, network.heads, strict=True):
        with torch.no_grad():
            leaves.append(part(x).requires_grad_())
        with torch.enable_grad():
            pooled = pool(leaves[-1])
            scores.append(chosen(head(pooled), labels))
        x = pooled.detach()
    gradients = torch.autograd.grad(torch.stack(scores).sum(), leaves)
    rows = zip(leaves, gradients, strict=True)
    return [grad_cam(network, stage, own, gradient) for stage, (own, gradient) in enumerate(rows)]


def grad_cam(network: Explained, stage: int, activations: Tensor, gradient: Tensor) -> Evidence:
    """Grad-CAM at one cut, of its activations and the logit's gradient with respect to them, both [B, C, h, w]."""
    return network.evidence((gradient.mean((2, 3), keepdim=True) * activations.detach()).sum(1), stage)


def saliencies(
    network: Explained, images: Tensor, labels: Tensor, *, mean: bool = False, smooth: bool = False
) -> list[Evidence]:
    """Absolute gradients of the logit with respect to the image (Simonyan et al., arXiv 1312.6034), at every cut.

    Args:
        mean: over the channels, else their maximum.
        smooth: by a Gaussian of a sixty-fourth of the height, for pictures: the paper does so, how wide it leaves open.

    Returns:
        [B, H, W] at each cut.
    """
    found = [saliency(by_image, mean=mean) for *_, by_image in gradients(network, images, labels)]
    return [Evidence(smoothed(own.maps)) for own in found] if smooth else found


def saliency(gradient: Tensor, *, mean: bool = False) -> Evidence:
    """The magnitude over the channels, largest or mean, of a gradient [B, 3, H, W]."""
    own = gradient.abs()
    return Evidence(own.mean(1) if mean else own.amax(1))


def gradients(network: Explained, images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """At each cut, all from one forward pass: activations, the logit's gradients with respect to them and to the image.

    A backward pass from each classifier to the image goes through the activations anyway.
    """
    pixels = images.detach().requires_grad_()
    with torch.enable_grad():
        parts = network.both(pixels)
        scores = [chosen(own, labels) for own in network.logits([pooled for _, pooled in parts])]
    for number, ((own, _), score) in enumerate(zip(parts, scores, strict=True), start=1):
        by_own, by_image = torch.autograd.grad(score, (own, pixels), retain_graph=number < len(scores))
        yield own, by_own, by_image


def smoothed(maps: Tensor) -> Tensor:
    """[B, H, W] blurred by a Gaussian of a sixty-fourth of the height, cut off at four sigma."""
    sigma = maps.shape[1] / 64
    return gaussian_blur(maps[:, None], [2 * round(4 * sigma) + 1] * 2, [sigma] * 2)[:, 0]


def cams(network: Explained, images: Tensor, labels: Tensor) -> list[Evidence]:
    """Class activation maps (Zhou et al., arXiv 1512.04150), where heads end in a global pool and a linear layer.

    Raises:
        ValueError: a head does not.
    """
    found = []
    with torch.no_grad():
        for stage, own in enumerate(network.features(images)):
            head = network.heads[stage]
            if not is_mapped(head):
                raise ValueError("CAM wants classifiers of a global pool and a linear layer (gap, gmp …)")
            *before, _, _, linear = head.children()
            features = nn.Sequential(*before)(own)
            weights: Tensor = linear.weight[labels]  # type: ignore[index, assignment]
            raw = torch.einsum("bc,bchw->bhw", weights, features)
            found.append(network.evidence(raw, stage, pooled=True))
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


Maker = Callable[[Explained, Tensor, Tensor], list[Evidence]]
MAKERS: dict[str, Maker] = {"gradcam": grad_cams, "saliency": saliencies, "cam": cams}


def explanations(network: Explained, images: Tensor, labels: Tensor, kinds: Sequence[str]) -> dict[str, list[Evidence]]:
    """Maps of several kinds of MAKERS at every cut; Grad-CAM comes with saliency, at no further cost."""
    found: dict[str, list[Evidence]] = {}
    if {"gradcam", "saliency"} <= set(kinds):
        parts = list(gradients(network, images, labels))
        found["gradcam"] = [grad_cam(network, stage, own, by) for stage, (own, by, _) in enumerate(parts)]
        found["saliency"] = [saliency(by_image) for *_, by_image in parts]
    return found | {kind: MAKERS[kind](network, images, labels) for kind in kinds if kind not in found}
