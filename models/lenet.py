"""LeNet-5 (LeCun et al., Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11), 1998, §II.B)."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn

from models.backbone import Backbone, scaled
from models.layers import Normalise

CHANNELS = (6, 16, 120)


class LeNet5(Backbone):
    """C1 with S2, C3 with S4, and C5: 5×5 convolutions without padding, tanh, mean pools by 2.

    As there but for four things: colour images, each of C3's maps sees all of S2, pools have nothing to learn, and the
    non-linearity comes before the pool. Made for 32 pixels, where C5 is a single cell. There are no taps.

    Args:
        width: factor on the channels.

    Raises:
        ValueError: width is outside (0, 4].
    """

    def __init__(self, width: float = 1.0) -> None:
        channels = [scaled(own, width) if width != 1 else own for own in CHANNELS]
        blocks = []
        for number, (c_in, c_out) in enumerate(pairwise([3, *channels]), start=1):
            steps: OrderedDict[str, nn.Module] = OrderedDict(normalise=Normalise()) if number == 1 else OrderedDict()
            steps |= {"conv": nn.Conv2d(c_in, c_out, 5), "act": nn.Tanh()}
            if number < len(CHANNELS):
                steps["pool"] = nn.AvgPool2d(2)
            blocks.append(nn.Sequential(steps))
        super().__init__(blocks, channels, stages=(1, 1, 1), taps=())
