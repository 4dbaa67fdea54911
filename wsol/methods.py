"""Ways to find one box for a class in an image, by name.

To add one, write a function that takes a Subject and gives a Localiser (wsol/localiser.py), and add it to METHODS.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from evaluation.accuracy import BackboneFile
from maps.plan import Plan
from maps.prepare import TRAINING_IMAGES
from models.backbones import make_backbone
from models.heads import HEADS
from utils.tables import SHARE, Chosen, Entry, Option, Table
from wsol.linear_boxes import best_ridge, centre_box, descended, mean_box
from wsol.localiser import (
    Fit,
    Localiser,
    Maps,
    Subject,
    attention_maps,
    by_regression,
    by_threshold,
    cam_maps,
    class_maps,
    constant,
    difference_maps,
    gradcam_maps,
    grey,
    mining_maps,
    saliency_maps,
)
from wsol.mining.train import STEPS, Mining
from wsol.overfeat import overfeat
from wsol.windows import classified

FITS: dict[str, Fit] = {
    "ridge": best_ridge,
    "sgd": lambda maps, boxes, groups: descended(maps, boxes),  # nothing is held out, so groups do not matter
}

AT = {"cut": Option(0, low=0, high=1000)}  # counted from 1; 0: the last
CUT = {SHARE: Option(None, low=0.0, high=1.0)}  # of the maximum; nothing said: the best on other images
FIT = {
    "fit": Option("ridge", tuple(FITS), slow=("sgd",)),
    "images": Option(TRAINING_IMAGES, low=0, high=1_000_000_000),  # 0: all
}
ACTIVATIONS, POOLED = LAYERS = ("activations", "pooled")  # what maps of a layer are made of
CHANNELS = ("max", "mean")
DIFFERENCES = {"aggregate": Option("mean", CHANNELS), "cell": Option(8, low=1, high=1024), **FIT}
BY_CLASS, BY_FEATURES = ({"aggregate": Option(own, CHANNELS), **FIT} for own in ("mean", "max"))
BACKWARD = "one backward pass"
FIFTH = ("@0.2",)  # as Zhou et al. cut CAM off
MINED = {
    "steps": Option(STEPS, low=1, high=20),
    "keep": Option("features", ("features", "vanilla", "none")),
    "aggregate": Option("off", ("off", "bilinear", "deconv")),
    "erase": Option("on", ("on", "off")),
    "epochs": Option(2, low=1, high=1000),
    "lr": Option(1e-4, low=1e-9, high=10.0),
    "batch_size": Option(32, low=1, high=4096),
    "erased": Option(0.125, low=0.0, high=1.0),
    "weight": Option(0.5, low=0.0, high=1000.0),
    "layers": Option("all", ("all", "maps", "logits")),
    "new_epochs": Option(0, low=0, high=1000),  # of aggregation; 0: as many as epochs
    "whole_epochs": Option(0, low=0, high=1000),
    "whole_lr": Option(0.0, low=0.0, high=10.0),
    "patience": Option(0, low=0, high=1000),
    "images": FIT["images"],
    SHARE: CUT[SHARE],
}
# Cai et al., arXiv 1807.03215, at 512 pixels; `until the validation loss stays` is 3 epochs of at most 50. The paper
# does not say how long, or at what rate, networks learn between steps.
CAI = {
    "steps": 3,
    "keep": "features",
    "aggregate": "bilinear",
    "erase": "on",
    "erased": 0.125,
    "weight": 0.5,
    "layers": "all",
    "new_epochs": 10,
    "whole_epochs": 50,
    "patience": 3,
    "batch_size": 64,
    "images": 0,
}

OVERFEAT = {
    "boxes": Option("class", ("class", "shared")),
    **AT,
    "negatives": Option("hard", ("hard", "random", "none")),
    "images": FIT["images"],
}


def always(plan: Plan, options: Mapping[str, Any]) -> None:
    """Nothing is in the way."""


@dataclass(frozen=True)
class Method(Entry):
    """A way to find boxes.

    Attributes:
        make: a subject, and options as keywords → what finds boxes.
        network: whether it looks at the network; else it has one row, not one for each network.
        slow: it is not among all, only had by name, and of trained networks alone.
        named: it is not among all, only had by name.
        baseline: it is always there, asked for or not.
        also: options with which it is among all once more.
        boxed: it learns from the boxes of training images, unless a fraction of the maximum is given.
        blind: it asks for no class, so boxes of classes that the network does not know can be found too.
        traced: how the map is made in a picture of the way from an image to its box; empty: none is drawn.
        layer: of LAYERS, of a cut, what its maps are made of; empty: they have a value for each pixel.
        obstacle: why it cannot be had, with some options, of the networks and data of a plan; None if it can.
    """

    make: Callable[..., Localiser]
    network: bool = True
    slow: bool = False
    named: bool = False
    baseline: bool = False
    also: tuple[str, ...] = ()
    boxed: bool = True
    blind: bool = False
    traced: str = ""
    layer: str = ""
    obstacle: Callable[[Plan, Mapping[str, Any]], str | None] = always


def no_class_maps(plan: Plan, options: Mapping[str, Any]) -> str | None:
    """Why there is no CAM, or none at a cut."""
    if all(HEADS.pick(file.head).mapped for file in plan.files):
        return no_cut(plan, options)
    heads = [name for name, own in HEADS.items() if own.mapped]
    return f"wants a global pool and a linear layer: pre-train with --pretrain-head {' or '.join(heads)}"


def no_cut(plan: Plan, options: Mapping[str, Any]) -> str | None:
    """Why there is nothing at a cut, or not at the same one in all networks."""
    if options["cut"] and len({tuple(file.cuts) for file in plan.files}) > 1:
        return "counts the cuts of a network, and these networks have others"
    fewest = min(len(file.cuts) for file in plan.files)
    return None if options["cut"] <= fewest else f"wants cut {options['cut']}, and a network has {fewest}"


def no_mining(plan: Plan, options: Mapping[str, Any]) -> str | None:
    """Why nothing can be mined."""
    if any(file.head != "gap" for file in plan.files):
        return "wants a global average pool and a linear layer: pre-train with --pretrain-head gap"
    if options["aggregate"] != "off" and (lacking := [file.backbone for file in plan.files if not has_taps(file)]):
        return f"aggregates two resolutions, which {lacking[0]} does not have: give darknet53, resnet50 or vgg16"
    return None if plan.explain is None else "learns the classes of the images, where --explain asks for another"


def has_taps(file: BackboneFile) -> bool:
    """Whether the backbone has features at several resolutions for a detector."""
    with torch.random.fork_rng(devices=[]):  # its weights do not matter, and the next draw must be what it was
        return bool(make_backbone(file.backbone, file.width, file.in_channels).taps)


def regressed(maps_of: Callable[[Subject], Maps], subject: Subject, fit: str = "ridge", **images: int) -> Localiser:
    """A linear function of maps, fitted in one of FITS's ways."""
    return by_regression(maps_of, FITS[fit], subject, **images)


def sensed(
    maps_of: Callable[[Any], Callable[[Subject], Maps]], subject: Subject, aggregate: str, **fit: Any
) -> Localiser:
    """A linear function of the gradient by the pixels, whose channels are made one."""
    return regressed(maps_of(aggregate), subject, **fit)


def cut_off(maps_of: Callable[[Subject], Maps], subject: Subject, share: float | None = None) -> Localiser:
    """The box around what is high in maps."""
    return by_threshold(maps_of, share, subject)


def cut_off_at(
    maps_of: Callable[[int], Callable[[Subject], Maps]], subject: Subject, cut: int, share: float | None
) -> Localiser:
    """The same in maps of a cut, counted from 1; of the last for 0."""
    return by_threshold(maps_of(cut), share, subject)


def mining(subject: Subject, aggregate: Any, erase: str, share: float | None, images: int, **options: Any) -> Localiser:
    """The box around what is high in mined maps."""
    maps_of = mining_maps(Mining(erase=erase == "on", **options), None if aggregate == "off" else aggregate, images)
    return by_threshold(maps_of, share, subject)


def differences(subject: Subject, aggregate: str, cell: int, **fit: Any) -> Localiser:
    """A linear function of what small changes of the image change in the class's logit, without a gradient."""
    return regressed(difference_maps(cell, aggregate), subject, **fit)


METHODS = Table(
    "method",
    "--method",
    (
        Method("centre-box", "the best box in the middle", partial(constant, centre_box), network=False, baseline=True),
        Method("mean-box", "the mean of the training boxes", partial(constant, mean_box), network=False, baseline=True),
        Method("pixels", "linear in the image's pixels", partial(regressed, grey), network=False, baseline=True),
        Method(
            "sensitivity",
            "linear in the class's gradient",
            partial(sensed, class_maps),
            traced=BACKWARD,
            options=BY_CLASS,
        ),
        Method(
            "attention",
            "linear in the features' gradient",
            partial(sensed, attention_maps),
            blind=True,
            traced=BACKWARD,
            options=BY_FEATURES,
        ),
        Method(
            "differences",
            "linear in finite differences, of any function",
            differences,
            named=True,
            traced="finite differences",
            options=DIFFERENCES,
        ),
        Method(
            "gradcam", "Grad-CAM, cut off", partial(cut_off_at, gradcam_maps), also=FIFTH, layer=ACTIVATIONS,
            obstacle=no_cut, options={**AT, **CUT},
        ),
        Method(
            "cam", "CAM, cut off", partial(cut_off_at, cam_maps), also=FIFTH, layer=POOLED, obstacle=no_class_maps,
            options={**AT, **CUT},
        ),
        Method("saliency", "smoothed saliency, cut off", partial(cut_off, saliency_maps), options=CUT),
        Method(
            "windows", "sliding windows, merged", classified, named=True, boxed=False, obstacle=no_cut, options=AT
        ),
        Method("overfeat", "regressed in windows, merged", overfeat, named=True, obstacle=no_cut, options=OVERFEAT),
        Method(
            "mining", "attention mining", mining, slow=True, layer=POOLED, obstacle=no_mining, options=MINED,
            sets={"cai": CAI},
        ),
    ),
)  # fmt: skip
BASELINES = tuple(name for name, own in METHODS.items() if own.baseline)


def wants_boxes(chosen: Chosen[Method]) -> bool:
    """Whether a method with its options learns from the boxes of training images."""
    return chosen.entry.boxed and chosen.options.get(SHARE) is None


def layer_of(chosen: Chosen[Method]) -> str:
    """What of a cut a method with its options makes its maps of; empty if not of one alone."""
    return "" if chosen.options.get("aggregate", "off") != "off" else chosen.entry.layer


def all_blind(names: Sequence[str]) -> bool:
    """Whether none of some methods, with their options, asks for a class."""
    chosen = [METHODS.choose(name).entry for name in names if name != "all"]
    return len(chosen) == len(names) > 0 and all(own.blind or not own.network for own in chosen)


def localiser(chosen: Chosen[Method], subject: Subject) -> Localiser:
    """A method with its options, fitted to a subject."""
    return chosen.entry.make(subject, **chosen.options)
