"""GoogLeNet's auxiliary classifiers, which help its first blocks to learn (Szegedy et al., arXiv 1409.4842, §5)."""

from collections.abc import Mapping

from torch import nn
from torchvision.models.googlenet import InceptionAux

from models.heads import Shape

SPREAD = 0.01  # standard deviation of first weights, as in torchvision's GoogLeNet


def auxiliary_heads(shapes: Mapping[int, Shape], classes: int) -> nn.ModuleDict:
    """Freshly initialised classifiers on the features behind some blocks, by the number of the block, from 1.

    Each is torchvision's: a pool to 4 × 4, a 1×1 convolution to 128, a linear layer of 1,024, dropout of 0.7, a linear
    one.
    """
    heads = nn.ModuleDict({str(block): InceptionAux(shape[0], classes) for block, shape in shapes.items()})
    for module in heads.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=SPREAD, a=-2, b=2)
    return heads
