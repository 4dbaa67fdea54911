"""Kinds of maps beside the libraries that have them: their difference, and time over theirs. Prints JSON lines.

`python -m benchmarks.map_kinds`. A library is asked once for every classifier of the six-layer network, as in
benchmarks/maps.py, or for the last one alone. captum, grad-cam: see requirements-oracles.txt. RISE is in neither: it is
compared with its sum, classifier by classifier.
"""

import argparse
import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.figures import in_turns, show
from benchmarks.maps import CLASSES, LAYERS, Head
from maps.evidence import resized
from maps.explained import Explained
from maps.frame import Frame
from maps.gradient_maps import STEPS, integrated_gradients, smooth_grads
from maps.kinds import MAPS, explanations
from maps.perturbed_maps import BATCH, GRID, SHOWN, occlusions, rises, soft_masks
from models.backbones import make_backbone
from models.heads import make_head
from models.plan import make_plan
from utils.errors import run_cli
from utils.parser import Parser

CLOSE, SCALED = 1e-6, 1e-5  # of raw maps, and of maps that were scaled to 0–1 twice in single precision
LARGE = 1e6  # on the logits for Grad-CAM++: beside such gradients the library's 10⁻⁶ is nothing
THIRD = 1 / 3


@dataclass(frozen=True)
class Peer:
    """A kind and who else makes it.

    Attributes:
        ours: network, images, labels → maps [B, h, w] of each classifier.
        theirs: one classifier, its layer, images, labels → the same.
        scaled: theirs are at the size of the images, in 0–1.
        library: that theirs is from.
    """

    name: str
    ours: Callable[[Explained, Tensor, Tensor], list[Tensor]]
    theirs: Callable[[nn.Module, nn.Module, Tensor, Tensor], Tensor]
    scaled: bool = False
    library: str = "captum"


def of_kind(kind: str, whole: Explained, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Maps of one kind."""
    return [own.maps for own in explanations(whole, images, labels, [kind])[kind]]


def grad_cam_library(method: str, head: nn.Module, layer: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """A class of pytorch-grad-cam."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(label) for label in labels.tolist()]
    with contextlib.redirect_stderr(io.StringIO()), getattr(pytorch_grad_cam, method)(head, [layer]) as cam:
        return torch.from_numpy(cam(images, targets))


def captum_hires(head: nn.Module, layer: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """HiResCAM by captum."""
    from captum.attr import LayerGradientXActivation

    found: Tensor = LayerGradientXActivation(head, layer).attribute(images, labels).sum(1).relu()
    return found.detach()


def captum_integrated(head: nn.Module, _: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Integrated gradients by captum."""
    from captum.attr import IntegratedGradients

    found: Tensor = IntegratedGradients(head).attribute(images, target=labels, n_steps=STEPS).sum(1).relu()
    return found


def captum_smooth(samples: int, head: nn.Module, _: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """SmoothGrad by captum, with the same noise for every image."""
    from captum.attr import NoiseTunnel, Saliency

    tunnel, found = NoiseTunnel(Saliency(head)), []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        torch.manual_seed(0)
        own = tunnel.attribute(image, nt_type="smoothgrad", nt_samples=samples, stdevs=0.15, target=label, abs=False)
        found.append(own.abs().amax(1))
    return torch.cat(found)


def captum_occlusion(window: int, head: nn.Module, _: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Occlusion by captum."""
    from captum.attr import Occlusion

    found: Tensor = Occlusion(head).attribute(
        images, (3, window, window), (3, window // 2, window // 2), baselines=0.5, target=labels,
        perturbations_per_eval=BATCH,
    )  # fmt: skip
    return found[:, 0].relu().float().detach()


def rise_sum(masks: int, head: nn.Module, _: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """RISE as its paper writes it."""
    drawn = soft_masks(images.shape[2], images.shape[3], masks, GRID, SHOWN)
    found = torch.zeros(len(images), *images.shape[2:])
    with torch.no_grad():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            for part in drawn.split(BATCH):
                chances = head(image * part).softmax(1)[:, label]
                found[number] += (chances[:, None, None] * part[:, 0]).sum(0)
    return found / (masks * SHOWN)


def peers(given: argparse.Namespace) -> list[Peer]:
    """All of them."""
    window = max(2, given.imgsz // 8)
    few = partial(smooth_grads, samples=given.samples)
    covered = partial(occlusions, window=window, stride=window // 2)
    shown = partial(rises, masks=given.masks)
    maps = {kind: partial(of_kind, kind) for kind in ("gradcampp", "hirescam", "layercam", "scorecam")}
    library = {
        kind: partial(grad_cam_library, method)
        for kind, method in (("gradcampp", "GradCAMPlusPlus"), ("layercam", "LayerCAM"), ("scorecam", "ScoreCAM"))
    }
    return [
        *(Peer(kind, maps[kind], library[kind], scaled=True, library="grad-cam") for kind in library),
        Peer("hirescam", maps["hirescam"], captum_hires),
        Peer("ig", made_by(integrated_gradients), captum_integrated),
        Peer("smoothgrad", made_by(few), partial(captum_smooth, given.samples)),
        Peer("occlusion", made_by(covered), partial(captum_occlusion, window)),
        Peer("rise", made_by(shown), partial(rise_sum, given.masks)),
    ]


def made_by(make: Callable[..., Any]) -> Callable[[Explained, Tensor, Tensor], list[Tensor]]:
    """The maps of a maker."""
    return lambda whole, images, labels: [own.maps for own in make(whole, images, labels)]


def scaled(maps: Tensor, size: int) -> Tensor:
    """As pytorch-grad-cam gives them: from 0 to 1, enlarged, from 0 to 1 again."""

    def minmax(own: Tensor) -> Tensor:
        own = own - own.amin((1, 2), keepdim=True)
        return own / (1e-7 + own.amax((1, 2), keepdim=True))

    return minmax(resized(minmax(maps), size, size))


class Cornered(Explained):
    """With the outer cells on the outer pixels, as grad-cam's Score-CAM places its masks."""

    cells: list[int]

    def frame(self, layer: int, size: Any, *, pooled: bool = False) -> Frame:
        side = self.cells[layer]
        return Frame((size[0] - 1) / (side - 1), 0.0) if side > 1 else Frame()


def difference(peer: Peer, whole: Explained, images: Tensor, labels: Tensor) -> float:
    """The largest one of all layers, relative to the largest value of a layer's maps."""
    heads = [Head(whole, stage) for stage in range(len(whole.cuts))]
    apart = 0.0
    for own, head, part in zip(peer.ours(whole, images, labels), heads, whole.parts, strict=True):
        other = peer.theirs(head, part, images, labels)
        mine = scaled(own, images.shape[2]) if peer.scaled else own
        apart = max(apart, float((mine - other).abs().max() / other.abs().max().clamp(min=1e-30)))
    return apart


def networks(width: float, imgsz: int, large: bool) -> tuple[Cornered, Cornered]:
    """The six-layer network with a classifier on each layer, and with the last one alone."""
    backbone = make_backbone("cnn6", width)
    heads = [make_head("gap", part.shape, CLASSES).eval() for part in make_plan(backbone, LAYERS, imgsz)]
    if large:
        backbone = backbone.double()
        for head in heads:
            head.double()[-1].weight.data.mul_(LARGE)  # type: ignore[index]
    six, one = Cornered(backbone, range(1, LAYERS + 1), heads), Cornered(backbone, (LAYERS,), heads[-1:])
    for own in (six, one):
        own.requires_grad_(True)  # grad-cam wants gradients of the network
        with torch.no_grad():
            images = torch.zeros(1, 3, imgsz, imgsz, dtype=torch.float64 if large else torch.float32)
            own.cells = [maps.shape[2] for maps in own.activations(images)]
    return six, one


def compared(peer: Peer, given: argparse.Namespace) -> None:
    """Difference, time for one layer, time for all."""
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(given.images, 3, given.imgsz, given.imgsz, generator=draw)
    labels = torch.randint(CLASSES, (given.images,), generator=draw)
    title, by = MAPS[peer.name].title, "its sum, classifier by classifier" if peer.name == "rise" else peer.library
    large = peer.name == "gradcampp"
    whole, one = networks(given.factor, given.imgsz, large)
    own = images.double() if large else images
    bound = SCALED if peer.scaled else CLOSE
    apart = difference(peer, whole, own, labels)
    show(f"{title}, largest relative difference", apart, bound, by, least=False, exactly=apart)
    if large:
        whole, one = networks(given.factor, given.imgsz, False)

    def theirs(network: Explained) -> list[Tensor]:
        parts = enumerate(network.parts)
        return [peer.theirs(Head(network, stage), part, images, labels) for stage, part in parts]

    sides = {
        "six": lambda: peer.ours(whole, images, labels),
        "their six": lambda: theirs(whole),
        "one": lambda: peer.ours(one, images, labels),
        "their one": lambda: theirs(one),
    }
    seconds = in_turns(sides, given.repeats)
    for ours, target in (("one", 1.0), ("six", THIRD)):
        ratio, times = seconds[ours] / seconds[f"their {ours}"], {"seconds": round(seconds[ours], 4)}
        figure = f"{title}, {ours} layer{'s' * (ours == 'six')}, time over the library's"
        show(figure, ratio, target, by, least=False, **times)


def main() -> None:
    """Measure what is asked for."""
    parser = Parser(description=__doc__.partition("\n")[0])
    names = [peer.name for peer in peers(argparse.Namespace(imgsz=64, samples=1, masks=1))]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--repeats", type=int, default=3, help="measured turns of each side [3]")
    parser.add_argument("--images", type=int, default=2, help="of a batch [2]")
    parser.add_argument("--imgsz", type=int, default=64, help="side of the images [64]")
    parser.add_argument("--factor", type=float, default=0.25, help="on the channels [0.25]")
    parser.add_argument("--samples", type=int, default=50, help="noisy images of SmoothGrad [50]")
    parser.add_argument("--masks", type=int, default=200, help="number of RISE masks [200]")
    given = parser.parse_args()
    for peer in peers(given):
        if peer.name in given.only:
            compared(peer, given)


if __name__ == "__main__":
    run_cli(main)
