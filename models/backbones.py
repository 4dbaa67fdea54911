"""Backbones by name.

To add one, write a file with a Backbone (models/backbone.py): a subclass such as CNN6, or a function that groups
the modules of a network such as resnet50. It takes the width and gives blocks, channels, stages and taps; then
name it below. Everything else – plan, stages, cache, checkpoints, and the detector if it has taps – follows.
"""

from collections.abc import Callable

from models.backbone import Backbone
from models.cnn6 import CNN6
from models.darknet import DarkNet, DarkNetConfig
from models.torchvision_backbones import alexnet, googlenet, inception_v3, resnet50, vgg16
from utils.errors import UserError

BACKBONES: dict[str, Callable[[float], Backbone]] = {
    "darknet53": lambda width: DarkNet(DarkNetConfig(width=width)),
    "cnn6": CNN6,
    "resnet50": resnet50,
    "vgg16": vgg16,
    "alexnet": alexnet,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
}


def make_backbone(name: str, width: float = 1.0) -> Backbone:
    """A freshly initialised backbone, one of BACKBONES, with channel counts times width.

    Raises:
        UserError: there is no such backbone, or it does not come in this width.
    """
    if name not in BACKBONES:
        raise UserError(f"no backbone {name!r}", where="--backbone", mend=f"give one of {', '.join(BACKBONES)}")
    return BACKBONES[name](width)
