"""Backbones by name.

To add one, write a file that gives a Backbone (models/backbone.py), blocks, channels, stages and taps, for a width, and
add it to BACKBONES. Plan, stages, cache, checkpoints, help, and the detector if it has taps, follow. Networks of timm
and torchvision are taken apart by themselves (models/families.py): `timm/resnet18`, `torchvision/vgg19`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from models import families
from models import torchvision_backbones as peers
from models.backbone import Backbone
from models.channels import RGB, with_channels
from models.cnn6 import CNN6
from models.darknet import DarkNet, DarkNetConfig
from models.lenet import LeNet5
from models.monster import Monster
from models.nin import NIN, nin_imagenet
from utils.errors import UserError
from utils.tables import Entry, Family, Table


@dataclass(frozen=True)
class BackboneEntry(Entry):
    """A network that can be split.

    Attributes:
        make: width → freshly initialised network.
        scales: whether it comes in other widths than 1.
        lender: the network, of width 1, whose first blocks it begins with, where it is given a file of that one.
        lent: how many blocks these are.
        auxiliary: blocks, from 1, behind which there may be auxiliary classifiers in training.
    """

    make: Callable[[float], Backbone]
    scales: bool = False
    lender: str | None = None
    lent: int = 1
    auxiliary: tuple[int, ...] = ()


def of_timm(model: str) -> BackboneEntry:
    """The entry of a network of timm."""
    return BackboneEntry(f"timm/{model}", f"{model} of timm", lambda _: families.timm_backbone(model))


def of_torchvision(model: str) -> BackboneEntry:
    """The entry of a network of torchvision."""
    return BackboneEntry(
        f"torchvision/{model}",
        f"{model} of torchvision",
        lambda width: families.torchvision_backbone(model, width),
        scales=families.scales(model),
        auxiliary=(3, 6) if model == "googlenet" else (),  # behind 4a and 4d
    )


BACKBONES = Table(
    "backbone",
    "--backbone",
    (
        BackboneEntry("darknet53", "DarkNet-53", lambda width: DarkNet(DarkNetConfig(width=width)), scales=True),
        BackboneEntry("cnn6", "six-layer network", CNN6, scales=True),
        BackboneEntry("resnet50", "ResNet-50", lambda _: peers.resnet50()),
        BackboneEntry("vgg16", "VGG-16", lambda _: peers.vgg16()),
        BackboneEntry("vgg16_gap", "VGG-16 without its last pool", lambda _: peers.vgg16(last_pool=False)),
        BackboneEntry("alexnet", "AlexNet", lambda _: peers.alexnet()),
        BackboneEntry(
            "alexnet_star",
            "AlexNet and two more convolutions",
            lambda _: peers.alexnet_star(),
            lender="alexnet",
            lent=5,
        ),
        BackboneEntry("alexnet_bn", "AlexNet with BatchNorm", lambda _: peers.alexnet_bn()),
        BackboneEntry("googlenet", "GoogLeNet", lambda _: peers.googlenet(), auxiliary=(5, 8)),
        BackboneEntry("inception_v3", "Inception V3", lambda _: peers.inception_v3()),
        BackboneEntry("lenet5", "LeNet-5", LeNet5, scales=True),
        BackboneEntry(
            "monster", "sixteen residual blocks on AlexNet's first layer", Monster, scales=True, lender="alexnet"
        ),
        BackboneEntry("nin", "Network in Network, for CIFAR", NIN, scales=True),
        BackboneEntry("nin_imagenet", "Network in Network, for ImageNet", nin_imagenet, scales=True),
    ),
    (
        Family("timm", "`timm.list_models()` names them", families.timm_names, of_timm),
        Family(
            "torchvision",
            "`torchvision.models.list_models()` names them",
            families.torchvision_names,
            of_torchvision,
        ),
    ),
)


def make_backbone(name: str, width: float = 1.0, channels: int = RGB) -> Backbone:
    """A freshly initialised backbone, one of BACKBONES, with channel counts times width.

    Args:
        channels: of the images that it takes, 3 or 1.

    Raises:
        UserError: there is no such backbone, or it does not come in this width or for so many channels.
    """
    entry = BACKBONES.pick(name)
    if width != 1 and not entry.scales:
        scaling = ", ".join(own.name for own in BACKBONES.values() if own.scales)
        raise UserError(f"{name} at {width:g}", where="--width", hint=f"give 1, or take one that scales: {scaling}")
    return with_channels(entry.make(width), channels)


def backbone_of(content: Mapping[str, Any]) -> Backbone:
    """A fresh backbone of the kind that a checkpoint holds.

    Raises:
        UserError: as in make_backbone.
    """
    return make_backbone(content["backbone"], content["width"], content.get("in_channels", RGB))
