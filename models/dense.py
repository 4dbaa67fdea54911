"""Class maps of larger pictures: classifiers on a backbone in every window, the last reduction at every offset.

OverFeat (Sermanet et al., arXiv 1312.6229, §3.3, figure 3): the last pool runs once for each offset within its stride,
3 × 3 times there, so that windows are as close as the cells before it. A network that reduces by strided convolutions
has its last one run so. What comes before is computed once.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise, product

import torch
from torch import Tensor, nn

from models.backbone import Backbone
from models.cascade import Fixed
from models.convolutional import convolutionize
from models.heads import Shape
from utils.errors import UserError


class ClassMaps(Fixed):
    """Images [B, 3, H, W] of a size or larger → logits [B, classes, windows] of each classifier.

    Windows come offset by offset, each row by row; all are within the picture. Without padding in the network the
    scores of a window are those of the picture cut out there; with padding it sees its surroundings in the place of
    zeros. Blocks that look at the whole picture, by squeeze-and-excitation or attention, look at all of the larger one.

    Args:
        cuts: 1-based blocks after which the classifiers are.
        shapes: of the features of one window, behind each of these blocks.
        imgsz: side of a window, pixels.

    Raises:
        UserError: a classifier cannot be made convolutional, or the network takes no larger pictures.
    """

    def __init__(
        self, backbone: Backbone, cuts: Sequence[int], heads: Sequence[nn.Module], shapes: Sequence[Shape], imgsz: int
    ) -> None:
        super().__init__()
        blocks = [list(steps_of(block)) for block in backbone.blocks[: max(cuts)]]
        self.steps = nn.ModuleList(step for block in blocks for step in block).requires_grad_(False)
        self.ends = [sum(map(len, blocks[:cut])) for cut in cuts]
        self.cells, self.side = [(height, width) for _, height, width in shapes], imgsz
        made = (convolutionize(head, shape[1:], shape[0]) for head, shape in zip(heads, shapes, strict=True))
        self.heads = nn.ModuleList(made)
        self.eval()
        self.strides = self.measured(imgsz, backbone.in_channels)
        self.last = [
            max((at for at in range(end) if self.strides[at] > 1), default=0) for end in self.ends
        ]  # where each classifier's offsets begin

    @torch.no_grad()
    def measured(self, imgsz: int, channels: int) -> list[int]:
        """How many cells of what each step is given make one of what it puts out."""
        device = next(self.parameters()).device
        try:
            sides = [self.sides(torch.zeros(1, channels, side, side, device=device)) for side in (imgsz, 3 * imgsz)]
            grown = [large - small for small, large in zip(*sides, strict=True)]
            return [round(before / after) for before, after in pairwise(grown)]
        except Exception as error:  # networks of one size fail in their own ways
            what = f"the backbone takes no pictures of {3 * imgsz} px"
            raise UserError(what, where="--dense", hint="take --crops 10") from error

    def sides(self, x: Tensor) -> list[int]:
        """Height of the images and of what each step puts out."""
        found = [x.shape[2]]
        for step in self.steps:
            x = step(x)
            found.append(x.shape[2])
        return found

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        starts, x = {}, images
        room = [side - self.side for side in images.shape[2:]]
        for at, step in enumerate(self.steps[: max(self.last) + 1]):
            if at in self.last:
                starts[at] = x.clone()  # a step may change it in place
            x = step(x)
        every = zip(self.last, self.ends, self.heads, self.cells, strict=True)
        return [
            torch.cat([head(own).flatten(2) for own in self.shifted(starts[at], at, end, cells, room)], 2)
            for at, end, head, cells in every
        ]

    def shifted(self, x: Tensor, at: int, end: int, cells: tuple[int, int], room: list[int]) -> Iterator[Tensor]:
        """Features in front of a classifier, once for each offset that leaves room for a window, without their rest.

        Args:
            room: pixels by which the picture is higher and wider than a window.
        """
        stride, step = self.strides[at], math.prod(self.strides[:at])
        for offsets in product(range(stride), repeat=2):
            places = [(own // step - offset) // stride + 1 for own, offset in zip(room, offsets, strict=True)]
            if min(places) < 1:
                continue
            found = x[..., offsets[0] :, offsets[1] :].clone()
            for module in self.steps[at:end]:
                found = module(found)
            rows, columns = (own + place - 1 for own, place in zip(cells, places, strict=True))
            yield found[..., :rows, :columns]


def steps_of(module: nn.Module) -> Iterator[nn.Module]:
    """The modules that a chain runs one after another; itself where it is none."""
    if type(module).forward is not nn.Sequential.forward:
        yield module
        return
    for child in module.children():
        yield from steps_of(child)
