"""Network in Network (Lin et al., arXiv 1312.4400)."""

from collections import OrderedDict

from torch import nn

from models.backbone import Backbone, scaled
from models.layers import Normalise, init_leaky

# Kernel of each block's convolution, and channels of it and of the two layers of its small network, as in the authors'
# code for CIFAR-10 (github.com/mavenlin/cuda-convnet, NIN/cifar-10_def). The last layer is a classifier there.
BLOCKS = ((5, (192, 160, 96)), (5, (192, 192, 192)), (3, (192, 192, 192)))


class NIN(Backbone):
    """Three blocks: a convolution and two 1×1 convolutions, each with ReLU; behind two of them a pool, then dropout.

    A block is the paper's mlpconv layer (figure 2). There are two pools, 3×3 at stride 2, and so no map at a stride of
    8: no taps.

    Args:
        width: factor on the channels.

    Raises:
        ValueError: width is outside (0, 4].
    """

    def __init__(self, width: float = 1.0) -> None:
        blocks: list[nn.Module] = []
        c_in = 3
        for kernel, channels in BLOCKS:
            start = {"drop": nn.Dropout(0.5)} if blocks else {"normalise": Normalise()}
            steps: OrderedDict[str, nn.Module] = OrderedDict(start)
            for number, c_out in enumerate((scaled(own, width) for own in channels), start=1):
                size = kernel if number == 1 else 1
                steps[f"conv{number}"] = nn.Conv2d(c_in, c_out, size, padding=size // 2)
                steps[f"act{number}"] = nn.ReLU(inplace=True)
                c_in = c_out
            if len(blocks) < len(BLOCKS) - 1:
                steps["pool"] = (nn.AvgPool2d if blocks else nn.MaxPool2d)(3, 2, 1)
            blocks.append(nn.Sequential(steps))
        super().__init__(blocks, [scaled(own[-1], width) for _, own in BLOCKS], stages=(1, 1, 1), taps=())
        self.apply(init_leaky)
